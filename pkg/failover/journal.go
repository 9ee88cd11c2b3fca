package failover

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// journal takes in what a runner did and what it is about to do. The ends come first; what they lead to is worked out
// before the start is judged, so that one entry can end a step and begin the next.
func (s *State) journal(c *Journal) Result {
	r := Result{Accepted: true}
	for i := range c.Ended {
		if refusal, ok := s.ended(&c.Ended[i]); !ok {
			r = refusal
		}
	}
	if c.Start == nil {
		return r
	}
	// Also when nothing ended: this entry's list of watchers heard may have changed what is to be done.
	if g := s.Groups[c.Start.Group]; g != nil {
		s.advance(g)
	}
	return s.start(c.Start)
}

// start begins an attempt if Next offers it and no other attempt of this term is open on it. The answer's token is the
// permission to act; without one nothing may be done.
func (s *State) start(st *Start) Result {
	g := s.Groups[st.Group]
	if g == nil {
		return noGroup(st.Group)
	}
	if st.Switchover == 0 {
		return s.startKeeping(g, st)
	}
	w := g.Switchover
	if !w.Open() || w.ID != st.Switchover || !slices.Contains(s.Next(g.Name), st.Task) {
		return refuse(CodeStale, "not_next", "%s of %s on %s is not what switchover %d needs now", st.Work, st.Step, st.App, st.Switchover)
	}
	step := w.Step(st.Step)
	if step.Open != "" && step.OpenTerm == s.Term {
		return refuse(CodeStale, "attempt_open", "attempt %d of %s is open", step.Token, step.Name)
	}
	g.Apps[w.From].noteFrozen(st.From)
	g.Apps[w.To].noteFrozen(st.To)
	if st.Work == WorkAct {
		if r, ok := s.lastLook(g, w, st); !ok {
			return r
		}
		s.startAct(g, w, step, st)
	}
	step.Token, step.Open, step.OpenTerm = s.Token(s.Index), st.Work, s.Term
	if st.Work != WorkAfter || step.StartedAt == nil { // the hooks after it are a part of the step
		step.StartedAt = at(s.Time)
	}
	step.EndedAt = nil
	step.Attempts++
	data := attemptData(step)
	delete(data, "error") // the last attempt's
	s.event("step_started", g.Name, step.App, fmt.Sprintf("%s%s on %s", workText[st.Work], step.Name, step.App), data)
	return Result{Accepted: true, Switchover: w.ID, Token: step.Token}
}

func (s *State) startAct(g *GroupState, w *Switchover, step *Step, st *Start) {
	step.State = StepRunning
	if !step.Acted {
		step.Prior = cut(st.Prior, maxText)
	}
	if step.Found == "" { // the first one that was seen is from before anything was touched
		step.Found = cut(st.Found, MaxFound)
	}
	if o := st.To; step.Name == StepStopReplication && o != nil && o.Streaming && !w.AtRisk.BytesExact {
		// Nothing newer is to be had: from here on the target receives no more.
		w.AtRisk.Bytes, w.AtRisk.Seconds = cmp.Or(o.LagBytes, w.AtRisk.Bytes), cmp.Or(o.LagSeconds, w.AtRisk.Seconds)
	}
	if step.Name == StepFreeze {
		g.Apps[step.App].MayBeFrozen = true
	}
	first := !w.PastNoReturn()
	step.Acted = true
	if first && w.PastNoReturn() {
		s.passNoReturn(g, w)
		s.event("point_of_no_return", g.Name, w.To, w.To+" is the writer from now on", map[string]string{"switchover": fmt.Sprint(w.ID)})
	}
}

// workText says in an event what an attempt did for a step.
var workText = map[Work]string{WorkAct: "", WorkAfter: "after hooks of ", WorkUndo: "undo of "}

// ended closes an attempt. One that a later attempt has replaced is refused: its token is old.
func (s *State) ended(e *Ended) (Result, bool) {
	g := s.Groups[e.Group]
	if g == nil {
		return noGroup(e.Group), false
	}
	if e.Switchover == 0 {
		return s.endKeeping(g, e)
	}
	w := g.Switchover
	stale := refuse(CodeStale, "old_attempt", "attempt %d of %s is not the open one", e.Token, e.Step)
	if !w.Open() || w.ID != e.Switchover {
		return stale, false
	}
	step := w.Step(e.Step)
	if step == nil || step.Open == "" || step.Token != e.Token {
		return stale, false
	}
	work := step.Open
	step.Open, step.EndedAt = "", at(s.Time)
	step.Error = cut(e.Error, maxText)
	if work == WorkAfter {
		step.AfterOutput = cut(e.Output, MaxOutput)
	} else {
		step.Output, step.AfterOutput = cut(e.Output, MaxOutput), ""
	}
	if e.Outcome == OutcomeDone {
		step.Error = ""
	}
	s.event("step_"+string(e.Outcome), g.Name, step.App, fmt.Sprintf("%s%s on %s: %s", workText[work], step.Name, step.App, e.Outcome), attemptData(step))
	switch work {
	case WorkAct:
		s.actEnded(g, w, step, e)
	case WorkAfter:
		s.afterEnded(g, w, step, e)
	case WorkUndo:
		s.undoEnded(g, w, step, e)
	}
	return Result{}, true
}

