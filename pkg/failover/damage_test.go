package failover

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"
)

// TestDamagedSnapshots breaks every single value of states in the middle of things, one at a time. A watcher refuses
// such a snapshot or goes on from it; it never stops.
func TestDamagedSnapshots(t *testing.T) {
	accepted, refused := 0, 0
	for _, w := range midway(t)[3:4] {
		text, err := w.s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		damage(t, text, func(what string, text []byte) {
			defer func() {
				if r := recover(); r != nil {
					t.Fatalf("%s: %v", what, r)
				}
			}()
			s, err := DecodeState(text)
			if err != nil {
				refused++
				return
			}
			accepted++
			goOn(t, s)
		})
	}
	if accepted == 0 || refused == 0 {
		t.Fatalf("%d damaged snapshots were accepted, %d refused", accepted, refused)
	}
}

// TestDamagedCommands breaks every single value of the commands that led there.
func TestDamagedCommands(t *testing.T) {
	for _, w := range midway(t)[1:4] {
		s := NewState()
		for _, e := range w.log {
			text, err := EncodeCommand(e.Command)
			if err != nil {
				t.Fatal(err)
			}
			damage(t, text, func(what string, text []byte) {
				defer func() {
					if r := recover(); r != nil {
						t.Fatalf("entry %d, %s: %v", e.Index, what, r)
					}
				}()
				if c, err := DecodeCommand(text); err == nil {
					n, _ := s.Apply(Entry{Index: e.Index, Term: c.Term, Command: c})
					n.Apply(Entry{Index: e.Index + 1, Term: c.Term, Command: Command{Term: c.Term, Time: time.Unix(1800000000, 0), Tick: &Tick{}}})
				}
			})
			s, _ = s.Apply(e)
		}
	}
}

// damage calls try with the JSON text, once for each value in it and each thing that the value may turn into.
func damage(t *testing.T, text []byte, try func(what string, text []byte)) {
	t.Helper()
	var tree any
	if err := json.Unmarshal(text, &tree); err != nil {
		t.Fatal(err)
	}
	var walk func(path string, node any, put func(any))
	walk = func(path string, node any, put func(any)) {
		for _, other := range []any{nil, "", 0, map[string]any{}, []any{}} {
			put(other)
			broken, err := json.Marshal(tree)
			if err != nil {
				t.Fatal(err)
			}
			try(fmt.Sprintf("%s = %v", path, other), broken)
		}
		put(node)
		switch node := node.(type) {
		case map[string]any:
			for key, child := range node {
				walk(path+"/"+key, child, func(x any) { node[key] = x })
			}
		case []any:
			if len(node) > 12 {
				return // of a long list one end is like the other
			}
			for i, child := range node {
				walk(fmt.Sprintf("%s/%d", path, i), child, func(x any) { node[i] = x })
			}
		}
	}
	walk("", tree, func(x any) { tree = x })
}
