package sim

import (
	"slices"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// judge holds what happens against the guarantees. It counts for itself, from the log and from what programs did.
type judge struct {
	w        *world
	verdicts map[string]map[string]failover.Report // by app and watcher, as the log has them
	paused   bool
	hold     time.Duration // no failover before this
	token    uint64
	serial   map[string]uint32              // by watcher: of its last answer
	answers  map[uint64]string              // by zone index
	writable map[string]map[string]sighting // by watcher and app: what role last told it
	lost     map[uint64]loss                // by switchover
}

// sighting is what a role program told a watcher last.
type sighting struct {
	at       time.Duration
	writable bool
}

// loss is what the promotion of a switchover cost.
type loss struct {
	writes []*write
}

func newJudge(w *world) judge {
	return judge{w: w, verdicts: map[string]map[string]failover.Report{}, serial: map[string]uint32{}, answers: map[uint64]string{},
		writable: map[string]map[string]sighting{}, lost: map[uint64]loss{}}
}

// entry judges one committed entry.
func (j *judge) entry(before *failover.State, e failover.Entry, after *failover.State, r failover.Result) {
	old, g := before.Groups[group], after.Groups[group]
	if g == nil {
		return
	}
	accepted := e.Command.Term == e.Term
	if accepted {
		j.noteReports(e, after)
		j.notePause(e, r)
	}
	if r.Token != 0 && r.Index == e.Index {
		if r.Token <= j.token {
			j.w.violate("token", "token %d was given out after %d", r.Token, j.token)
		}
		j.token = r.Token
	}
	if after.Serial < before.Serial {
		j.w.violate("serial", "the serial fell from %d to %d", before.Serial, after.Serial)
	}
	if old == nil {
		return
	}
	j.opened(old, g, e, after)
	j.ended(old, g)
	if !g.Switchover.Open() && g.Active != g.Writer {
		j.w.violate("one-writer", "the record points at %s, the writer is %s and no switchover is open", g.Active, g.Writer)
	}
	if w := g.Switchover; w.Open() && w.PastNoReturn() && w.Undoing != "" {
		j.w.violate("no-return", "switchover %d is undone past its point of no return: %s", w.ID, w.Undoing)
	}
}

// noteReports keeps a table of verdicts like the state's, made in the plainest way.
func (j *judge) noteReports(e failover.Entry, s *failover.State) {
	if e.Command.Reports == nil {
		return
	}
	for _, r := range e.Command.Reports.Reports {
		table := j.verdicts[r.App]
		if table == nil {
			table = map[string]failover.Report{}
			j.verdicts[r.App] = table
		}
		if old, ok := table[r.Watcher]; !ok || older(old.Boot, old.Seq, r.Boot, r.Seq) {
			table[r.Watcher] = r
		}
	}
}

func (j *judge) notePause(e failover.Entry, r failover.Result) {
	switch c := e.Command; {
	case !r.Accepted:
	case c.Pause != nil:
		j.paused = true
	case c.Resume != nil, c.Due != nil && len(c.Due.Key) > 6 && c.Due.Key[:6] == "pause/":
		j.paused = false
	case c.Ack != nil:
		j.hold = 0
	}
}

// opened judges a switchover that the entry opened.
func (j *judge) opened(old, g *failover.GroupState, e failover.Entry, after *failover.State) {
	w := newest(g)
	if w == nil || w.ID != e.Index {
		return
	}
	if old.Switchover.Open() && g.Switchover.Open() && old.Switchover.ID != w.ID && !inHistory(g, old.Switchover.ID) {
		j.w.violate("one-open", "switchover %d was opened while %d was open", w.ID, old.Switchover.ID)
	}
	if w.Kind != failover.KindFailover {
		if e.Command.Request == nil {
			j.w.violate("unasked", "the %s switchover %d was opened and nobody had asked for it", w.Kind, w.ID)
		}
		return
	}
	downs := j.downs(w.From, e.Command.Fresh, after, old.Apps[w.From].Revision)
	if voters := after.Voters(); downs*2 <= voters || downs < w.Policy.Failover.Quorum {
		j.w.violate("quorum", "failover %d was opened with %d fresh down verdicts of %d watchers", w.ID, downs, voters)
	}
	if j.paused {
		j.w.violate("pause", "failover %d was opened though the automation is paused", w.ID)
	}
	if w.Policy.Failover.Mode != failover.ModeAutomatic {
		j.w.violate("mode", "failover %d was opened in mode %s", w.ID, w.Policy.Failover.Mode)
	}
	if j.w.now() < j.hold {
		j.w.violate("cooldown", "failover %d was opened %s before the cooldown's end", w.ID, short(j.hold-j.w.now()))
	}
}

func (j *judge) downs(app string, fresh []string, s *failover.State, revision uint64) int {
	n := 0
	for watcher, r := range j.verdicts[app] {
		m := s.Member(watcher)
		if m != nil && m.Voter() && slices.Contains(fresh, watcher) && r.Verdict == failover.VerdictDown && r.Revision == revision && r.Boot >= m.About.Boot {
			n++
		}
	}
	return n
}

// ended notes how long the next failover has to wait.
func (j *judge) ended(old, g *failover.GroupState) {
	w := newest(g)
	if w == nil || w.Open() || len(old.History) > 0 && old.History[len(old.History)-1].ID == w.ID {
		return
	}
	j.w.tell("  switchover %d: %s", w.ID, w.Result)
	if w.Result != failover.ResultUndone {
		j.hold = j.w.now() + w.Policy.Failover.Cooldown
	}
	j.judgeLoss(w)
}

func newest(g *failover.GroupState) *failover.Switchover {
	if g.Switchover != nil {
		return g.Switchover
	}
	if n := len(g.History); n > 0 {
		return g.History[n-1]
	}
	return nil
}

func inHistory(g *failover.GroupState, id uint64) bool {
	return slices.ContainsFunc(g.History, func(w *failover.Switchover) bool { return w.ID == id })
}

// begins judges a program that is about to change something: its token is in the log, its term is the acting leader's,
// and no other watcher's hands are on the same part.
func (j *judge) begins(p *program) {
	j.permitted(p)
	for _, other := range j.w.active {
		if other != p && other.a == p.a && other.n != p.n && changes[other.verb] == changes[p.verb] {
			j.w.violate("hands", "%s of %s began while %s of %s was still at it", p.title(), p.n.name, other.title(), other.n.name)
		}
	}
}

func (j *judge) permitted(p *program) {
	l := j.w.log
	if p.token == 0 || p.token > uint64(len(l.records)) {
		j.w.violate("journal", "%s of %s has token %d, which is in no log", p.title(), p.n.name, p.token)
		return
	}
	e, r := l.records[p.token-1].entry, l.results[p.token-1]
	if e.Command.Journal == nil || e.Command.Journal.Start == nil || r.Token != p.token || e.Command.Journal.Start.App != p.a.name {
		j.w.violate("journal", "%s of %s has token %d, whose entry permits no such thing", p.title(), p.n.name, p.token)
		return
	}
	if p.call.reign == nil && int(p.token) > p.n.applied {
		j.w.violate("journal", "%s of %s has token %d, which that watcher had not applied", p.title(), p.n.name, p.token)
	}
}

// acts judges a change at the moment at which it takes effect.
func (j *judge) acts(p *program) {
	state := j.w.log.states[p.token-1]
	g := state.Groups[group]
	start := j.w.log.records[p.token-1].entry.Command.Journal.Start
	switch p.verb {
	case "off", "unfreeze", "promote":
		if g.Writer != p.a.name {
			j.w.violate("writer", "%s of %s with token %d, though %s was the writer then", p.title(), p.n.name, p.token, g.Writer)
		}
	case "on", "freeze":
		if g.Writer == p.a.name && start.Switchover == 0 {
			j.w.violate("writer", "%s of %s with token %d, though it was the writer then", p.title(), p.n.name, p.token)
		}
	}
	if p.verb == "promote" && !p.a.db.primary {
		j.promotes(p, g.Switchover)
	}
}

// told notes what a role program tells a watcher that looks a last time before it promotes.
func (j *judge) told(p *program) {
	if p.step != failover.StepPromote {
		return
	}
	seen := j.writable[p.n.name]
	if seen == nil {
		seen = map[string]sighting{}
		j.writable[p.n.name] = seen
	}
	seen[p.a.name] = sighting{at: j.w.now(), writable: p.a.writable()}
}

// untold notes that a role program came back with nothing.
func (j *judge) untold(p *program) {
	if seen := j.writable[p.n.name]; seen != nil && p.step == failover.StepPromote {
		delete(seen, p.a.name)
	}
}

// promotes judges the promotion of a replica: no other database of the group may be known to take writes, and what it
// does not have is lost.
func (j *judge) promotes(p *program, w *failover.Switchover) {
	unfenced := w.Force || w.Policy.Failover.RequireFence == failover.FenceNever
	for _, other := range j.w.apps {
		if other == p.a || !other.writable() || unfenced || !j.w.script.yes("tells") {
			continue
		}
		if s, ok := j.writable[p.n.name][other.name]; ok && s.writable && s.at <= j.w.log.records[p.token-1].at && other.name == w.From {
			j.w.violate("two-writable", "%s promotes %s, though the database of %s had just told it that it takes writes", p.n.name, p.a.name, other.name)
		}
	}
	var l loss
	if f := j.w.app(w.From).db; f.id == p.a.db.id {
		l.writes = f.log[min(len(p.a.db.log), len(f.log)):]
	}
	j.lost[w.ID] = l
	j.w.tell("  %s is promoted; %d acknowledged writes of %s are not in it", p.a.name, len(l.writes), w.From)
}

// judgeLoss compares what was lost with what was journaled to be at risk.
func (j *judge) judgeLoss(w *failover.Switchover) {
	l, ok := j.lost[w.ID]
	if !ok || len(l.writes) == 0 {
		return
	}
	if w.Kind == failover.KindPlanned && w.Result == failover.ResultDone || w.AtRisk.BytesExact && w.AtRisk.Bytes != nil && *w.AtRisk.Bytes == 0 {
		j.w.violate("lost-writes", "the %s switchover %d lost %d acknowledged writes, the first of %s", w.Kind, w.ID, len(l.writes), short(l.writes[0].at))
	}
}

// checkAnswer compares a watcher's DNS answer with its own last one and with the others'.
func (w *world) checkAnswer(n *watcher, s *failover.State) {
	j := &w.log.judge
	if s.Serial < j.serial[n.name] {
		w.violate("serial", "%s answers serial %d after %d", n.name, s.Serial, j.serial[n.name])
	}
	j.serial[n.name] = s.Serial
	g := s.Groups[group]
	if g == nil {
		return
	}
	if have, ok := j.answers[uint64(s.Serial)]; ok && have != g.Active {
		w.violate("same-answer", "serial %d says %s and %s", s.Serial, have, g.Active)
	}
	j.answers[uint64(s.Serial)] = g.Active
}
