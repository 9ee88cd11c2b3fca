package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// Histories that begin anew: a state that was saved and is put back, and a cluster that goes on with what one or two of its
// watchers have left.

func save(w *world, args []string) {
	if n := w.watcher(args[0]); n != nil && n.life != nil && n.state.Cluster != "" {
		w.saved = n.state
	}
}

// recovering is how long a person needs at the least: the serial of the new state is a later second than any lost one.
const recovering = 2 * time.Second

// recoverFrom loses all watchers but those named, for good, and makes a cluster of these.
func recoverFrom(w *world, args []string) {
	var kept []*watcher
	for _, name := range strings.Split(args[0], ",") {
		if n := w.watcher(name); n != nil {
			kept = append(kept, n)
		}
	}
	if len(kept) == 0 {
		return
	}
	longest := kept[0]
	for _, n := range kept {
		if newerLog(n.log, longest.log) {
			longest = n
		}
	}
	left, same := w.log.stateAt(longest.log)
	names := strings.Split(args[0], ",")
	state, r := left.Recover(failover.RecoverOrder{ID: fmt.Sprintf("recovery%d", len(longest.log)), Keep: names, Open: failover.Open(args[1])})
	if !r.Accepted {
		w.log.count.refusal(r)
		w.tell("recovery refused: %s: %s", r.Rule, r.Detail)
		return
	}
	for _, n := range w.watchers {
		n.die()
	}
	log := longest.log
	w.log.cutBack(same)
	for _, x := range log[same:] { // what no majority had counts as committed
		w.log.commit(x)
	}
	w.log.beginAnew(state)
	for _, n := range w.watchers {
		n.log, n.commit = nil, 0
		if slices.Contains(kept, n) {
			n.log, n.commit = log, len(log)
			w.after(recovering, func() {
				if n.life == nil && n.log != nil {
					n.start()
				}
			})
		}
	}
}

// stateAt is the state at the end of a log that may have entries which were never committed, and how much of it was.
func (l *ledger) stateAt(log []*record) (s *failover.State, same int) {
	s = failover.NewState()
	for same < min(len(log), len(l.records)) && log[same] == l.records[same] {
		s = l.states[same]
		same++
	}
	for _, x := range log[same:] {
		if !x.noop {
			s, _ = s.Apply(x.entry)
		}
	}
	return s, same
}

// cutBack drops what was committed and is lost.
func (l *ledger) cutBack(n int) {
	for _, x := range l.records[n:] {
		delete(l.judge.answered, x.entry.Command.ID) // it may come again, and then for the first time
	}
	l.records, l.states, l.results = l.records[:n:n], l.states[:n:n], l.results[:n:n]
	if n > 0 {
		l.judge.forgetReports(l.states[n-1])
	}
}

// beginAnew puts a recovered state in the place of the last one; no log reaches further back than that.
func (l *ledger) beginAnew(s *failover.State) {
	l.base = len(l.records)
	l.states[l.base-1] = s
	l.judge.beginsAnew("recovery", s)
	if l.w.clockMoved { // the serial is above the lost ones if no clock was
		clear(l.judge.serial)
		clear(l.judge.answers)
	}
	l.count.add("event", "recovered")
	l.w.tell("  the cluster begins anew at index %d in generation %d with %d watchers", l.base, s.Generation, len(s.Members))
}

// fits reports whether the state says of the group what is so. A person looks before confirming a state that was restored or
// recovered: nobody else can.
func (w *world) fits(g *failover.GroupState) bool {
	writer := w.app(g.Writer)
	if writer.db == nil {
		return !writer.closed
	}
	for _, a := range w.apps {
		if a != writer && a.writable() && (g.Apps[a.name] == nil || g.Apps[a.name].Mark == nil) {
			return false
		}
		if a != writer && a.db.primary && a.db.line > writer.db.line {
			return false // it was promoted later
		}
	}
	return writer.db.primary
}
