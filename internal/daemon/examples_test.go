package daemon

import (
	"path/filepath"
	"testing"
)

// Every example's file is one that `watchover run` takes. The files that it names are made by the example's script.
func TestExamplesAreValid(t *testing.T) {
	files, err := filepath.Glob("../../examples/*/watchover.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("found %q, %v", files, err)
	}
	for _, file := range files {
		if _, err := LoadConfig(file); err != nil {
			t.Error(err)
		}
	}
}
