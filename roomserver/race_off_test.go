//go:build !race

package roomserver

const raceDetector = false
