package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxFaults bounds the answer to a file that is wrong throughout (or is no configuration at all).
const maxFaults = 200

// Fault is one thing that is wrong in a file.
type Fault struct {
	File    string
	Line    int    // counted from 1
	Path    string // such as groups.shop.apps[0].probes[1].url; "" for the file as a whole
	Message string
}

func (f Fault) Error() string {
	if f.Path == "" {
		return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Message)
	}
	return fmt.Sprintf("%s:%d: %s: %s", f.File, f.Line, f.Path, f.Message)
}

// Errors is every fault of a file, sorted by line; at most 200 are kept.
type Errors []Fault

// Error gives one fault per line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, f := range e {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// sorted orders by line; faults of one line stay in the order in which they were found.
func (e Errors) sorted() Errors {
	slices.SortStableFunc(e, func(a, b Fault) int { return cmp.Compare(a.Line, b.Line) })
	return e
}
