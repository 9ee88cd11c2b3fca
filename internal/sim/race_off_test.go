//go:build !race

package sim

// fewSeeds is how many seeds a plain go test plays.
const fewSeeds = 300
