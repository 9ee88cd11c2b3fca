package cluster

import (
	"testing"
	"time"
)

// A leader whose raft takes no command any more is of no use to anybody, and nobody else notices.
func TestIdleRaftIsNoticed(t *testing.T) {
	now := time.Now()
	one, two := &term{}, &term{}
	for _, tc := range []struct {
		name          string
		term          *term
		last, applied uint64
		idle          bool
	}{
		{"nothing moves", one, 7, 7, true},
		{"the log grows", one, 8, 8, false},
		{"an entry waits for the followers", one, 7, 6, false},
		{"another term", two, 7, 7, false},
	} {
		i := idleness{}
		i.note(one, 7, 7, now)
		i.note(tc.term, tc.last, tc.applied, now.Add(uselessAfter))
		if got := i.took(now.Add(uselessAfter+time.Second)) > uselessAfter; got != tc.idle {
			t.Errorf("%s: idle %t", tc.name, got)
		}
	}
	if (&idleness{}).took(now) != 0 {
		t.Error("idle before the first look")
	}
}
