//go:build race

package simulation

// Under the race detector everything takes ten times as long: some seeds are enough to see races.
const (
	usualSeeds = 60
	usualCrowd = 40
	underRace  = true
)
