//go:build !race

package simulation

const (
	usualSeeds = 1000
	usualCrowd = 300
	underRace  = false
)
