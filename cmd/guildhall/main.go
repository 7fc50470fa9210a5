// Command guildhall runs all of Guildhall on one machine, and speaks to it as a player or as an operator.
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "guildhall: %v\n", err)
		os.Exit(1)
	}
}
