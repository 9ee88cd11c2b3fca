package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// FuzzParse: any text is answered with a file or with sorted faults of one line each, and never with a panic; a file
// that was accepted meets what the rest of the daemon builds on.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/good/*.yaml", "testdata/bad/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	f.Add(Example())
	f.Add([]byte("a: &a [*a, *a]\n"))
	f.Add([]byte("%YAML 1.1\n---\n- !!binary x\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := Parse("f", text, "")
		if err == nil {
			checkInvariants(t, file)
			roundTrip(t, file.Policy)
			return
		}
		var faults Errors
		if !errors.As(err, &faults) || len(faults) == 0 || file != nil {
			t.Fatalf("got %v, %v", file, err)
		}
		if !slices.IsSortedFunc(faults, func(a, b Fault) int { return a.Line - b.Line }) {
			t.Error("faults are not sorted")
		}
		lines := strings.Count(string(text), "\n") + strings.Count(string(text), "\r") + strings.Count(string(text), "\u2028") +
			strings.Count(string(text), "\u2029") + strings.Count(string(text), "\u0085") + 2
		for _, fault := range faults {
			if fault.Line < 1 || fault.Line > lines || strings.ContainsAny(fault.Error(), "\n\r") {
				t.Errorf("fault %q of a text of %d lines", fault.Error(), lines)
			}
		}
	})
}

func checkInvariants(t *testing.T, f *File) {
	if _, ok := f.Cluster.Watchers[f.Watcher.Name]; !ok {
		t.Errorf("watcher %q is not in the cluster", f.Watcher.Name)
	}
	for _, g := range f.Policy.Groups {
		p := g.Probing
		if len(g.Apps) < 2 || g.Record == "" || p.Interval <= 0 || p.RetryInterval <= 0 || p.RetryInterval > p.Interval || p.Timeout <= 0 {
			t.Errorf("group %+v", g)
		}
		for _, a := range g.Apps {
			if a.Name == "" || len(a.Address) == 0 || len(a.Probes) == 0 {
				t.Errorf("app %+v", a)
			}
		}
	}
}
