//go:build !race

package simulation

const (
	usualSeeds = 1000
	underRace  = false
)
