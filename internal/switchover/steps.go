package switchover

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// look is the attempt's read-only half. What it sees goes into the journal with the start.
func (a *attempt) look(ctx context.Context) sight {
	seen := sight{start: failover.Start{Task: a.task}}
	if a.task.Work == failover.WorkAfter {
		return seen
	}
	ctx, cancel := context.WithTimeout(ctx, a.timeout/2) // the other half is for acting
	defer cancel()
	switch a.task.Step {
	case failover.StepMaintenanceOn:
		a.lookAtMaintenance(ctx, &seen)
	case failover.StepMaintenanceOff:
		open := make(chan bool, 1)
		go func() { open <- a.oldIsOpen(ctx) }()
		a.lookAtMaintenance(ctx, &seen)
		seen.start.FromOpen = <-open
	case failover.StepFreeze:
		a.lookAtFreeze(ctx, &seen)
	case failover.StepStopReplication, failover.StepPromote:
		if a.task.Work == failover.WorkAct {
			a.lookTwice(ctx, &seen)
		}
	case failover.StepSwitchDNS, failover.StepVerify:
		seen.done = true // there are only hooks
	case failover.StepCatchUp:
		seen.done = a.task.Work == failover.WorkUndo // it leaves nothing behind
	}
	return seen
}

// wanted is what maintenance is to be after the attempt.
func (a *attempt) wanted() failover.Switch {
	on := a.task.Step == failover.StepMaintenanceOn
	if a.task.Work == failover.WorkUndo {
		on = a.step.Prior == failover.PriorOn
	}
	if on {
		return failover.SwitchOn
	}
	return failover.SwitchOff
}

func (a *attempt) lookAtMaintenance(ctx context.Context, seen *sight) {
	if a.target.Maintenance.Check == nil {
		return
	}
	is, err := a.maintenance().state(ctx, a.id)
	if is == failover.SwitchOn || err != nil && a.last.LastMaintenance == failover.SwitchOn {
		seen.start.Prior = failover.PriorOn // an app that does not answer now is as a quorum last saw it
	}
	if err != nil {
		seen.start.Unseen = a.task.Step == failover.StepMaintenanceOff
		return
	}
	seen.done = is == a.wanted()
}

// oldIsOpen reports whether the old app answers and is out of maintenance. Only one that this watcher's probes find up is asked, for
// no longer than one probe would: an app that is gone must not keep the new one waiting. That long a keeper that is closing it has
// as well. Without a check, one that is up and was never closed is open.
func (a *attempt) oldIsOpen(ctx context.Context) (open bool) {
	if a.from.Maintenance == nil || a.p.r.opts.upSince(a.task.Group, a.from.Name).IsZero() {
		return false
	}
	if a.from.Maintenance.Check == nil {
		m := a.old().Mark
		return m != nil && m.Maintenance && m.Kept[failover.PartMaintenance] == 0
	}
	ctx, cancel := context.WithTimeout(ctx, min(a.timeout/2, a.w.Policy.Probing.Timeout))
	defer cancel()
	id := a.id
	id.app = a.from.Name
	for {
		is, err := maintenance{out: a.p.r.out, policy: a.from.Maintenance}.state(ctx, id)
		if err != nil {
			return open
		}
		if open = is == failover.SwitchOff; !open || !a.old().BeingKept() || !waitFor(ctx, streamPoll) {
			return open
		}
	}
}

// old is how the old app stands now. Its group may be gone since the attempt began.
func (a *attempt) old() *failover.AppState {
	if g := a.p.journal.State().Groups[a.task.Group]; g != nil && g.Apps[a.from.Name] != nil {
		return g.Apps[a.from.Name]
	}
	return &failover.AppState{}
}

func (a *attempt) lookAtFreeze(ctx context.Context, seen *sight) {
	if a.last.LastFrozen {
		seen.start.Prior = failover.PriorFrozen // unless it tells otherwise
	}
	db, err := a.database()
	if err != nil {
		return
	}
	a.lookAtFound(ctx, seen)
	o, err := db.Observe(ctx)
	if err != nil {
		return
	}
	seen.start.Prior = ""
	if o.Frozen {
		seen.start.Prior = failover.PriorFrozen
	}
	// A database that does not tell its freeze may be frozen, also by an attempt that failed half-way: only lifting the
	// freeze makes sure.
	wantFrozen := a.task.Work == failover.WorkAct || a.step.Prior == failover.PriorFrozen
	seen.done = o.Frozen == wantFrozen && (wantFrozen || o.Role == failover.RolePrimary && db.TellsFrozen())
	if a.task.Work == failover.WorkAct && o.Role != failover.RoleReplica && (db.TellsFrozen() || a.step.Attempts > 0) {
		// The setting alone is half a freeze: who began to write before it may still be there. Freezing again is safe.
		seen.done = false
	}
}

// lookAtFound sees what undoing the step would need, before it is first done.
func (a *attempt) lookAtFound(ctx context.Context, seen *sight) {
	if a.task.Work != failover.WorkAct || a.step.Found != "" {
		return
	}
	db, err := a.database()
	if err != nil {
		seen.blind = err
		return
	}
	found, err := db.Found(ctx, a.task.Step)
	if err == nil && len(found) > failover.MaxFound {
		err = fmt.Errorf("it has %d bytes, the limit is %d", len(found), failover.MaxFound)
	}
	if seen.blind = err; err == nil {
		seen.start.Found = found
	}
}

// streamPoll is how often a stream is looked at again that may be the last word of a database which hangs.
const streamPoll = 100 * time.Millisecond

