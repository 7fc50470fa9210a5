// Command matchfunction runs Guildhall's matchfunction. Its configuration is in the environment; --help lists it.
package main

import (
	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/matchfunction"
)

func main() {
	process.Main("matchfunction", matchfunction.New)
}
