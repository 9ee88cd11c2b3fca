package cluster

import (
	"fmt"
	"time"
)

// uselessAfter is how long a leader's raft may leave commands alone before it is taken for useless.
const uselessAfter = 30 * time.Second

// idleness notices a leader whose raft has ceased to work without a word: commands wait, but none of them gets as far as its
// own log. Followers that do not take an entry look different: the entry is in the log. What is known to leave raft so is a
// leadership transfer that came to nothing (hashicorp/raft #696; see noteTransferring); this catches what is not known.
type idleness struct {
	term  *term
	last  uint64
	since time.Time
}

// look is called with every heartbeat. It ends the process once raft has been idle for too long.
func (i *idleness) look(n *Node, now time.Time) {
	t, r := n.term.Load(), n.raft.Load()
	if t == nil || r == nil || len(t.slots) == 0 {
		i.since = time.Time{}
		return
	}
	i.note(t, r.LastIndex(), r.AppliedIndex(), now)
	if took := i.took(now); took > uselessAfter && n.store.hanging() == 0 {
		n.fail(fmt.Errorf("cannot go on as leader: raft has taken no command for %s; start the process again", took.Round(time.Second)))
	}
}

func (i *idleness) note(t *term, last, applied uint64, now time.Time) {
	if i.since.IsZero() || t != i.term || last != i.last || applied < last {
		i.term, i.last, i.since = t, last, now
	}
}

// took is how long nothing has moved.
func (i *idleness) took(now time.Time) time.Duration {
	if i.since.IsZero() {
		return 0
	}
	return now.Sub(i.since)
}
