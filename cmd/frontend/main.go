// Command frontend runs Guildhall's frontend. Its configuration is in the environment; --help lists it.
package main

import (
	"github.com/guildhall-dev/guildhall/frontend"
	"github.com/guildhall-dev/guildhall/internal/process"
)

func main() {
	process.Main("frontend", frontend.New)
}
