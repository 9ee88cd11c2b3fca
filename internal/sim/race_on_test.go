//go:build race

package sim

// fewSeeds is how many seeds a plain go test plays: few, since the race detector makes them many times slower.
const fewSeeds = 30
