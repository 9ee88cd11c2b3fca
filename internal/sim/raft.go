package sim

import (
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// record is one place in the log. Raft's own entries, with which a leader begins, reach no state.
type record struct {
	entry failover.Entry
	at    time.Duration // when it was proposed
	noop  bool
}

// campaign tries to become the leader. Votes are asked for and given in one moment; a voter's word is on its disk.
func (n *watcher) campaign(ordered bool) {
	voters := n.w.voters()
	if !n.isVoter(voters) {
		return
	}
	n.bePatient()
	n.heard = n.w.now()
	var granting []*watcher
	term := n.term
	for _, p := range n.w.watchers {
		if p != n && p.isVoter(voters) && p.grants(n, ordered) {
			granting = append(granting, p)
			term = max(term, p.term)
		}
	}
	if len(granting)+1 < failover.Majority(len(voters)) {
		return
	}
	for _, p := range granting {
		p.follow(term+1, n.name)
	}
	n.follow(term+1, n.name)
	n.w.tell("%s is elected leader of term %d", n.name, n.term)
	n.reign = newReign(n)
	n.reign.begin()
}

func (n *watcher) isVoter(voters []string) bool {
	for _, v := range voters {
		if v == n.name {
			return true
		}
	}
	return false
}

// grants reports whether this watcher would vote for another one: it hears it, knows no leader, and has no newer log.
func (n *watcher) grants(to *watcher, ordered bool) bool {
	if n.life == nil || n.paused || !n.w.bothWays(n.name, to.name) {
		return false
	}
	knows := n.reign != nil || n.w.now()-n.heard < heartbeat
	return (ordered || !knows) && !newerLog(n.log, to.log)
}

func newerLog(a, b []*record) bool {
	x, y := lastTerm(a), lastTerm(b)
	return x > y || x == y && len(a) > len(b)
}

func lastTerm(log []*record) uint64 {
	if len(log) == 0 {
		return 0
	}
	return log[len(log)-1].entry.Term
}

// follow takes up a newer term.
func (n *watcher) follow(term uint64, leader string) {
	if n.reign != nil && n.reign.term < term {
		n.reign.stop()
	}
	n.term, n.leader, n.heard = term, leader, n.w.now()
}

// appendMessage is what a leader sends: its log as far as it goes.
type appendMessage struct {
	term   uint64
	leader string
	log    []*record
	commit int
}

// receive takes a leader's log and answers.
func (n *watcher) receive(m appendMessage) {
	from := n.w.watcher(m.leader)
	if m.term < n.term {
		term := n.term
		n.send(from, func() {
			if from.term < term {
				from.follow(term, "")
			}
		})
		return
	}
	n.follow(m.term, m.leader)
	if !extends(n.log, m.log) {
		n.log = m.log
	}
	n.advance(min(m.commit, len(m.log)))
	n.noteCurrent(m.commit)
	stored := len(m.log)
	n.send(from, func() {
		if r := from.reign; r != nil && r.term == m.term {
			r.acknowledge(n.name, stored)
		}
	})
}

// extends reports whether a log holds all of another one, which may be an old message.
func extends(log, other []*record) bool {
	return len(other) == 0 || len(log) >= len(other) && log[len(other)-1] == other[len(other)-1]
}

// advance applies what is committed.
func (n *watcher) advance(commit int) {
	n.commit = max(n.commit, commit)
	l := n.life
	for n.applied < n.commit && n.life == l {
		i := n.applied
		n.applied++
		state, result := n.w.log.commit(n.log[i])
		if n.w.broken != nil {
			return
		}
		if !n.log[i].noop {
			n.shown(state)
		}
		if r := n.reign; r != nil && n.life == l {
			r.committed(i, result)
			n.noteCurrent(i + 1)
		}
	}
}

// ledger is the truth from outside: the one committed log, with the state after each entry.
type ledger struct {
	w       *world
	records []*record
	states  []*failover.State // after the record of the same place
	results []failover.Result
	base    int // how far back a log may begin
	count   tally
	judge   judge
}

// mostEntries are many times what any run comes to.
const mostEntries = 3000

func newLedger(w *world) *ledger {
	return &ledger{w: w, count: tally{}, judge: newJudge(w)}
}

// state is the newest committed one.
func (l *ledger) state() *failover.State {
	if len(l.states) == 0 {
		return failover.NewState()
	}
	return l.states[len(l.states)-1]
}

// commit takes in the record that a watcher applies: a new one, or the very one that is there already.
func (l *ledger) commit(r *record) (*failover.State, failover.Result) {
	i := int(r.entry.Index) - 1
	if i < len(l.records) {
		if l.records[i] != r {
			l.w.violate("model", "two entries were committed at index %d", i+1)
		}
		return l.states[i], l.results[i]
	}
	before := l.state()
	after, result := before, failover.Result{}
	if !r.noop {
		after, result = before.Apply(r.entry)
	}
	l.records, l.states, l.results = append(l.records, r), append(l.states, after), append(l.results, result)
	if i > mostEntries {
		l.w.violate("endless", "the log has %d entries and grows", i)
	}
	if !r.noop {
		l.w.stats.Entries++
		l.count.entry(before, r.entry, after, result)
		l.w.tellEntry(before, r.entry, after, result)
		l.judge.entry(before, r, after, result)
		l.checkRepeated(before, r.entry, after, result)
	}
	return after, result
}

// checkRepeated applies a command that has been applied before to a snapshot of the state as well: what keeps it from counting twice
// has to be in there.
func (l *ledger) checkRepeated(before *failover.State, e failover.Entry, after *failover.State, r failover.Result) {
	if e.Command.ID == "" || r.Index == e.Index {
		return
	}
	text, err := before.Encode()
	if err != nil {
		l.w.violate("replay", "%v", err)
		return
	}
	saved, err := failover.DecodeState(text)
	if err != nil {
		l.w.violate("replay", "%v", err)
		return
	}
	if s, again := saved.Apply(e); s.Hash() != after.Hash() || again != r {
		l.w.violate("replay", "entry %d comes a second time and is answered %v by a snapshot of the state, and %v by the state", e.Index, again, r)
	}
}

// restore is what a starting process finds on its disk: a snapshot, the state in it, and the log after it. That this
// is the state which all the others have at that place is checked on the way.
func (l *ledger) restore(n *watcher) (commit, applied int, state *failover.State) {
	known := min(n.commit, len(l.records))
	if known == 0 {
		return 0, 0, failover.NewState()
	}
	at := max(1, l.base, known-l.w.roll("snapshot", 24))
	text, err := l.states[at-1].Encode()
	if err == nil {
		state, err = failover.DecodeState(text)
	}
	if err != nil {
		l.w.violate("replay", "%s cannot read its snapshot of index %d: %v", n.name, at, err)
		return 0, 0, failover.NewState()
	}
	for _, r := range l.records[at:known] {
		if !r.noop {
			state, _ = state.Apply(r.entry)
		}
	}
	if state.Hash() != l.states[known-1].Hash() {
		l.w.violate("replay", "%s: snapshot of index %d and the log after it give another state at index %d than the whole log", n.name, at, known)
	}
	return at, at, l.states[at-1]
}

// voters are the watchers that the newest committed state counts; before the first entry all.
func (w *world) voters() []string {
	var names []string
	for _, m := range w.log.state().Members {
		if m.Voter() {
			names = append(names, m.Name)
		}
	}
	if len(names) == 0 {
		for _, n := range w.watchers {
			names = append(names, n.name)
		}
	}
	return names
}

// propose has a command committed through whoever leads, trying again until patience ends.
func (n *watcher) propose(c failover.Command, patience time.Duration, done func(failover.Result, error)) {
	end := n.w.now() + patience
	var try func()
	again := func() {
		if n.w.now() > end {
			done(failover.Result{}, errNoLeader)
			return
		}
		n.later(200*time.Millisecond, try)
	}
	try = func() {
		to := n.w.watcher(n.leader)
		if to == nil {
			again()
			return
		}
		answered := false
		answer := func(r failover.Result, err error) {
			if answered {
				return
			}
			answered = true
			switch {
			case err == nil:
				done(r, nil)
			case err == errUnknown && c.ID == "":
				done(r, err)
			default:
				again()
			}
		}
		if to == n {
			n.reign.offer(c, answer)
			return
		}
		n.later(end-n.w.now()+time.Millisecond, func() { answer(failover.Result{}, errUnknown) })
		n.send(to, func() {
			to.reign.offer(c, func(r failover.Result, err error) { to.send(n, func() { answer(r, err) }) })
		})
	}
	try()
}
