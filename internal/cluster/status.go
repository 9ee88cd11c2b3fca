package cluster

import (
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// Status is how this watcher stands in the cluster.
type Status struct {
	Leader       string // empty: none is known
	Term         uint64
	CommitIndex  uint64
	AppliedIndex uint64
	LastContact  time.Duration // since a quorum was last known to be in contact
	HasQuorum    bool
	Leads        bool          // this watcher leads and its term is open
	Waiting      string        // why this watcher does not take part, or not yet; empty: it does
	Behind       time.Duration // how long it has heard of a commit that it has not applied; 0: it has all that it heard of
	MembersWait  string        // on the leader: what a change of the members waits for; empty: nothing
	Peers        []PeerStatus
}

// PeerStatus is one watcher as this one knows it.
type PeerStatus struct {
	Name    string
	Address string
	State   string // leader, follower; unknown without a leader
	Voter   bool
	Silent  bool   // the leader does not hear it, or its probes are overdue
	Version string // as it last said; empty: it has not
	Applied uint64 // index; known to the leader only, else 0
	Served  uint64 // index of the newest zone content that its name server answered
}

// Status describes the cluster as this watcher sees it.
func (n *Node) Status() Status {
	isolated, contact := n.Isolation()
	st := Status{Leader: n.view.Load().id, LastContact: contact}
	if why := n.waiting.Load(); why != nil {
		st.Waiting = *why
	}
	if why := n.waits.Load(); why != nil {
		st.MembersWait = *why
	}
	s := n.State()
	st.AppliedIndex = s.Index
	if r := n.raft.Load(); r != nil {
		st.Term, st.CommitIndex, st.AppliedIndex = r.CurrentTerm(), r.CommitIndex(), r.AppliedIndex()
	}
	if m, r := n.behind.Load(), n.raft.Load(); m != nil && r.AppliedIndex() < m.index {
		st.Behind = time.Since(m.since)
	}
	st.HasQuorum = st.Leader != "" && !isolated
	t := n.term.Load()
	if t != nil {
		select {
		case <-t.ready:
			st.Leads = true
		default:
		}
	}
	for _, p := range n.members() {
		st.Peers = append(st.Peers, n.peerStatus(p, st.Leader, t))
	}
	return st
}

func (n *Node) peerStatus(p Peer, leader string, t *term) PeerStatus {
	s := n.State()
	ps := PeerStatus{Name: p.Name, Address: p.Address, State: "follower", Voter: true, Silent: !slices.Contains(s.Fresh, p.Name)}
	switch leader {
	case p.Name:
		ps.State = "leader"
	case "":
		ps.State, ps.Silent = "unknown", p.Name != n.o.Name
	}
	for _, m := range s.Members {
		if m.Name == p.Name {
			ps.Version, ps.Served = m.About.Version, m.About.Served
			if ps.Voter = m.Voter(); !ps.Voter {
				ps.Silent = false // nobody counts on it yet
			}
		}
	}
	if p.Name == n.o.Name {
		ps.Applied = s.Index
	} else if t != nil {
		ps.Applied = t.appliedBy(p.Name)
	}
	return ps
}

func (t *term) appliedBy(name string) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h := t.heard[name]; h != nil {
		return h.applied
	}
	return 0
}

// Isolation says whether this watcher's state may be out of date, and for how long that has been so: a follower has had
// no contact with a leader, a leader none with a majority, for two heartbeat timeouts; or its applied index stands
// behind a commit that the leader had announced that long ago. After a time apart it lasts until what was missed has been
// applied: a leader is heard again before that. If it is not isolated the duration is the time since
// the last contact. It takes no lock that is held for long, so it may be asked for every DNS query.
func (n *Node) Isolation() (bool, time.Duration) {
	limit := 2 * n.o.Timing.Heartbeat
	since := time.Since(n.opened) - time.Duration(n.contact.Load())
	r := n.raft.Load()
	if r == nil {
		return true, time.Since(n.opened)
	}
	// Granting a vote renews raft's last contact too, so it counts only while there is a leader.
	leader := n.view.Load().id
	if leader != "" && leader != n.o.Name && r.State() == raft.Follower {
		since = min(since, time.Since(r.LastContact()))
	}
	switch {
	case r.State() == raft.Shutdown: // it sits out, or stops: nothing new comes any more
		return true, since
	case since > limit:
		n.beginApart(time.Now().Add(-since))
	case leader == n.o.Name && n.term.Load().isOpen():
		n.current.apart.Store(nil) // a leader in contact with a majority misses nothing
	}
	if m := n.behind.Load(); m != nil && r.AppliedIndex() < m.index {
		since = max(since, time.Since(m.since))
	}
	if a := n.current.apart.Load(); a != nil {
		since = max(since, time.Since(a.since))
	}
	return since > limit, since
}

// noteContact notes that a quorum is in contact now.
func (n *Node) noteContact() { n.noteContactAt(time.Now()) }

func (n *Node) noteContactAt(at time.Time) {
	now := int64(at.Sub(n.opened))
	for {
		old := n.contact.Load()
		if now <= old || n.contact.CompareAndSwap(old, now) {
			return
		}
	}
}

// noteCommit notes the leader's commit index. The oldest one that this watcher has not applied is kept, so that a
// watcher which keeps up with a busy leader is never found behind. Only beatLoop calls it.
func (n *Node) noteCommit(index uint64) {
	m, r := n.behind.Load(), n.raft.Load()
	if m != nil && r.AppliedIndex() < m.index {
		if took := time.Since(m.since); took > quorumPatience {
			if ok, _ := n.limit.allow("behind"); ok {
				n.log.Error().Uint64(keyIndex, m.index).Dur("behind", took).Msg("this watcher hears the leader but does not follow its log; check its disk")
			}
		}
		return
	}
	n.behind.Store(&commitMark{index: index, since: time.Now()})
}

// Stuck says what of this watcher has not moved for longer than limit though it should: a write to the log, or the state
// machine. Empty: nothing. What has been told to rest is not stuck.
func (n *Node) Stuck(limit time.Duration) string {
	if took := n.store.hanging(); took > limit {
		return fmt.Sprintf("a write to the log has taken %s", took.Round(time.Second))
	}
	if n.stopping.Load() {
		return ""
	}
	if behind := n.applying(time.Now()); behind > limit {
		return fmt.Sprintf("committed entries have not been applied for %s", behind.Round(time.Second))
	}
	return ""
}

// applying is how long the state machine has stood at one index although raft knows of later commits.
func (n *Node) applying(now time.Time) time.Duration {
	r := n.raft.Load()
	if r == nil {
		return 0
	}
	applied := r.AppliedIndex()
	last := n.applied.Load()
	if last == nil || last.index != applied || r.CommitIndex() <= applied {
		n.applied.Store(&commitMark{index: applied, since: now})
		return 0
	}
	return now.Sub(last.since)
}