func (s *State) actEnded(g *GroupState, w *Switchover, step *Step, e *Ended) {
	switch e.Outcome {
	case OutcomeDone:
		s.actDone(g, w, step, e)
	case OutcomeInterrupted:
		step.State = StepPending
	default:
		s.actFailed(g, w, step)
	}
}

func (s *State) actDone(g *GroupState, w *Switchover, step *Step, e *Ended) {
	if w.Result == ResultHalted {
		w.Result = ResultRunning
		s.event("going_on", g.Name, step.App, fmt.Sprintf("switchover %d goes on after %s", w.ID, step.Name), nil)
	}
	switch step.Name {
	case StepSwitchDNS:
		s.switchDNS(g, w)
		return
	case StepVerify:
		s.beginVerify(w) // only its before hooks have run
		return
	}
	switch step.Name {
	case StepCatchUp:
		w.AtRisk = noRisk()
	case StepFreeze:
		if e.Untold {
			g.Apps[step.App].Undone = s.Index
		}
		if m := g.Apps[step.App].Mark; m != nil {
			m.Refreeze = false // it has just been made whole
		}
	case StepPromote:
		g.Apps[step.App].MayBeFrozen = false
	}
	if e.Exception != "" {
		w.Exceptions = append(w.Exceptions, cut(fmt.Sprintf("%s on %s: %s", step.Name, step.App, e.Exception), maxText))
	}
	step.Untold = e.Untold
	step.Position = cut(e.Position, MaxFound)
	step.done(s.Time, w)
}

// actFailed counts a failed try. When the tries are used up: the first two steps of an unplanned switchover mark the
// app; past the point of no return the switchover is halted and tried on; before it, everything is taken back.
func (s *State) actFailed(g *GroupState, w *Switchover, step *Step) {
	step.Tries++
	step.State = StepPending
	if step.Tries < tries(w, step, WorkAct) && w.Undoing == "" {
		step.Waiting = s.Index
		return
	}
	switch {
	case w.Undoing != "":
		step.Tries = 0 // the undo's own tries begin
	case step.Name == StepFreeze && step.Redo && w.triedOnce(step.Name) && !w.unfenced():
		step.State = StepFailed
		s.holdBack(g, w, fmt.Sprintf("the database of %s answers but could not be frozen: %s", w.From, step.Error))
	case w.triedOnce(step.Name):
		step.State = StepMarked
		s.mark(g, w, step)
	case step.Name == StepVerify:
		s.reportUnverified(g, w, "its before hook failed: "+step.Error)
	case w.PastNoReturn():
		s.halt(g, w, step)
	default:
		step.State = StepFailed
		s.undo(g, w, fmt.Sprintf("%s on %s failed: %s", step.Name, step.App, step.Error))
	}
}

func (s *State) halt(g *GroupState, w *Switchover, step *Step) {
	step.State, step.Waiting = StepFailed, s.Index
	if w.Result != ResultHalted {
		w.Result = ResultHalted
		s.event("halted", g.Name, step.App, fmt.Sprintf("switchover %d of %s cannot go on by itself: %s on %s: %s", w.ID, g.Name, step.Name, step.App, step.Error),
			map[string]string{"switchover": fmt.Sprint(w.ID), "step": string(step.Name), "error": step.Error})
	}
}

func (s *State) reportUnverified(g *GroupState, w *Switchover, why string) {
	step := w.Step(StepVerify)
	step.State, step.Error, step.EndedAt, step.Waiting = StepFailed, cut(why, maxText), at(s.Time), 0
	w.Exceptions = append(w.Exceptions, "not verified: "+step.Error)
}

// afterEnded: a failing after hook is retried alone while the plan goes on, then it is an exception.
func (s *State) afterEnded(g *GroupState, w *Switchover, step *Step, e *Ended) {
	if w.Undoing != "" {
		return // the step itself is being taken back: its tries and waits are the undo's now
	}
	switch e.Outcome {
	case OutcomeDone:
		step.After, step.Tries = AfterDone, 0
	case OutcomeFailed:
		step.Tries++
		step.After = AfterRetrying
		step.Waiting = s.Index
		if step.Tries >= tries(w, step, WorkAfter) {
			step.After, step.Waiting = AfterFailed, 0
			w.Exceptions = append(w.Exceptions, fmt.Sprintf("after hook of %s failed: %s", step.Name, step.Error))
		}
	}
}

func (s *State) undoEnded(g *GroupState, w *Switchover, step *Step, e *Ended) {
	switch e.Outcome {
	case OutcomeDone:
		step.State, step.Tries = StepUndone, 0
		switch step.Name {
		case StepMaintenanceOn:
			g.Apps[step.App].takenBack(s.Index, PartMaintenance, step.Prior == PriorOn)
		case StepFreeze:
			g.Apps[step.App].takenBack(s.Index, PartDatabase, step.Prior == PriorFrozen)
		}
	case OutcomeFailed:
		step.State = StepFailed
		step.Tries++
		if step.Tries < tries(w, step, WorkUndo) {
			step.Waiting = s.Index
			return
		}
		s.releaseLater(g, w, step)
	}
}

