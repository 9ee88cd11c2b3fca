package failover

import (
	"fmt"
	"slices"
)

// lastLook judges what the runner saw just before the steps that give up the old app: stop-replication, the promotion itself, and
// the opening of the target. A target that did not answer is a failed try: nothing is given up for it. An old database that answers
// is frozen and caught up with first. One that stays writable, or is out of reach while the target may still receive from
// it, holds the promotion back; so does a third app's writable database.
func (s *State) lastLook(g *GroupState, w *Switchover, st *Start) (Result, bool) {
	if st.Unseen && !w.PastNoReturn() && (st.Step == StepStopReplication || st.Step == w.pointOfNoReturn().Name) {
		return s.failedTry(g, w, st.Step, "target_unseen", fmt.Sprintf("%s does not tell how it stands, and nothing is given up for a target that was not seen", w.To))
	}
	if st.Step == StepMaintenanceOff && st.FromOpen {
		return s.closeFirst(g, w)
	}
	freeze := w.Step(StepFreeze)
	if freeze == nil || st.Step != StepStopReplication && st.Step != StepPromote {
		return Result{}, true
	}
	answers := st.From != nil && st.From.Role != RoleUnknown
	believed := g.Apps[w.From].believedFrozen(freeze)
	writable := answers && st.From.Role == RolePrimary && !st.From.Frozen && !believed
	third := s.writableBeside(g, &w.Policy, w.From, w.To)
	if writable && st.Step == StepPromote && w.unfenced() && w.AtRisk.BytesExact {
		w.noteWritable() // it was frozen and caught up with, and is not frozen any more
	}
	switch {
	case w.PastNoReturn():
		return s.fenceFirst(g, w, st, writable, third)
	case st.Step == StepStopReplication && !freeze.Redo && answers && (writable || freeze.State != StepDone):
		return s.freezeFirst(w)
	case w.unfenced():
		return Result{}, true
	case writable:
		return s.holdBack(g, w, fmt.Sprintf("the database of %s answers as a writable primary", w.From))
	case answers && freeze.State != StepDone:
		return s.holdBack(g, w, fmt.Sprintf("the database of %s answers again", w.From))
	case !answers && freeze.State != StepDone && st.To != nil && st.To.Streaming:
		return s.holdBack(g, w, fmt.Sprintf("the database of %s is out of reach, but %s still receives from it", w.From, w.To))
	case !answers && freeze.State != StepDone && g.Apps[w.To].stoppedByUs():
		return s.holdBack(g, w, fmt.Sprintf("the database of %s is out of reach, and that %s receives nothing proves nothing: its replication was stopped here and is still to be resumed", w.From, w.To))
	case third != "":
		return s.holdBack(g, w, fmt.Sprintf("the database of %s is a writable primary too", third))
	}
	return Result{}, true
}

// believedFrozen reports whether a database that never tells it is taken to be frozen: by the step, or by the keeper of its mark.
func (a *AppState) believedFrozen(freeze *Step) bool {
	doubted := a.Mark != nil && a.Mark.Refreeze
	return !a.TellsFrozen && !doubted && freeze.State == StepDone && freeze.Untold || a.keptUntold()
}

// keptUntold reports whether a database that never tells it is taken to be frozen by the keeper of its mark, who freezes it again
// whenever it has not answered for a while.
func (a *AppState) keptUntold() bool {
	return !a.TellsFrozen && a.Mark != nil && a.Mark.Kept[PartDatabase] > 0 && !a.Mark.Refreeze
}

// fenceFirst keeps a promotion that is tried again from making a second writable database, when the old one has come back
// meanwhile. There is no way back, so the old app is marked, for its keeper to fence it, and the try counts as failed: one
// that cannot be fenced halts the switchover; and so does a third app's writable database, for as long as it is one. A target
// that is promoted already is only to be noted.
func (s *State) fenceFirst(g *GroupState, w *Switchover, st *Start, writable bool, third string) (Result, bool) {
	promoted := st.To != nil && st.To.Role == RolePrimary
	switch {
	case st.Step != StepPromote || promoted || w.unfenced():
		return Result{}, true
	case !writable && third != "":
		return s.failedTry(g, w, StepPromote, BlockRolesDisagree, fmt.Sprintf("the database of %s is a writable primary too; %s is not promoted beside it", third, w.To))
	case !writable:
		return Result{}, true
	}
	why := fmt.Sprintf("the database of %s answers as a writable primary; it has to be fenced before %s is promoted", w.From, w.To)
	if a := g.Apps[w.From]; a.Mark == nil || !a.Mark.Database {
		s.markApp(g, w, w.From, PartDatabase, why)
	}
	w.noteWritable()
	return s.failedTry(g, w, StepPromote, "fence_first", why)
}

