package failover

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Waits that the plan itself sets.
const (
	haltedRetry  = 30 * time.Second // between tries past the point of no return
	undoneRetry  = 30 * time.Second // until an undone failover is tried again; doubles up to the cooldown
	heldTooLong  = 30 * time.Second // a failover whose outage the quorum no longer sees is undone after this
	signalsApart = 60 * time.Second // after a switchover that was asked for, signals are refused
)

// noun is the kind as a sentence needs it.
func (k Kind) noun() string {
	if k == KindFailover {
		return string(k)
	}
	return string(k) + " switchover"
}

// opening is what a new switchover is made of.
type opening struct {
	kind  Kind
	to    string
	cause string
	by    string
	force bool
}

// open begins a switchover. The caller has checked that none is open.
func (s *State) open(g *GroupState, o opening) *Switchover {
	p := s.Policy.Group(g.Name)
	g.Epoch++
	g.Settled = true
	w := &Switchover{
		ID: s.Token(s.Index), Group: g.Name, Kind: o.kind, From: g.Active, To: o.to, Cause: cut(o.cause, maxText), By: o.by, Epoch: g.Epoch,
		StartedAt: s.Time, Result: ResultRunning, Force: o.force, Policy: *p, Steps: steps(p, g.Active, o.to),
	}
	w.AtRisk = s.atRisk(g, p, o.to)
	g.Switchover = w
	s.event("switchover_opened", g.Name, o.to, fmt.Sprintf("%s of %s from %s to %s: %s", o.kind.noun(), g.Name, w.From, w.To, w.Cause),
		map[string]string{"switchover": fmt.Sprint(w.ID), "kind": string(o.kind), "from": w.From, "to": w.To, "by": o.by, "epoch": fmt.Sprint(w.Epoch)})
	return w
}

// steps lays out the plan. A group without a database has no database steps; a step whose app lacks what it acts on is
// left out by rule.
func steps(p *Group, from, to string) []Step {
	var list []Step
	for _, name := range Plan {
		step := Step{Name: name, App: to, State: StepPending}
		switch name {
		case StepMaintenanceOn:
			step.App = from
			step.skipUnless(p.App(from).Maintenance != nil)
		case StepMaintenanceOff:
			step.skipUnless(p.App(to).Maintenance != nil)
		case StepFreeze, StepCatchUp, StepStopReplication, StepPromote:
			if !p.HasDatabase() {
				continue
			}
			if name == StepFreeze {
				step.App = from
			}
		}
		list = append(list, step)
	}
	return list
}

func (step *Step) skipUnless(exists bool) {
	if !exists {
		step.State = StepSkipped
	}
}

// atRisk is what promoting an app now may lose, from the evidence that the watchers sent. Each watcher's seconds are an
// upper bound by itself, so the least of them is one too; what was written after the last sample nobody knows, so bytes
// are "at least". A lag that was worked out from positions is no bound: it leaves out what was written since the newest look at
// the writer.
func (s *State) atRisk(g *GroupState, p *Group, to string) AtRisk {
	if !p.HasDatabase() {
		return noRisk()
	}
	var risk AtRisk
	for _, r := range s.freshReports(g.Apps[to]) {
		o := r.Database
		if o == nil {
			continue
		}
		if o.LagBytes != nil && (risk.Bytes == nil || *o.LagBytes > *risk.Bytes) {
			risk.Bytes = o.LagBytes
		}
		x := o.RiskSeconds
		if x == nil && o.Position == nil {
			x = o.LagSeconds
		}
		if x != nil && (risk.Seconds == nil || *x < *risk.Seconds) {
			risk.Seconds = x
		}
	}
	return risk
}

func noRisk() AtRisk {
	bytes, secs := int64(0), 0.0
	return AtRisk{Bytes: &bytes, BytesExact: true, Seconds: &secs}
}

// advance takes the running switchover as far as it goes without hands: steps left out by rule, the switch of the
// record, the verification, the end.
func (s *State) advance(g *GroupState) {
	w := g.Switchover
	if !w.Open() || g.Unconfirmed != nil {
		return
	}
	s.reconsider(g, w)
	if w.Undoing != "" {
		if nextUndo(w) == nil {
			s.endUndone(g, w)
		}
		return
	}
	s.skipCatchUp(w)
	// Without a maintenance switch on the target this is the point of no return, and waits for what that has to wait for.
	if s.canRunItself(w, StepSwitchDNS) && w.Held == 0 && !s.keeperAtWork(g, w, w.Step(StepSwitchDNS)) {
		s.switchDNS(g, w)
	}
	if s.canRunItself(w, StepVerify) {
		step := w.Step(StepVerify)
		step.Token, step.StartedAt, step.Attempts = s.Token(s.Index), at(s.Time), 1
		s.beginVerify(w)
	}
	s.verify(g, w)
	if complete(w) {
		s.end(g, w)
	}
}