// startKeeping begins an attempt to keep a mark or to do a release.
func (s *State) startKeeping(g *GroupState, st *Start) Result {
	if !slices.Contains(s.Keep(g.Name), st.Task) {
		return refuse(CodeStale, "not_due", "%s of %s is not to be kept now", st.Part, st.App)
	}
	m := g.Apps[st.App].obligation(st.Release)
	if m.Open != nil && m.Open.Term == s.Term {
		return refuse(CodeStale, "attempt_open", "attempt %d on %s is open", m.Open.Token, st.App)
	}
	if w := g.Switchover; st.Part == PartDatabase && g.Apps[st.App].TellsFrozen && w.awaitsPromotion(st.App) {
		w.noteWritable() // a keeper has seen it open; one that does not tell is frozen once more in any case
	}
	if st.Part == PartDatabase && !st.Release {
		g.Apps[st.App].MayBeFrozen = true
	}
	m.Open = &Attempt{Token: s.Token(s.Index), Term: s.Term, Part: st.Part, Since: s.Time, Timeout: s.Timeout(st.Task)}
	m.Attempts++
	return Result{Accepted: true, Token: m.Open.Token}
}

func (s *State) endKeeping(g *GroupState, e *Ended) (Result, bool) {
	stale := refuse(CodeStale, "old_attempt", "attempt %d on %s is not the open one", e.Token, e.App)
	a := g.Apps[e.App]
	if a == nil {
		return stale, false
	}
	m := a.obligation(e.Release)
	if m == nil || m.Open == nil || m.Open.Token != e.Token {
		return stale, false
	}
	part := m.Open.Part
	m.Open, m.Output = nil, cut(e.Output, MaxOutput)
	if part == PartReprotect {
		s.reprotected(g, a, e)
		return Result{}, true
	}
	m.Error = cut(e.Error, maxText)
	if part == PartDatabase && !e.Release {
		m.Refreeze = e.Outcome != OutcomeDone
		if e.Untold {
			a.Undone = s.Index
		}
	}
	if e.Outcome != OutcomeDone {
		return Result{}, true
	}
	m.Error = ""
	m.kept(part)
	if !e.Release {
		s.event("fenced", g.Name, a.Name, fmt.Sprintf("%s answers and was fenced again (%s)", a.Name, part), nil)
		return Result{}, true
	}
	m.settle(part)
	a.takenBack(s.Index, part, false)
	if m.empty() {
		a.Release = nil
	}
	s.event("released", g.Name, a.Name, fmt.Sprintf("what an undone switchover left on %s is taken back (%s)", a.Name, part), nil)
	return Result{}, true
}

func (a *AppState) obligation(release bool) *Mark {
	if release {
		return a.Release
	}
	return a.Mark
}

func (m *Mark) settle(part Part) {
	switch part {
	case PartMaintenance:
		m.Maintenance = false
	case PartDatabase:
		m.Database = false
	case PartReplication:
		m.Replication = false
	}
	delete(m.Found, part)
}

func (m *Mark) kept(part Part) {
	if m.Kept == nil {
		m.Kept = map[Part]int{}
	}
	m.Kept[part]++
}

func (m *Mark) empty() bool { return !m.Maintenance && !m.Database && !m.Replication }

func attemptData(step *Step) map[string]string {
	data := map[string]string{"step": string(step.Name), "token": fmt.Sprint(step.Token), "attempt": fmt.Sprint(step.Attempts)}
	if step.Error != "" {
		data["error"] = step.Error
	}
	return data
}

// tries is how often a work is tried before it counts as failed for good.
func tries(w *Switchover, step *Step, work Work) int {
	if work == WorkAct && w.hurried(step) {
		return 1
	}
	return max(1, w.Policy.Steps[step.Name].Tries)
}

// Timeout is how long one attempt of a task may take; 0 if the state knows nothing of it any more.
func (s *State) Timeout(t Task) time.Duration {
	if t.Switchover == 0 {
		return s.keepingTimeout(t)
	}
	g := s.Groups[t.Group]
	if g == nil || g.Switchover == nil {
		return 0
	}
	w := g.Switchover
	if step := w.Step(t.Step); step != nil && t.Work == WorkAct && w.hurried(step) {
		return w.Policy.Probing.Timeout
	}
	return w.Policy.Steps[t.Step].Timeout
}

// keepingTimeout is that of the step which the keeping repeats.
func (s *State) keepingTimeout(t Task) time.Duration {
	p := s.Policy.Group(t.Group)
	if p == nil {
		return 0
	}
	switch t.Part {
	case PartDatabase:
		return p.Steps[StepFreeze].Timeout
	case PartReplication:
		return p.Steps[StepStopReplication].Timeout
	case PartReprotect:
		return ReprotectTimeout
	}
	return p.Steps[StepMaintenanceOn].Timeout
}
