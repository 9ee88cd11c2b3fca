package cluster

import (
	"context"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// beat is a watcher's heartbeat to the leader, with the news that its state does not show yet.
type beat struct {
	Overdue time.Duration     `json:"overdue,omitempty"` // of the most belated probe
	Applied uint64            `json:"applied"`
	Blind   bool              `json:"blind,omitempty"` // it has not read its log yet, so it cannot say what it has to report
	Reports []failover.Report `json:"reports,omitempty"`
	About   *failover.About   `json:"about,omitempty"`
}

// beatAnswer is the leader's word. Leads is false if the asked watcher does not lead.
type beatAnswer struct {
	Leads  bool   `json:"leads"`
	Term   uint64 `json:"term"`
	Commit uint64 `json:"commit"`
}

// beatLoop sends a heartbeat to the leader twice per heartbeat timeout, and at once when there is news or a new leader.
func (n *Node) beatLoop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	hanging := 0
	var idle idleness
	for {
		view, published := n.view.Load(), n.Watch()
		n.Isolation() // a time apart is noticed though nobody asks
		heard, held := n.beatOnce(ctx, view)
		hanging = n.checkDisk(hanging)
		idle.look(n, time.Now())
		wait := n.o.Timing.interval()
		if !heard && view.id != "" {
			wait /= 10 // a new leader may not have noticed yet that it is one
		}
		timer.Reset(wait)
		if !held {
			published = nil // nothing waits for a newer state
		}
		select {
		case <-timer.C:
		case <-n.kick:
		case <-published:
		case <-view.changed.Done():
		case <-ctx.Done():
			return
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// beatOnce tells the leader that this watcher is well. Held: some report waits for a newer state.
func (n *Node) beatOnce(ctx context.Context, view *leaderView) (heard, held bool) {
	state := n.State()
	n.noteStarted(state)
	b := beat{Applied: state.Index, Blind: state.Cluster == "" || n.identity().Stage == stageJoined}
	if n.o.Overdue != nil {
		b.Overdue = n.o.Overdue()
	}
	b.Reports, b.About, held = n.reports.pending(n.State())
	if view.id == n.o.Name {
		a := n.takeBeat(ctx, n.o.Name, b) // its own heartbeat says nothing of a quorum
		return a.Leads, held
	}
	a, ok := n.sendBeat(ctx, view, b)
	if ok {
		n.noteContact()
		n.noteCommit(a.Commit)
		n.noteHeard(a.Term, a.Commit)
	}
	return ok, held
}

func (n *Node) sendBeat(ctx context.Context, view *leaderView, b beat) (beatAnswer, bool) {
	p, ok := n.member(view.id)
	if !ok {
		return beatAnswer{}, false
	}
	ctx, cancel := context.WithTimeout(ctx, n.o.Timing.Heartbeat)
	defer cancel()
	stop := context.AfterFunc(view.changed, cancel) // a leader that is one no longer must not hold up the next beat
	defer stop()
	a, err := n.peer(view.id).call(ctx, p.Address, request{Beat: &b})
	if err != nil || a.Beat == nil || !a.Beat.Leads {
		return beatAnswer{}, false
	}
	return *a.Beat, true
}
