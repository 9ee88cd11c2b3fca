package main

import (
	"os"
	"path/filepath"
	"testing"
)

// Each mutant still breaks something that is in the code, and every guarantee has two at least.
func TestListFits(t *testing.T) {
	if err := os.Chdir(filepath.Join("..", "..")); err != nil {
		t.Fatal(err)
	}
	of := map[int]int{}
	for _, m := range mutants {
		of[m.guarantee]++
		if _, err := m.overlay(t.TempDir()); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
	}
	for guarantee := 1; guarantee <= 8; guarantee++ {
		if of[guarantee] < 2 {
			t.Errorf("guarantee %d has %d mutants", guarantee, of[guarantee])
		}
	}
}
