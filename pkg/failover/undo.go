package failover

import "fmt"

// undo turns a switchover back. Every step that was started is undone in reverse; the old app is the writer, so a mark
// that this switchover put on it goes.
func (s *State) undo(g *GroupState, w *Switchover, why string) {
	w.Undoing = cut(why, maxText)
	w.Result = ResultRunning
	w.Held = 0
	if a := g.Apps[w.From]; a.Mark != nil && a.Mark.Switchover == w.ID {
		a.Mark = nil
	}
	for i := range w.Steps {
		w.Steps[i].Tries, w.Steps[i].Waiting = 0, 0
	}
	s.event("undoing", g.Name, w.From, fmt.Sprintf("switchover %d of %s is undone: %s", w.ID, g.Name, w.Undoing), nil)
}

// undoable steps leave something behind that can be taken back.
func undoable(name StepName) bool {
	return name == StepMaintenanceOn || name == StepFreeze || name == StepStopReplication
}

// nextUndo is the last started step that is neither undone nor given up, nil when there is none.
func nextUndo(w *Switchover) *Step {
	for i := len(w.Steps) - 1; i >= 0; i-- {
		step := &w.Steps[i]
		if step.Open != "" && !undoable(step.Name) {
			return step // its hands must be still before anything is taken back
		}
		if undoable(step.Name) && step.Acted && step.State != StepUndone && !step.undoGivenUp(w) {
			return step
		}
	}
	return nil
}

// undoGivenUp reports whether the undo of a step has had all its tries; what is left became a release.
func (step *Step) undoGivenUp(w *Switchover) bool {
	return step.State == StepFailed && step.Tries >= tries(w, step, WorkUndo) && step.Open == ""
}

// releaseLater keeps an undo that could not be done as an obligation on the app. What was closed before the switchover
// touched it is not to be opened.
func (s *State) releaseLater(g *GroupState, w *Switchover, step *Step) {
	if !undoable(step.Name) || step.wasClosed() {
		return
	}
	a := g.Apps[step.App]
	if a.Release == nil {
		a.Release = &Mark{Index: s.Index, Since: s.Time, Switchover: w.ID}
	}
	switch step.Name {
	case StepMaintenanceOn:
		a.Release.Maintenance = true
	case StepFreeze:
		a.Release.Database = true
		a.Release.found(PartDatabase, step.Found)
	case StepStopReplication:
		a.Release.Replication = true
		a.Release.found(PartReplication, step.Found)
	}
	s.event("undo_kept", g.Name, a.Name, fmt.Sprintf("%s on %s could not be undone, it is tried again: %s", step.Name, a.Name, step.Error), nil)
}

// found keeps what a release has to put back. What an earlier switchover found, and could not put back either, is older and so
// nearer to how it was.
func (m *Mark) found(part Part, text string) {
	if text == "" || m.Found[part] != "" {
		return
	}
	if m.Found == nil {
		m.Found = map[Part]string{}
	}
	m.Found[part] = text
}

// wasClosed reports whether the step found done what it was to do, so that its undo opens nothing.
func (step *Step) wasClosed() bool {
	return step.Name == StepMaintenanceOn && step.Prior == PriorOn || step.Name == StepFreeze && step.Prior == PriorFrozen
}

// mark commits that an app is to be kept fenced, because a step on it could not be done.
func (s *State) mark(g *GroupState, w *Switchover, step *Step) {
	part := PartMaintenance
	if step.Name == StepFreeze {
		part = PartDatabase
	}
	s.markApp(g, w, step.App, part, fmt.Sprintf("%s could not be done: %s", step.Name, step.Error))
	if part == PartDatabase {
		g.Apps[step.App].Mark.Refreeze = true
	}
}

func (s *State) markApp(g *GroupState, w *Switchover, app string, part Part, why string) {
	a := g.Apps[app]
	if a.Mark == nil {
		a.Mark = &Mark{Index: s.Index, Since: s.Time, Switchover: w.ID}
	}
	switch part {
	case PartMaintenance:
		a.Mark.Maintenance = true
	case PartDatabase:
		a.Mark.Database = true
	}
	s.event("marked", g.Name, app, fmt.Sprintf("%s is kept fenced from now on: %s", app, why), nil)
}

// washMark ends a mark when its app is a verified replica of the writer. Nothing else does, but becoming the target: a
// reboot washes off what was done to an app, not what is owed.
func (s *State) washMark(g *GroupState, a *AppState) {
	p := s.Policy.Group(g.Name)
	if a.Mark == nil || a.Name == g.Writer || !p.HasDatabase() || a.Mark.Open != nil {
		return
	}
	if s.verifiedReplica(g, p, a) < s.Majority() {
		return
	}
	a.Mark = nil
	s.event("unmarked", g.Name, a.Name, a.Name+" is a verified replica again", nil)
}

// verifiedReplica counts the watchers that see the app's database fit to be promoted and receiving, both at once.
func (s *State) verifiedReplica(g *GroupState, p *Group, a *AppState) int {
	n := 0
	id, timeline := s.writerIdentity(g)
	for _, r := range s.freshReports(a) {
		if code, _ := unfit(r.Database, id, timeline, p.Failover.MaxLag); code == "" && r.Database.Streaming {
			n++
		}
	}
	return n
}
