package config

import (
	_ "embed"
	"slices"
)

// The schema is for editors: it knows each key's place, type and default, and leaves to the reader what no schema can
// say. TestSchemaKnowsEveryKey holds its keys against those that the reader asks for.
//
//go:embed schema.json
var schema []byte

// Schema returns the JSON Schema (draft 7) of the file.
func Schema() []byte { return slices.Clone(schema) }
