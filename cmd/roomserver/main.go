// Command roomserver runs Guildhall's roomserver. Its configuration is in the environment; --help lists it.
package main

import (
	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/roomserver"
)

func main() {
	process.Main("roomserver", roomserver.New)
}