// reconsider looks at a failover that can still be taken back: a main that is healthy again undoes it, and one that the
// quorum no longer holds down keeps it waiting, for a bounded time.
func (s *State) reconsider(g *GroupState, w *Switchover) {
	if w.Kind != KindFailover || w.Undoing != "" || w.PastNoReturn() {
		w.Held = 0
		return
	}
	a := g.Apps[w.From]
	switch {
	case a.Health == HealthUp:
		w.Recovered = true
		s.undo(g, w, w.From+" is healthy again")
	case s.count(a, VerdictDown) >= s.needed(&w.Policy):
		w.Held = 0
	case w.Held == 0:
		w.Held = s.Index
	}
}

// skipCatchUp leaves catch-up out when the old database could not be frozen: there is no end to catch up to, so the lag
// rule has decided and what is at risk stays journaled.
func (s *State) skipCatchUp(w *Switchover) {
	freeze, catchUp := w.Step(StepFreeze), w.Step(StepCatchUp)
	if freeze == nil || catchUp.State != StepPending {
		return
	}
	if freeze.State == StepMarked || freeze.State == StepSkipped {
		catchUp.State = StepSkipped
		catchUp.EndedAt = at(s.Time)
	}
}

// canRunItself reports whether a step that acts on nothing outside is due now and has no before hooks to be run first.
func (s *State) canRunItself(w *Switchover, name StepName) bool {
	step := w.Step(name)
	return step.State == StepPending && step.Waiting == 0 && len(w.Policy.Steps[name].Before) == 0 && reachable(w, name)
}

// reachable reports whether everything that the step of that name waits for is settled.
func reachable(w *Switchover, name StepName) bool {
	for i := range w.Steps {
		step := &w.Steps[i]
		if step.Name == name {
			return true
		}
		if step.After == AfterPending || !step.settled() && !w.beside(step.Name, name) {
			return false
		}
	}
	return false
}

// beside reports whether a later step need not wait for the first one: in a failover the first two are tried together,
// and without a database the first does not hold up the rest, unless the last look asked for it again.
func (w *Switchover) beside(first, later StepName) bool {
	return first == StepMaintenanceOn && w.triedOnce(first) && !w.Step(first).Redo && (later == StepFreeze || !w.Policy.HasDatabase())
}

func (step *Step) settled() bool {
	return step.State == StepDone || step.State == StepSkipped || step.State == StepMarked
}

// triedOnce reports whether the step is one of the two that an unplanned switchover tries once and then marks. Past the point of
// no return that goes for every kind: nothing can be taken back for an app that does not let itself be closed again.
func (w *Switchover) triedOnce(name StepName) bool {
	return (w.Kind != KindPlanned || w.PastNoReturn()) && (name == StepMaintenanceOn || name == StepFreeze)
}

// hurried reports whether a step gets one try of one probe's timeout only. A freeze that the last look asked for again gets
// what its settings say: the database answers, so it is worth the time. An app that is closed again holds up the opening of the
// target, past which its keeper goes on trying.
func (w *Switchover) hurried(step *Step) bool {
	return w.triedOnce(step.Name) && !(step.Redo && step.Name == StepFreeze)
}

// switchDNS is the switch: committing it is all that is done, every name server answers from the state.
func (s *State) switchDNS(g *GroupState, w *Switchover) {
	step := w.Step(StepSwitchDNS)
	if step.Open == "" {
		step.Token, step.StartedAt = s.Token(s.Index), at(s.Time)
		step.Attempts++
	}
	step.done(s.Time, w)
	s.passNoReturn(g, w)
	s.changeRoles(g, w.To)
	s.bumpSerial()
	g.Switched = &Switched{Index: s.Index, TTL: uint32(s.Policy.Zone.TTL / time.Second)}
	s.event("record_switched", g.Name, w.To, fmt.Sprintf("the record of %s points at %s", g.Name, w.To),
		map[string]string{"serial": fmt.Sprint(s.Serial), "switchover": fmt.Sprint(w.ID)})
}

// passNoReturn makes the target the writer and ends its own mark. What earlier switchovers owed to the two apps would now
// work against the plan; a third app's replication is still to be resumed.
func (s *State) passNoReturn(g *GroupState, w *Switchover) {
	if g.Writer != w.To {
		g.dropReprotects(w.To + " has become the writer since it was asked for; ask again")
		g.WriterTimeline = 0 // it begins another one
	}
	g.Writer = w.To
	g.Apps[w.To].Mark = nil
	g.Apps[w.From].Release, g.Apps[w.To].Release = nil, nil
	if w.Policy.HasDatabase() && g.Apps[w.From].Mark == nil {
		// It was fenced, but a reboot may wash that off: the old primary stays fenced until it is a replica.
		s.markApp(g, w, w.From, "", fmt.Sprintf("its database was the writer until switchover %d", w.ID))
	}
}

