//go:build !amd64

package guard

// usual is how this architecture starts programs.
var usual launcher = forked
