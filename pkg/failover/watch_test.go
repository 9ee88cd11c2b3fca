package failover

import (
	"fmt"
	"slices"
)

// watch holds every entry of every script and of every random log against the rules that have no exception.
type watch struct {
	token  uint64            // the last one given out
	serial uint32            // of the zone
	epochs map[string]uint64 // by group, as long as the group is there
	noWay  map[string]bool   // switchovers past their point of no return, by group and id
	acted  map[uint64]bool   // tokens that permitted an act
}

func (m *watch) check(t tb, before *State, e Entry, after *State, r Result) {
	t.Helper()
	if m.epochs == nil {
		m.epochs, m.noWay, m.acted = map[string]uint64{}, map[string]bool{}, map[uint64]bool{}
	}
	fail := func(format string, args ...any) {
		t.Helper()
		text, _ := EncodeCommand(e.Command)
		t.Fatalf("entry %d: "+format+"\n%s", append(append([]any{e.Index}, args...), text)...)
	}
	m.numbers(fail, after, r)
	for name := range m.epochs {
		if after.Groups[name] == nil {
			delete(m.epochs, name)
		}
	}
	for name, g := range after.Groups {
		if g.Epoch < m.epochs[name] {
			fail("the epoch of %s fell from %d to %d", name, m.epochs[name], g.Epoch)
		}
		m.epochs[name] = g.Epoch
		old := before.Groups[name]
		m.group(fail, after, g)
		if old != nil {
			m.opened(fail, before, e, after, old, g)
			m.moved(fail, after, old, g)
			m.started(fail, before, e, after, old, g, r)
		}
	}
	if e.Command.Term != e.Term && decidedText(before) != decidedText(after) {
		fail("a command of term %d in term %d changed something", e.Command.Term, e.Term)
	}
	for _, timer := range after.Timers() {
		if _, r := after.Apply(Entry{Index: e.Index + 1, Term: e.Term, Command: Command{Term: e.Term, Time: after.Time, Fresh: after.Fresh, Due: &Due{Key: timer.Key}}}); !r.Accepted {
			fail("the timer %s is not accepted as due: %+v", timer.Key, r)
		}
	}
}

// decidedText is all of a state that a refused entry must leave alone.
func decidedText(s *State) string {
	n := *s
	n.Index, n.Term = 0, 0
	return n.Hash()
}

func (m *watch) numbers(fail func(string, ...any), s *State, r Result) {
	if r.Token != 0 && r.Index == s.Index {
		if r.Token <= m.token {
			fail("token %d was given out after %d", r.Token, m.token)
		}
		m.token = r.Token
		m.acted[r.Token] = true
	}
	if s.Serial < m.serial {
		fail("the serial fell from %d to %d", m.serial, s.Serial)
	}
	m.serial = s.Serial
	if len(s.Events) > eventsKept || len(s.Applied) > appliedKept {
		fail("%d events and %d applied ids are kept", len(s.Events), len(s.Applied))
	}
	for _, name := range s.Fresh {
		if !s.isMember(name) {
			fail("%s is heard and no member", name)
		}
	}
	if !slices.IsSorted(s.Fresh) || len(slices.Compact(slices.Clone(s.Fresh))) != len(s.Fresh) {
		fail("the list of watchers heard is not a sorted set: %v", s.Fresh)
	}
}

// group checks what holds for a group by itself, whatever happened.
func (m *watch) group(fail func(string, ...any), s *State, g *GroupState) {
	w := g.Switchover
	if w != nil && !w.Open() {
		fail("%s holds a switchover that has ended", g.Name)
	}
	for _, h := range g.History {
		if h.Open() {
			fail("switchover %d of %s is open and in the history", h.ID, g.Name)
		}
	}
	if len(g.History) > HistoryKept {
		fail("%d switchovers are kept", len(g.History))
	}
	if g.Apps[g.Active] == nil || g.Apps[g.Writer] == nil {
		fail("%s has active %q and writer %q, which it does not have", g.Name, g.Active, g.Writer)
	}
	if !w.Open() && g.Active != g.Writer {
		fail("%s points at %s and writes to %s with no switchover open", g.Name, g.Active, g.Writer)
	}
	if w.Open() {
		if want := map[bool]string{true: w.To, false: w.From}[w.PastNoReturn()]; g.Writer != want {
			fail("switchover %d: the writer is %s, it should be %s", w.ID, g.Writer, want)
		}
		m.open(fail, g, w)
	}
	if g.OutOfReach != "" && g.Retry == nil && !w.Open() {
		fail("%s is held back by %q for ever", g.Name, g.OutOfReach)
	}
	m.keeping(fail, s, g)
}