// noteWritable takes back what was known to be at risk: an old database that takes writes again takes some that the target
// will never have, and nobody knows how many.
func (w *Switchover) noteWritable() {
	w.AtRisk.BytesExact, w.AtRisk.Seconds = false, nil
	text := fmt.Sprintf("the database of %s was writable again before %s was promoted; what it took then is lost", w.From, w.To)
	if !slices.Contains(w.Exceptions, text) {
		w.Exceptions = append(w.Exceptions, text)
	}
}

// awaitsPromotion reports whether an app's frozen database is what a promotion that is past its point of no return takes over from.
func (w *Switchover) awaitsPromotion(app string) bool {
	if !w.Open() || w.From != app || !w.PastNoReturn() {
		return false
	}
	freeze, promote := w.Step(StepFreeze), w.Step(StepPromote)
	return freeze != nil && freeze.State == StepDone && promote != nil && promote.State != StepDone
}

// failedTry refuses an attempt because of what was seen, and counts it as one that failed.
func (s *State) failedTry(g *GroupState, w *Switchover, name StepName, rule, why string) (Result, bool) {
	step := w.Step(name)
	step.Open, step.Error = "", why // an attempt that was open is another's, whose hands have been waited out
	s.actFailed(g, w, step)
	return refuse(CodeRefused, rule, "%s", why), false
}

// stoppedByUs reports whether an undone switchover stopped the app's replication and could not resume it yet.
func (a *AppState) stoppedByUs() bool { return a.Release != nil && a.Release.Replication }

// unfenced reports whether a person accepted that the old database may stay writable: by the policy, or by force.
func (w *Switchover) unfenced() bool {
	return w.Force || w.Policy.Failover.RequireFence == FenceNever
}

// freezeFirst goes back to freezing and catching up, because the old database turned out to answer after all.
func (s *State) freezeFirst(w *Switchover) (Result, bool) {
	for _, name := range []StepName{StepFreeze, StepCatchUp} {
		step := w.Step(name)
		step.State, step.Tries, step.Waiting, step.EndedAt = StepPending, 0, 0, nil
	}
	w.Step(StepFreeze).Redo = true
	if w.AtRisk.BytesExact { // it was caught up with, and takes writes again
		w.AtRisk.BytesExact, w.AtRisk.Seconds = false, nil
	}
	return refuse(CodeStale, "freeze_first", "the database of %s answers: it is frozen and caught up with first", w.From), false
}

// closeFirst goes back to closing the old app, because it answers open just before the target is opened: it could not be closed
// before, or has forgotten it in a restart. Once is enough, and where its keeper is at it already, that was the try: what is open
// even then does not keep the target closed as well. It is marked, and an exception.
func (s *State) closeFirst(g *GroupState, w *Switchover) (Result, bool) {
	step := w.Step(StepMaintenanceOn)
	if !step.Redo && !g.Apps[w.From].BeingKept() {
		if step.Redo = true; step.State == StepDone || step.State == StepMarked {
			step.State, step.Tries, step.Waiting, step.EndedAt = StepPending, 0, 0, nil
			step.After = "" // its hooks come after it once more; those that failed must not hold up the closing
		}
		return refuse(CodeStale, "close_first", "%s answers and is out of maintenance: it is closed before %s is opened", w.From, w.To), false
	}
	why := fmt.Sprintf("it answered out of maintenance when %s was opened", w.To)
	if a := g.Apps[w.From]; a.Mark == nil || !a.Mark.Maintenance {
		s.markApp(g, w, w.From, PartMaintenance, why)
	}
	if text := fmt.Sprintf("%s was not closed: %s", w.From, why); !slices.Contains(w.Exceptions, text) {
		w.Exceptions = append(w.Exceptions, text)
	}
	return Result{}, true
}

// BeingKept reports whether a keeper's hands are on a marked app, this leader's or an earlier one's.
func (a *AppState) BeingKept() bool { return a.Mark != nil && a.Mark.Open != nil }

func (s *State) holdBack(g *GroupState, w *Switchover, why string) (Result, bool) {
	s.undo(g, w, BlockOutOfReach+": "+why)
	if w.Kind == KindFailover {
		g.OutOfReach = why
	}
	return refuse(CodeRefused, BlockOutOfReach, "%s", why), false
}