// lookTwice looks at the database that is about to be given up and at the one that takes its place, together. The old
// one gets no longer than one probe would.
func (a *attempt) lookTwice(ctx context.Context, seen *sight) {
	a.lookAtBoth(ctx, &seen.start)
	for a.mayBeStale(seen.start) && waitFor(ctx, streamPoll) {
		a.lookAtBoth(ctx, &seen.start)
	}
	to := seen.start.To
	seen.start.Unseen = to == nil
	seen.done = a.task.Step == failover.StepPromote && to != nil && to.Role == failover.RolePrimary && !to.Frozen && !a.mayBeFrozen(a.db)
	if to != nil && a.task.Step == failover.StepStopReplication {
		a.lookAtFound(ctx, seen)
	}
}

// mayBeFrozen reports whether an earlier switchover's freeze may still be on the target, whose database does not tell.
func (a *attempt) mayBeFrozen(db Database) bool {
	return a.last.MayBeFrozen && !a.last.TellsFrozen && !db.TellsFrozen()
}

// lookAtBoth keeps the last sight of the target when the time cuts off a look at it: that says nothing new.
func (a *attempt) lookAtBoth(ctx context.Context, st *failover.Start) {
	old := make(chan failover.Observation, 1)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, min(a.timeout/2, a.w.Policy.Probing.Timeout))
		defer cancel()
		o, err := a.p.r.out.look(ctx, a.from.Database, a.id)
		if err != nil {
			o.Role = failover.RoleUnknown
		}
		old <- o
	}()
	if to := a.lookAtTarget(ctx); to != nil {
		st.To = to
	}
	if from := <-old; from.Role != failover.RoleUnknown {
		st.From = &from
	}
}

func (a *attempt) lookAtTarget(ctx context.Context) *failover.Observation {
	db, err := a.database()
	if err != nil {
		return nil
	}
	o, err := db.Observe(ctx)
	if err != nil {
		return nil
	}
	return &o
}

// mayBeStale reports whether the rules are about to hold the promotion back because the target still receives from a
// database that we do not reach, or does not tell. A replica notices a primary that hangs only after a while, so it is
// asked again for as long as there is time to look, rather than taking everything back.
func (a *attempt) mayBeStale(st failover.Start) bool {
	freeze := a.w.Step(failover.StepFreeze)
	return st.Step == failover.StepStopReplication && st.From == nil && (st.To == nil || st.To.Streaming) &&
		freeze.State != failover.StepDone && !a.w.Force && a.w.Policy.Failover.RequireFence != failover.FenceNever
}

func waitFor(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// act does the step's work, or its undoing, and reads it back.
func (a *attempt) act(ctx context.Context) deed {
	var d deed
	switch a.task.Step {
	case failover.StepMaintenanceOn, failover.StepMaintenanceOff:
		d.output, d.err = a.maintenance().set(ctx, a.wanted(), a.id)
		return d
	case failover.StepSwitchDNS, failover.StepVerify:
		return d
	}
	db, err := a.database()
	if err != nil {
		return deed{err: err}
	}
	db.Begin(a.id.token)
	undo := a.task.Work == failover.WorkUndo
	switch {
	case a.task.Step == failover.StepFreeze && !undo:
		d = position(ctx, db, freeze(ctx, db, a.last.TellsFrozen))
	case a.task.Step == failover.StepFreeze && a.step.Prior != failover.PriorFrozen:
		d.output, d.err = unfreeze(ctx, db, a.step.Found)
	case a.task.Step == failover.StepCatchUp && !undo:
		d = a.catchUp(ctx, db)
	case a.task.Step == failover.StepStopReplication && !undo:
		d.output, d.err = stopReplication(ctx, db)
	case a.task.Step == failover.StepStopReplication:
		d.output, d.err = db.ResumeReplication(ctx, a.step.Found)
	case a.task.Step == failover.StepPromote && !undo:
		d = promote(ctx, db, a.mayBeFrozen(db))
	}
	return d
}

// confirm is what is left of a step that was found done: a database that was frozen already is asked where its log ends.
func (a *attempt) confirm(ctx context.Context) deed {
	if a.task.Step != failover.StepFreeze || a.task.Work != failover.WorkAct || a.db == nil {
		return deed{}
	}
	a.db.Begin(a.id.token)
	return position(ctx, a.db, deed{})
}

// catchUp waits for the position that was journaled with the freeze or, as long as the old database tells one, for that: if
// somebody wrote past the freeze, nothing of it is lost.
func (a *attempt) catchUp(ctx context.Context, db Database) (d deed) {
	upTo := a.w.Step(failover.StepFreeze).Position
	if upTo != "" {
		now, err := a.positionNow(ctx)
		if err != nil {
			return deed{err: err}
		}
		upTo = cmp.Or(now, upTo)
	}
	d.output, d.err = db.CatchUp(ctx, upTo)
	return d
}

// positionNow asks the old database again. One that does not answer any more has told all that it can tell.
func (a *attempt) positionNow(ctx context.Context) (string, error) {
	from, err := a.p.r.out.database(a.from.Database, a.id)
	if err != nil {
		return "", nil
	}
	defer from.Close()
	short, cancel := context.WithTimeout(ctx, min(a.timeout/2, a.w.Policy.Probing.Timeout))
	defer cancel()
	if o, err := from.Observe(short); err != nil || o.Role != failover.RolePrimary {
		return "", nil
	}
	from.Begin(a.id.token)
	d := position(short, from, deed{})
	if d.err != nil && short.Err() != nil {
		return "", nil
	}
	return d.position, d.err
}

func (a *attempt) maintenance() maintenance {
	return maintenance{out: a.p.r.out, policy: a.target.Maintenance}
}

// upSince asks this watcher's own probes.
func (o Options) upSince(group, app string) time.Time {
	if o.UpSince == nil {
		return time.Time{}
	}
	return o.UpSince(group, app)
}