func (m *watch) open(fail func(string, ...any), g *GroupState, w *Switchover) {
	key := fmt.Sprintf("%s %d", g.Name, w.ID) // one entry may open one in each group
	if m.noWay[key] && !w.PastNoReturn() {
		fail("switchover %d came back from its point of no return", w.ID)
	}
	if w.PastNoReturn() {
		m.noWay[key] = true
		if w.Undoing != "" {
			fail("switchover %d is undone past its point of no return: %s", w.ID, w.Undoing)
		}
		if g.Apps[w.To].Mark != nil {
			fail("switchover %d: the writer %s is marked", w.ID, w.To)
		}
	}
	for _, step := range w.Steps {
		if step.Open != "" && !m.acted[step.Token] {
			fail("the attempt of %s with token %d was never permitted", step.Name, step.Token)
		}
		if step.State == StepUndone && m.noWay[key] {
			fail("%s was undone past the point of no return", step.Name)
		}
	}
}

func (m *watch) keeping(fail func(string, ...any), s *State, g *GroupState) {
	for _, task := range s.Keep(g.Name) {
		if task.App == g.Writer && !task.Release {
			fail("the writer %s is to be kept fenced", task.App)
		}
		if g.Switchover.touches(task.App) {
			fail("%s is to be kept while a step's hands are on it", task.App)
		}
		if w := g.Switchover; w.Open() && task.Release && (task.App == w.From || task.App == w.To) {
			fail("%s is to be opened again while switchover %d closes it", task.App, w.ID)
		}
	}
	for name, a := range g.Apps {
		for _, mark := range []*Mark{a.Mark, a.Release} {
			if mark != nil && mark.Open != nil && mark.Open.Term == s.Term && g.Switchover.touches(name) {
				w := g.Switchover
				for _, step := range w.Steps {
					if step.App == name && step.Open != "" && step.OpenTerm == s.Term {
						fail("the hands of %s and of a mark's keeping are on %s together", step.Name, name)
					}
				}
			}
		}
	}
}

// opened counts the verdicts again, in the plainest way, whenever a failover was opened.
func (m *watch) opened(fail func(string, ...any), before *State, e Entry, after *State, old, g *GroupState) {
	w := g.Switchover
	if n := len(g.History); n > 0 && (len(old.History) == 0 || old.History[len(old.History)-1].ID != g.History[n-1].ID) && g.History[n-1].ID == e.Index {
		w = g.History[n-1] // opened and ended by one entry
	}
	if w == nil || w.ID != e.Index {
		return
	}
	if old.Switchover.Open() && g.Switchover.Open() && old.Switchover.ID != g.Switchover.ID {
		ended := slices.ContainsFunc(g.History, func(h *Switchover) bool { return h.ID == old.Switchover.ID })
		if !ended {
			fail("switchover %d was opened while %d was open", w.ID, old.Switchover.ID)
		}
	}
	if g.Epoch != old.Epoch+1 {
		fail("switchover %d raised the epoch from %d to %d", w.ID, old.Epoch, g.Epoch)
	}
	if w.Kind != KindFailover {
		if e.Command.Request == nil {
			fail("%s %d was opened without being asked for", w.Kind, w.ID)
		}
		return
	}
	p := after.Policy.Group(g.Name)
	if downs := downVerdicts(after, e.Command.Fresh, g, w.From); downs*2 <= after.Voters() || downs < p.Failover.Quorum {
		fail("failover %d was opened with %d down verdicts of %d watchers", w.ID, downs, after.Voters())
	}
	if g.Pause != nil || p.Failover.Mode != ModeAutomatic || old.Cooldown != nil && g.Cooldown != nil && !w.endedHere(g) {
		fail("failover %d was opened though it was held back", w.ID)
	}
}

