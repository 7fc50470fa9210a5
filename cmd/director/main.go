// Command director runs Guildhall's director. Its configuration is in the environment; --help lists it.
package main

import (
	"github.com/guildhall-dev/guildhall/director"
	"github.com/guildhall-dev/guildhall/internal/process"
)

func main() {
	process.Main("director", director.New)
}