// done settles a step whose outcome is verified.
func (step *Step) done(t time.Time, w *Switchover) {
	step.State, step.Open, step.Error, step.Tries, step.Waiting = StepDone, "", "", 0, 0
	step.EndedAt = at(t)
	if len(w.Policy.Steps[step.Name].After) > 0 {
		step.After = AfterPending
	}
}

// beginVerify starts the wait for the evidence, which ends with it or with the step's timeout.
func (s *State) beginVerify(w *Switchover) {
	step := w.Step(StepVerify)
	step.State, step.Waiting = StepRunning, s.Index
}

// verify ends the last step when the new app is up by quorum and every watcher that is heard answers the new record.
func (s *State) verify(g *GroupState, w *Switchover) {
	step := w.Step(StepVerify)
	if step.State != StepRunning || step.Waiting == 0 {
		return
	}
	if len(s.unverified(g, w)) == 0 {
		step.done(s.Time, w)
	}
}

// unverified says what keeps the switch from being a success.
func (s *State) unverified(g *GroupState, w *Switchover) []string {
	var list []string
	if a := g.Apps[w.To]; a.Health != HealthUp {
		list = append(list, fmt.Sprintf("%s is %s by quorum", w.To, a.Health))
	}
	if !s.HasQuorum() {
		list = append(list, "no quorum of watchers is heard")
	}
	for _, m := range s.Members {
		if s.IsFresh(m.Name) && g.Switched != nil && m.About.Served < g.Switched.Index {
			list = append(list, m.Name+" does not answer the new record")
		}
	}
	return list
}

// complete reports whether nothing is left to do: every step settled or reported, no hook waiting.
func complete(w *Switchover) bool {
	for i := range w.Steps {
		step := &w.Steps[i]
		reported := step.Name == StepVerify && step.State == StepFailed
		if !step.settled() && !reported || step.Open != "" || step.After == AfterPending || step.After == AfterRetrying {
			return false
		}
	}
	return true
}

// end closes a switchover that has moved the group.
func (s *State) end(g *GroupState, w *Switchover) {
	w.Result = ResultDone
	if len(w.Exceptions) > 0 {
		w.Result = ResultDoneWithExceptions
	}
	g.Undone, g.LastTarget, g.OutOfReach, g.Retry = 0, "", "", nil
	s.close(g, w)
}

// endUndone closes a switchover that has been taken back, and sets when a failover is tried again: the next ready app
// first, unless it was the old one's recovery that ended it. An aborted one waits for the cooldown, if there is one.
func (s *State) endUndone(g *GroupState, w *Switchover) {
	w.Result = ResultUndone
	if w.Aborted {
		w.Result = ResultAborted
	}
	if w.Kind == KindFailover && (!w.Aborted || w.Policy.Failover.Cooldown == 0) {
		g.Retry = &Hold{Index: s.Index, Since: s.Time, For: w.retryAfter(g.Undone)}
		g.Undone++
		if !w.Recovered {
			g.LastTarget = w.To
		}
	} else {
		g.OutOfReach = "" // it ends with the retry, and there is none
	}
	s.close(g, w)
}

// retryAfter doubles with every failover undone in a row, up to the cooldown.
func (w *Switchover) retryAfter(undone int) time.Duration {
	wait := undoneRetry << min(undone, 20)
	if most := w.Policy.Failover.Cooldown; wait > most {
		wait = max(most, undoneRetry)
	}
	return wait
}

// close moves the switchover to the history. The cooldown starts here, at the end, so that a leader that dies in the
// middle cannot block its successor.
func (s *State) close(g *GroupState, w *Switchover) {
	w.EndedAt = at(s.Time)
	if w.Result != ResultUndone && w.Policy.Failover.Cooldown > 0 {
		g.Cooldown = &Hold{Index: s.Index, Since: s.Time, For: w.Policy.Failover.Cooldown}
	}
	if w.By != "quorum" {
		g.AskedEnd = &Hold{Index: s.Index, Since: s.Time, For: signalsApart}
	}
	g.Switchover = nil
	g.History = appendBounded(g.History, HistoryKept, w)
	g.count(w)
	s.event("switchover_ended", g.Name, w.To, fmt.Sprintf("%s %d of %s: %s", w.Kind.noun(), w.ID, g.Name, w.Result),
		map[string]string{"switchover": fmt.Sprint(w.ID), "kind": string(w.Kind), "from": w.From, "to": w.To, "epoch": fmt.Sprint(w.Epoch),
			"result": string(w.Result), "why": strings.Join(append(slices.Clone(w.Exceptions), w.Undoing), "; ")})
}

func (g *GroupState) count(w *Switchover) {
	counts := map[string]uint64{}
	for k, n := range g.Counts {
		counts[k] = n
	}
	counts[string(w.Kind)+"/"+string(w.Result)]++
	g.Counts = counts
}