func (w *Switchover) endedHere(g *GroupState) bool { return g.Switchover == nil }

// downVerdicts is the test's own count: distinct members, heard in this very entry, whose verdict on the app is down.
// A failover without steps that need hands has moved on within its entry, and the verdicts with it.
func downVerdicts(s *State, fresh []string, g *GroupState, app string) int {
	if g.Active != app {
		return len(s.Members)
	}
	n := 0
	for _, member := range s.Members {
		r := g.Apps[app].Reports[member.Name]
		if member.Voter() && slices.Contains(fresh, member.Name) && r != nil && r.Verdict == VerdictDown && r.Revision == g.Apps[app].Revision {
			n++
		}
	}
	return n
}

// moved checks that the record and the writer move only where the plan moves them.
func (m *watch) moved(fail func(string, ...any), s *State, old, g *GroupState) {
	w := g.Switchover
	if w == nil && len(g.History) > 0 {
		w = g.History[len(g.History)-1]
	}
	settled := !old.Settled && g.Settled && old.Switchover == nil && g.Switchover == nil
	if old.Active != g.Active && !settled {
		if w == nil || w.Step(StepSwitchDNS).State != StepDone || w.To != g.Active {
			fail("%s moved from %s to %s without a switch of the record", g.Name, old.Active, g.Active)
		}
		if s.Serial <= 0 || g.Switched == nil || g.Switched.Index != s.Index {
			fail("the record of %s moved and nobody is told", g.Name)
		}
	}
	if old.Writer != g.Writer && !settled && (w == nil || !w.PastNoReturn() || w.To != g.Writer) {
		fail("the writer of %s moved from %s to %s before the point of no return", g.Name, old.Writer, g.Writer)
	}
}

// started checks that hands move only when Next or Keep had offered it.
func (m *watch) started(fail func(string, ...any), before *State, e Entry, after *State, old, g *GroupState, r Result) {
	j := e.Command.Journal
	if r.Token == 0 || r.Index != e.Index || j == nil || j.Start == nil || j.Start.Group != g.Name || len(j.Ended) > 0 {
		return
	}
	if !slices.Contains(append(before.Next(g.Name), before.Keep(g.Name)...), j.Start.Task) {
		fail("an attempt was permitted that was not to be done: %+v", j.Start.Task)
	}
	if j.Start.Switchover == 0 || j.Start.Work != WorkAct {
		return
	}
	if j.Start.Unseen && !old.Switchover.PastNoReturn() && (j.Start.Step == StepStopReplication || g.Switchover.PastNoReturn()) {
		fail("%s was permitted for a target that was not seen", j.Start.Step)
	}
	if on := old.Switchover.Step(StepMaintenanceOn); r.Accepted && j.Start.FromOpen && j.Start.Step == StepMaintenanceOff &&
		(!on.Redo && !old.Apps[old.Switchover.From].BeingKept() || len(g.Switchover.Exceptions) == 0 || g.Apps[g.Switchover.From].Mark == nil) {
		fail("%s was opened beside %s, which was seen open, without a try to close it or a word of it", g.Switchover.To, g.Switchover.From)
	}
	if old.Switchover.PastNoReturn() || !g.Switchover.Open() || !g.Switchover.PastNoReturn() || old.Switchover.Kind != KindFailover {
		return
	}
	// The last moment at which the quorum may be asked: it must still find the old app down.
	if downs := downVerdicts(after, e.Command.Fresh, g, g.Switchover.From); g.Active == g.Switchover.From && downs*2 <= after.Voters() {
		fail("the point of no return was passed with %d down verdicts", downs)
	}
}
