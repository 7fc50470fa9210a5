//go:build race

package roomserver

// raceDetector is on: pools forget what they keep, on purpose, so allocations cannot be counted through them.
const raceDetector = true
