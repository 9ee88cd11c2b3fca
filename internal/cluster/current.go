package cluster

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// Being current. Raft keeps no commit index on disk: after a restart the state begins with a snapshot that may be
// thousands of entries old, runs through history as soon as a leader tells what is committed, and stays in the past if
// no leader does. Whoever shows the state to the outside as what is so now, as the name server does, has to know
// whether it is.

// currency is what this watcher knows of that since Open.
type currency struct {
	reached chan struct{} // closed by reach
	done    atomic.Bool   // reach was called
	// heard is what the first leader that was heard had committed, and its term; applied is the last entry that went into
	// the state. Nil: none yet.
	heard, applied atomic.Pointer[appliedMark]
	apart          atomic.Pointer[apart] // nil: in contact all the time since it was current
}

// apart is a time without contact, after which the state is as doubtful as after a restart: the leader is heard again before
// what was missed has been applied.
type apart struct {
	since time.Time
	heard atomic.Pointer[appliedMark] // the leader's first word since contact came back
}

func (c *currency) reach() {
	if c.done.CompareAndSwap(false, true) {
		close(c.reached)
	}
}

// Current returns a channel that is closed once the state holds everything that was committed when this watcher, after
// Open, first heard a leader or became one. From then on the state is at most as old as Isolation says. Entries that this
// watcher had applied before it was restarted are among them: it follows no leader of an older term than it did then.
func (n *Node) Current() <-chan struct{} { return n.current.reached }

// noteHeard takes a leader's word of what it has committed in its term. Only the first counts, and the first after each time
// apart.
func (n *Node) noteHeard(term, commit uint64) {
	said := &appliedMark{commit, term}
	if !n.current.done.Load() {
		n.current.heard.CompareAndSwap(nil, said)
	}
	if a := n.current.apart.Load(); a != nil {
		a.heard.CompareAndSwap(nil, said)
	}
	n.checkCurrent()
}

// noteApplied notes how far the state is. Only raft's goroutine for the state machine calls it, after publishing.
func (n *Node) noteApplied(index, term uint64) {
	n.current.applied.Store(&appliedMark{index, term})
	n.checkCurrent()
}

// beginApart notes that there has been no contact since then.
func (n *Node) beginApart(since time.Time) { n.current.apart.CompareAndSwap(nil, &apart{since: since}) }

// isCurrent reports whether the state holds what was committed when a leader was last met after a start or a time apart.
func (n *Node) isCurrent() bool { return n.current.done.Load() && n.current.apart.Load() == nil }

// noteLeading says that this watcher's own log is the cluster's, read to its end.
func (n *Node) noteLeading() {
	n.current.apart.Store(nil)
	n.current.reach()
}

func (n *Node) checkCurrent() {
	if !n.current.done.Load() && n.reachedBy(n.current.heard.Load()) {
		n.current.reach()
	}
	if a := n.current.apart.Load(); a != nil && n.reachedBy(a.heard.Load()) {
		n.current.apart.CompareAndSwap(a, nil)
	}
}

// reachedBy reports whether the state has reached what a leader had told. What a new leader believes to be committed can
// be far too little, until an entry of its own term is: so one of that term must have been applied as well.
func (n *Node) reachedBy(heard *appliedMark) bool {
	applied := n.current.applied.Load()
	if heard == nil || applied == nil || applied.term < heard.term {
		return false
	}
	return applied.index >= heard.index || n.onlyRaftsOwn(applied.index+1, heard.index)
}

// onlyRaftsOwn reports whether raft has gone through these entries and none of them was a command, so that the state
// machine was shown none. What is no longer in the log is in a snapshot that the state has taken in.
func (n *Node) onlyRaftsOwn(from, to uint64) bool {
	r := n.raft.Load()
	if r == nil || r.AppliedIndex() < to {
		return false
	}
	for i := from; i <= to; i++ {
		var entry raft.Log
		err := n.store.GetLog(i, &entry)
		if err == nil && entry.Type != raft.LogCommand || errors.Is(err, raft.ErrLogNotFound) {
			continue
		}
		return false
	}
	return true
}
