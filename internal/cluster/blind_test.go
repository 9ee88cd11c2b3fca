package cluster

import (
	"slices"
	"testing"
	"time"
)

// A watcher that was just started and has not read its log cannot say what it has to report. It is heard, but what the state
// still holds of its former life does not count.
func TestBlindWatcherIsHeardButDoesNotCount(t *testing.T) {
	r := newRig(t, 3, nil)
	leader := r.up()
	follower := r.follower()
	r.kill(follower)
	name := follower.Name()
	reign := leader.term.Load()
	leader.takeBeat(seconds(t, 5), name, beat{}) // the last of its former life
	if !leader.takeBeat(seconds(t, 5), name, beat{Blind: true}).Leads {
		t.Fatal("not heard")
	}
	if slices.Contains(reign.fresh(time.Now()), name) {
		t.Error("a blind watcher counts")
	}
	leader.takeBeat(seconds(t, 5), name, beat{})
	if !slices.Contains(reign.fresh(time.Now()), name) {
		t.Error("a seeing watcher does not count")
	}
}
