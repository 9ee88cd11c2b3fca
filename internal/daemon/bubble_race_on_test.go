//go:build race

package daemon

// raceFactor is how much slower the race detector makes a bubble.
const raceFactor = 6
