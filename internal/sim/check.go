package sim

import (
	"maps"
	"slices"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// judge holds what happens against the guarantees. It counts for itself, from the log and from what programs did.
type judge struct {
	w        *world
	verdicts map[string]map[string]failover.Report // by app and watcher, as the log has them
	paused   bool
	held     string        // what began the history anew, until a person has confirmed the state
	hold     time.Duration // no failover before this
	token    uint64
	epoch    uint64           // of the last switchover
	grants   map[uint64]grant // by token
	answered map[string]failover.Result
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

// grant is a token that was given out.
type grant struct {
	record *record
	state  *failover.State // with the attempt open
}

// loss is what the promotion of a switchover cost.
type loss struct {
	writes []*write
}

func newJudge(w *world) judge {
	return judge{w: w, verdicts: map[string]map[string]failover.Report{}, serial: map[string]uint32{}, answers: map[uint64]string{},
		grants: map[uint64]grant{}, answered: map[string]failover.Result{}, writable: map[string]map[string]sighting{}, lost: map[uint64]loss{}}
}

// entry judges one committed entry.
func (j *judge) entry(before *failover.State, x *record, after *failover.State, r failover.Result) {
	e := x.entry
	old, g := before.Groups[group], after.Groups[group]
	if g == nil {
		return
	}
	if e.Command.Term != e.Term {
		j.unchanged("term", before, e, after, "it was proposed in another term")
		return
	}
	if first, again := j.answered[e.Command.ID]; again {
		j.unchanged("once", before, e, after, "it was applied before")
		if first != r {
			j.w.violate("once", "entry %d is answered %v, and was answered %v before", e.Index, r, first)
		}
		return
	}
	if e.Command.ID != "" {
		j.answered[e.Command.ID] = r
	}
	if old == nil {
		return
	}
	j.noteReports(e, old)
	j.noteOrders(e, after, r)
	if r.Token != 0 {
		j.granted(x, after, r)
	}
	if after.Serial < before.Serial {
		j.w.violate("serial", "the serial fell from %d to %d", before.Serial, after.Serial)
	}
	if c := e.Command; c.Restore == nil || !r.Accepted { // else it is another history's
		j.opened(old, g, e, after)
		j.ended(old, g)
		j.checkHeld(old, g)
	}
	j.checkHealth(e, after)
	j.checkWriter(g)
}

// unchanged judges an entry that is to count for nothing.
func (j *judge) unchanged(rule string, before *failover.State, e failover.Entry, after *failover.State, why string) {
	if before.EventSeq != after.EventSeq || before.Serial != after.Serial || before.PolicyRevision != after.PolicyRevision ||
		!slices.Equal(before.Fresh, after.Fresh) || before.Groups[group].Epoch != after.Groups[group].Epoch {
		j.w.violate(rule, "entry %d has changed something, though %s", e.Index, why)
	}
}

func (j *judge) granted(x *record, after *failover.State, r failover.Result) {
	if r.Token <= j.token {
		j.w.violate("token", "token %d was given out after %d", r.Token, j.token)
	}
	if j.held != "" {
		j.w.violate("held", "token %d was given out, and nobody has confirmed the state since the %s", r.Token, j.held)
	}
	j.token = r.Token
	if after.Generation > 0 {
		j.w.log.count.add("history", "attempt in a later generation")
	}
	j.grants[r.Token] = grant{record: x, state: after}
}

// checkHeld: after a restore or a recovery nothing moves until a person has confirmed the state.
func (j *judge) checkHeld(old, g *failover.GroupState) {
	if j.held != "" && (g.Active != old.Active || g.Writer != old.Writer || g.Epoch != old.Epoch) {
		j.w.violate("held", "%s is active and %s the writer in epoch %d, and nobody has confirmed the state since the %s", g.Active, g.Writer, g.Epoch, j.held)
	}
}

func (j *judge) checkWriter(g *failover.GroupState) {
	if !g.Switchover.Open() && g.Active != g.Writer {
		j.w.violate("one-writer", "the record points at %s, the writer is %s and no switchover is open", g.Active, g.Writer)
	}
	if w := g.Switchover; g.Apps[g.Writer].Mark != nil && (!w.Open() || w.PastNoReturn()) {
		j.w.violate("writer", "%s is the writer and marked", g.Writer)
	}
	if w := g.Switchover; w.Open() && w.PastNoReturn() && w.Undoing != "" {
		j.w.violate("no-return", "switchover %d is undone past its point of no return: %s", w.ID, w.Undoing)
	}
}

// checkHealth counts the verdicts on every app again. What a watcher said that has been removed says nothing, and one that comes back
// with an empty directory counts its reports from the beginning.
func (j *judge) checkHealth(e failover.Entry, s *failover.State) {
	for _, table := range j.verdicts {
		maps.DeleteFunc(table, func(watcher string, _ failover.Report) bool { return s.Member(watcher) == nil })
	}
	for name, a := range s.Groups[group].Apps {
		is := failover.HealthUnknown
		switch voters := s.Voters(); {
		case j.count(name, failover.VerdictDown, e.Command.Fresh, s, a.Revision) >= max(voters/2+1, s.Policy.Group(group).Failover.Quorum):
			is = failover.HealthDown
		case j.count(name, failover.VerdictUp, e.Command.Fresh, s, a.Revision)*2 > voters:
			is = failover.HealthUp
		}
		if a.Health != is {
			j.w.violate("health", "%s is %s, and by its fresh verdicts on its present probes it is %s", name, a.Health, is)
		}
	}
}

// noteReports keeps a table of verdicts like the state's, made in the plainest way. One on probes or a role that are not the app's any
// more is not for it.
func (j *judge) noteReports(e failover.Entry, g *failover.GroupState) {
	if e.Command.Reports == nil {
		return
	}
	for _, r := range e.Command.Reports.Reports {
		if a := g.Apps[r.App]; a == nil || a.Revision != r.Revision {
			continue
		}
		table := j.verdicts[r.App]
		if table == nil {
			table = map[string]failover.Report{}
			j.verdicts[r.App] = table
		}
		if old, ok := table[r.Watcher]; !ok || old.Revision != r.Revision || older(old.Boot, old.Seq, r.Boot, r.Seq) {
			table[r.Watcher] = r
		}
	}
}

// forgetReports leaves only those that a state has taken in: the entries with the later ones are lost.
func (j *judge) forgetReports(s *failover.State) {
	clear(j.verdicts)
	g := s.Groups[group]
	if g == nil {
		return
	}
	for name, a := range g.Apps {
		j.verdicts[name] = map[string]failover.Report{}
		for watcher, r := range a.Reports {
			j.verdicts[name][watcher] = *r
		}
	}
}

func (j *judge) noteOrders(e failover.Entry, after *failover.State, r failover.Result) {
	switch c := e.Command; {
	case !r.Accepted:
	case c.Pause != nil:
		j.paused = true
	case c.Resume != nil && j.held == "", c.Due != nil && len(c.Due.Key) > 6 && c.Due.Key[:6] == "pause/":
		j.paused = false
	case c.Ack != nil && j.held != "":
		j.w.log.count.add("history", j.held+" confirmed")
		j.held = ""
	case c.Ack != nil:
		j.hold = 0
	case c.Restore != nil:
		j.beginsAnew("restore", after)
	case c.Retry != nil && c.Retry.Skip:
		j.w.app(newest(after.Groups[group]).To).byHand = true // what the step that is left out would have opened stays closed
	case c.RemoveMember != nil:
		for _, table := range j.verdicts {
			delete(table, c.RemoveMember.Name)
		}
	}
}

// beginsAnew notes that another state has taken the place of the present one: what holds a failover back is now what that one says.
// Tokens, epochs and serials go on from where they were.
func (j *judge) beginsAnew(what string, s *failover.State) {
	j.held = what
	for _, table := range j.verdicts {
		maps.DeleteFunc(table, func(watcher string, _ failover.Report) bool { return s.Member(watcher) == nil })
	}
	g := s.Groups[group]
	j.paused = g.Pause != nil
	if g.Cooldown == nil {
		j.hold = 0
	}
}

// opened judges a switchover that the entry opened.
func (j *judge) opened(old, g *failover.GroupState, e failover.Entry, after *failover.State) {
	w := newest(g)
	if w == nil || w.ID != after.Token(e.Index) {
		return
	}
	if w.Epoch <= j.epoch {
		j.w.violate("epoch", "switchover %d has epoch %d, and an earlier one had %d", w.ID, w.Epoch, j.epoch)
	}
	j.epoch = w.Epoch
	if old.Switchover.Open() && g.Switchover.Open() && old.Switchover.ID != w.ID && !inHistory(g, old.Switchover.ID) {
		j.w.violate("one-open", "switchover %d was opened while %d was open", w.ID, old.Switchover.ID)
	}
	if w.Kind != failover.KindFailover {
		if e.Command.Request == nil {
			j.w.violate("unasked", "the %s switchover %d was opened and nobody had asked for it", w.Kind, w.ID)
		}
		if heard := j.heard(e.Command.Fresh, after); heard*2 <= after.Voters() {
			j.w.violate("minority", "the %s switchover %d was opened with %d of %d watchers heard", w.Kind, w.ID, heard, after.Voters())
		}
		return
	}
	downs := j.count(w.From, failover.VerdictDown, e.Command.Fresh, after, old.Apps[w.From].Revision)
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

// heard counts the watchers that an entry's leader had heard.
func (j *judge) heard(fresh []string, s *failover.State) int {
	n := 0
	for _, name := range fresh {
		if m := s.Member(name); m != nil && m.Voter() {
			n++
		}
	}
	return n
}

func (j *judge) count(app string, v failover.Verdict, fresh []string, s *failover.State, revision uint64) int {
	n := 0
	for watcher, r := range j.verdicts[app] {
		m := s.Member(watcher)
		if m != nil && m.Voter() && slices.Contains(fresh, watcher) && r.Verdict == v && r.Revision == revision && r.Boot >= m.About.Boot {
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
	given, ok := j.grants[p.token]
	if !ok {
		j.w.violate("journal", "%s of %s has token %d, which was never given out", p.title(), p.n.name, p.token)
		return
	}
	if given.start().App != p.a.name {
		j.w.violate("journal", "%s of %s has token %d, whose entry permits no such thing", p.title(), p.n.name, p.token)
		return
	}
	if p.call.reign == nil && int(given.record.entry.Index) > p.n.applied {
		j.w.violate("journal", "%s of %s has token %d, which that watcher had not applied", p.title(), p.n.name, p.token)
	}
}

func (x grant) start() *failover.Start { return x.record.entry.Command.Journal.Start }

// acts judges a change at the moment at which it takes effect.
func (j *judge) acts(p *program) {
	given, ok := j.grants[p.token]
	if !ok {
		return // permitted has told it
	}
	g, start := given.state.Groups[group], given.start()
	switch p.verb {
	case "off", "unfreeze", "promote":
		if g.Writer != p.a.name {
			j.w.violate("writer", "%s of %s with token %d, though %s was the writer then", p.title(), p.n.name, p.token, g.Writer)
		}
		if now := j.w.log.state().Groups[group]; now.Writer != p.a.name && start.Switchover == 0 && !p.over {
			j.w.violate("writer", "%s of %s with token %d, though %s has become the writer meanwhile", p.title(), p.n.name, p.token, now.Writer)
		}
	case "reprotect":
		if g.Writer == p.a.name {
			j.w.violate("writer", "%s of %s with token %d, though it was the writer then", p.title(), p.n.name, p.token)
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
	believed := !j.w.script.yes("tells") || w.Step(failover.StepFreeze).Untold // lost before it was read back, and never told before
	for _, other := range j.w.apps {
		if other == p.a || !other.writable() || unfenced || believed {
			continue
		}
		if s, ok := j.writable[p.n.name][other.name]; ok && s.writable && s.at <= j.grants[p.token].record.at && other.name == w.From {
			j.w.violate("two-writable", "%s promotes %s, though the database of %s had just told it that it takes writes", p.n.name, p.a.name, other.name)
		}
	}
	var l loss
	if f := j.w.app(w.From).db; f.id == p.a.db.id {
		l.writes = f.log[min(len(p.a.db.log), len(f.log)):]
		s, seen := j.writable[p.n.name][w.From]
		if seen { // what comes after the last look nobody can know
			l.writes = slices.DeleteFunc(slices.Clone(l.writes), func(x *write) bool { return x.at > s.at })
		}
		if f.a.booted && f.a.washesFreeze() && (!seen || !j.w.script.yes("tells")) {
			l.writes = nil // a freeze that was done is believed of a database that does not answer, or does not tell it
		}
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
