package cluster

import (
	"testing"
	"time"
)

func (n *run) isCurrent() bool {
	select {
	case <-n.Current():
		return true
	default:
		return false
	}
}

// A restarted watcher begins with its newest snapshot, which is history. Alone it cannot know how much of its log was
// committed, so it must not pass that off as the present; among others it may, once it has caught up with them.
func TestARestartedWatcherIsNotCurrentBeforeItHasCaughtUp(t *testing.T) {
	r := newRig(t, 3, nil)
	leader := r.up()
	for _, n := range r.living() {
		until(t, n.Name()+" is current after the first start", n.isCurrent)
	}
	follower := r.follower()
	if err := follower.raft.Load().Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	if _, err := leader.Propose(seconds(t, 10), pauseCommand("", "after the snapshot", 0)); err != nil {
		t.Fatal(err)
	}
	until(t, "the follower has it", func() bool { return pauseReason(follower) == "after the snapshot" })
	for _, n := range r.living() {
		r.kill(n)
	}

	r.start(follower.Name())
	alone := r.runs[follower.Name()]
	until(t, "the snapshot's state", func() bool { return alone.State().Cluster == "prod" && alone.raft.Load() != nil })
	if alone.isCurrent() || pauseReason(alone) != "" {
		t.Fatalf("alone: current %t, reason %q", alone.isCurrent(), pauseReason(alone))
	}

	for _, name := range r.names() {
		if name != alone.Name() {
			r.start(name)
		}
	}
	for _, n := range r.living() {
		until(t, n.Name()+" is current again", n.isCurrent)
		if got := pauseReason(n); got != "after the snapshot" {
			t.Errorf("%s is called current with the reason %q", n.Name(), got)
		}
	}
}

// A quiet cluster writes nothing that a restarted watcher could wait for.
func TestARestartedWatcherOfAQuietClusterBecomesCurrent(t *testing.T) {
	r := newRig(t, 3, nil)
	leader := r.up()
	// The last entry is none of the state machine's: members are changed this way, too.
	if err := leader.raft.Load().Barrier(0).Error(); err != nil {
		t.Fatal(err)
	}
	follower := r.follower()
	r.quit(follower)
	r.start(follower.Name())
	until(t, "current", r.runs[follower.Name()].isCurrent)
}

func TestWhatMakesAStateCurrent(t *testing.T) {
	for _, tc := range []struct {
		name           string
		heard, applied *appliedMark // index, term
		want           bool
	}{
		{"nothing heard", nil, &appliedMark{10, 3}, false},
		{"nothing applied", &appliedMark{0, 3}, nil, false},
		{"behind", &appliedMark{10, 3}, &appliedMark{9, 3}, false},
		{"reached", &appliedMark{10, 3}, &appliedMark{10, 3}, true},
		{"a new leader that has committed nothing yet", &appliedMark{10, 3}, &appliedMark{12, 2}, false},
		{"one that knows of nothing at all", &appliedMark{0, 3}, &appliedMark{12, 2}, false},
		{"a later term", &appliedMark{10, 3}, &appliedMark{12, 4}, true},
	} {
		for _, heardFirst := range []bool{true, false} {
			n := &run{Node: &Node{}}
			n.current.reached = make(chan struct{})
			hear := func() {
				if tc.heard != nil {
					n.noteHeard(tc.heard.term, tc.heard.index)
				}
			}
			if heardFirst {
				hear()
			}
			if tc.applied != nil {
				n.noteApplied(tc.applied.index, tc.applied.term)
			}
			if !heardFirst {
				hear()
			}
			if n.isCurrent() != tc.want {
				t.Errorf("%s, heard first %t: current %t", tc.name, heardFirst, !tc.want)
			}
		}
	}
}

// TestApartUntilWhatWasMissedIsApplied: a leader is heard again before its entries are. Until then the name server must not
// answer the old record as if nothing had happened.
func TestApartUntilWhatWasMissedIsApplied(t *testing.T) {
	n := &run{Node: &Node{}}
	n.current.reached = make(chan struct{})
	isApart := func() bool { return n.current.apart.Load() != nil }
	n.noteHeard(3, 10)
	n.noteApplied(10, 3)
	n.beginApart(time.Now().Add(-time.Minute))
	n.beginApart(time.Now())
	if !isApart() || time.Since(n.current.apart.Load().since) < time.Minute {
		t.Fatal("the first sign of being apart is the one that counts")
	}
	n.noteApplied(11, 3)
	if !isApart() {
		t.Fatal("an old entry says nothing of what the leader has")
	}
	n.noteHeard(4, 15)
	n.noteApplied(14, 3)
	if !isApart() {
		t.Fatal("contact alone does not make the state current")
	}
	n.noteHeard(4, 99)
	n.noteApplied(16, 4)
	if isApart() {
		t.Fatal("all that was missed is applied")
	}
	n.beginApart(time.Now())
	n.noteLeading()
	if isApart() {
		t.Fatal("a leader's own log is the cluster's")
	}
}
