package config

import (
	_ "embed"
	"slices"
)

//go:embed example.yaml
var example []byte

// Example returns the annotated example file, which Load accepts as it is.
func Example() []byte { return slices.Clone(example) }
