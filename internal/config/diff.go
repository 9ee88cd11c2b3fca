package config

import (
	"github.com/rogpeppe/go-internal/diff"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// Diff shows what changes from one policy to another, as a unified diff of their Format. Empty: nothing.
func Diff(before, after failover.Policy) (string, error) {
	a, err := Format(before)
	if err != nil {
		return "", err
	}
	b, err := Format(after)
	if err != nil {
		return "", err
	}
	return string(trimCommand(diff.Diff("in force", a, "proposed", b))), nil
}

// trimCommand leaves out the first line, which names a program that nobody has run.
func trimCommand(text []byte) []byte {
	for i, c := range text {
		if c == '\n' {
			return text[i+1:]
		}
	}
	return nil
}
