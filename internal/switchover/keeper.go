package switchover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// keeperPatience is the longest wait between attempts to keep an obligation that fail.
const keeperPatience = 10 * time.Second

// keeper keeps a group's obligations: marked apps are looked at with every probe round and fenced again whenever they
// answer open; what an undo could not take back is taken back as soon as the app answers. It acts like any attempt:
// journaled before and after, with a token of its own.
type keeper struct {
	r       *Runner
	journal Journal
	group   string
	began   time.Time // when this watcher began to lead
	term    uint64    // the state's, then
	log     zerolog.Logger

	mu       sync.Mutex // guards what follows
	believed map[failover.Task]belief
	ids      map[failover.Task]string // what database was seen last
	upAt     map[failover.Task]time.Time
}

// belief is held of a database that is taken to be frozen, since it does not tell.
type belief struct {
	seen time.Time // when it last answered
	id   string    // its cluster, if it tells that
}

func newKeeper(r *Runner, j Journal, group string, began time.Time, term uint64) *keeper {
	return &keeper{r: r, journal: j, group: group, began: began, term: term, log: r.opts.Log.With().Str("group", group).Logger(),
		believed: map[failover.Task]belief{}, ids: map[failover.Task]string{}, upAt: map[failover.Task]time.Time{}}
}

// run looks after each obliged app in a goroutine of its own, so that a slow one does not hold up another.
func (k *keeper) run(ctx context.Context) {
	var tending sync.WaitGroup
	defer tending.Wait()
	busy := map[string]chan struct{}{}
	ended := make(chan struct{}, 1)
	for {
		changed := k.journal.Watch()
		state := k.journal.State()
		if state.Groups[k.group] == nil {
			return
		}
		for _, app := range state.Obliged(k.group) {
			if done, ok := busy[app]; ok && !isClosed(done) || ctx.Err() != nil {
				continue
			}
			done := make(chan struct{})
			busy[app] = done
			tending.Add(1)
			go func() {
				defer tending.Done()
				defer poke(ended)
				defer close(done)
				k.tend(ctx, app)
			}()
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-ended: // something may have come to be owed there just when nothing was
		}
	}
}

// tend keeps one app until nothing is owed there. It looks at the retry rhythm also while all is as it should be: an app
// that dies and comes back between two looks must not stay open for longer than that.
func (k *keeper) tend(ctx context.Context, app string) {
	failures, after := map[failover.Task]int{}, map[failover.Task]time.Time{}
	for {
		state := k.journal.State()
		if !slices.Contains(state.Obliged(k.group), app) {
			return
		}
		if wait := foreignKeeper(state, k.group, app, k.began); wait > 0 {
			if !waitFor(ctx, min(wait, state.Policy.Group(k.group).Probing.RetryInterval)) { // its end may be told before
				return
			}
			continue
		}
		k.giveUpOrphans(ctx, state, app)
		rhythm := state.Policy.Group(k.group).Probing.RetryInterval
		for _, task := range state.Keep(k.group) {
			if task.App != app || time.Now().Before(after[task]) {
				continue
			}
			if k.keep(ctx, task) {
				delete(failures, task)
				continue
			}
			// Each failing attempt is two entries in the log, so they come less often the longer they fail.
			failures[task]++
			after[task] = time.Now().Add(min(rhythm<<min(failures[task], 10), max(keeperPatience, rhythm)))
		}
		if !waitFor(ctx, rhythm) {
			return
		}
	}
}

// giveUpOrphans ends attempts that an earlier leader, or an earlier Lead of this one, left open, now that their time is over: as
// long as one is open no step may touch the app, nor is its mark lifted. Hands of this Lead are not there: tend is their only
// owner, and it tells their end. In a state of a later term they are the next leader's, who moves them now.
func (k *keeper) giveUpOrphans(ctx context.Context, state *failover.State, app string) {
	a := state.Groups[k.group].Apps[app]
	for _, m := range []*failover.Mark{a.Mark, a.Release} {
		if m != nil && m.Open != nil && state.Term == k.term {
			task := failover.Task{Group: k.group, App: app, Part: m.Open.Part, Release: m == a.Release}
			k.tell(ctx, failover.Ended{Task: task, Token: m.Open.Token, Outcome: failover.OutcomeInterrupted, Error: errOrphan.Error()})
		}
	}
}

// keep looks at one part of an app and does what is owed there. False: it was tried and failed.
func (k *keeper) keep(ctx context.Context, task failover.Task) bool {
	state := k.journal.State()
	if !slices.Contains(state.Keep(k.group), task) {
		return true // not owed any more, or somebody else's hands are there
	}
	p := state.Policy.Group(k.group)
	look, cancel := context.WithTimeout(ctx, p.Probing.Timeout)
	id := k.identity(state, task)
	if state.Groups[k.group].Apps[task.App].TellsFrozen {
		k.believe(task, false)
	}
	owed, known := k.owed(look, state, task, id)
	cancel()
	if !known {
		k.believe(task, false)
		return true
	}
	if !owed && !task.Release {
		return true
	}
	return k.act(ctx, state, p.App(task.App), task, id, owed)
}

// owed reports whether the app answers otherwise than it should, as far as it answers.
func (k *keeper) owed(ctx context.Context, state *failover.State, task failover.Task, id identity) (owed, known bool) {
	app := state.Policy.Group(task.Group).App(task.App)
	if task.Part == failover.PartMaintenance {
		if app.Maintenance.Check == nil {
			return task.Release || k.cameBack(task), true
		}
		is, err := maintenance{out: k.r.out, policy: app.Maintenance}.state(ctx, id)
		return is == failover.SwitchOff != task.Release, err == nil
	}
	if task.Part == failover.PartReprotect {
		return true, true // whoever asked for it wants to hear how it went
	}
	o, err := k.r.out.look(ctx, app.Database, id)
	switch {
	case err != nil:
		return false, false
	case task.Part == failover.PartReplication:
		return o.Role == failover.RoleReplica && !o.Streaming, true
	case task.Release:
		return true, true
	}
	k.meet(task, o.ID)
	mark := state.Groups[task.Group].Apps[task.App].Mark
	if o.Role != failover.RolePrimary || mark.Refreeze {
		k.believe(task, false) // should it be a primary again, it is not the one that was frozen
		return o.Role == failover.RolePrimary, true
	}
	return !o.Frozen && !k.believes(task, state.Policy.Group(task.Group).Probing), true
}

// cameBack reports whether an app without a maintenance check has begun to answer since it was last turned.
func (k *keeper) cameBack(task failover.Task) bool {
	up := k.r.opts.upSince(task.Group, task.App)
	k.mu.Lock()
	defer k.mu.Unlock()
	return !up.IsZero() && !up.Equal(k.upAt[task])
}

func (k *keeper) act(leading context.Context, state *failover.State, app *failover.App, task failover.Task, id identity, owed bool) bool {
	timeout := state.Timeout(task)
	id.deadline = time.Now().Add(timeout)
	ctx, cancel := context.WithDeadline(leading, id.deadline)
	defer cancel()
	up := k.r.opts.upSince(task.Group, task.App)
	j := &failover.Journal{Start: &failover.Start{Task: task}}
	crashPoint("before", j)
	result, err := awaitAnswer(leading, k.journal.Begin(failover.Command{Journal: j}))
	if err != nil || !result.Accepted || result.Token == 0 {
		k.log.Info().Str("app", task.App).Str("part", string(task.Part)).Str("detail", result.Detail).AnErr("error", err).Msg("obligation not kept now")
		return false
	}
	crashPoint("after", j)
	id.token = result.Token
	var d deed
	switch {
	case ctx.Err() != nil:
		d.err = errNoTime
	case owed:
		d = k.turn(ctx, app, task, id, state.Groups[k.group].Apps[task.App].TellsFrozen, foundOf(state, task))
	}
	ended := failover.Ended{Task: task, Token: result.Token, Outcome: failover.OutcomeDone, Output: lastBytes(d.output, failover.MaxOutput), Untold: d.untold}
	switch {
	case d.err != nil && errors.Is(ctx.Err(), context.Canceled) && d.loose: // by the end of this leadership
		k.log.Warn().Err(d.err).Str("app", task.App).Str("part", string(task.Part)).Msg(calledOffInAct)
		return false
	case d.err != nil && errors.Is(ctx.Err(), context.Canceled):
		ended.Outcome, ended.Error = failover.OutcomeInterrupted, "called off: "+d.err.Error()
	case d.err != nil:
		ended.Outcome, ended.Error = failover.OutcomeFailed, d.err.Error()
	}
	k.tell(leading, ended)
	if d.err == nil {
		k.believe(task, d.untold)
		k.mu.Lock()
		k.upAt[task] = up
		k.mu.Unlock()
	}
	return d.err == nil
}

// turn fences one part of an app, or opens it. tells: its database is known to tell when it is frozen; found: what a release
// has to put back.
func (k *keeper) turn(ctx context.Context, app *failover.App, task failover.Task, id identity, tells bool, found string) (d deed) {
	if task.Part == failover.PartMaintenance {
		want := failover.SwitchOn
		if task.Release {
			want = failover.SwitchOff
		}
		d.output, d.err = maintenance{out: k.r.out, policy: app.Maintenance}.set(ctx, want, id)
		d.loose = true
		return d
	}
	if task.Part == failover.PartReprotect {
		return k.r.reprotect(ctx, k.journal.State(), task, id)
	}
	db, err := k.r.out.database(app.Database, id)
	if err != nil {
		return deed{err: err}
	}
	defer db.Close()
	db.Begin(id.token)
	switch {
	case task.Part == failover.PartReplication:
		d.output, d.err = db.ResumeReplication(ctx, found)
	case task.Release:
		d.output, d.err = unfreeze(ctx, db, found)
	default:
		d = freeze(ctx, db, tells)
	}
	d.loose = true
	return d
}

func foundOf(state *failover.State, task failover.Task) string {
	if m := state.Groups[task.Group].Apps[task.App].Release; task.Release && m != nil {
		return m.Found[task.Part]
	}
	return ""
}

// tell journals the end even when leadership is being lost: the next leader need not wait for these hands. While this
// watcher leads it is tried until it is in the log, because no other hands may touch the app before.
func (k *keeper) tell(leading context.Context, ended failover.Ended) {
	j := &failover.Journal{Ended: []failover.Ended{ended}}
	for {
		crashPoint("before", j)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(leading), farewell)
		_, err := k.journal.Propose(ctx, failover.Command{Journal: j})
		cancel()
		if err == nil {
			crashPoint("after", j)
			return
		}
		k.log.Warn().Err(err).Str("app", ended.App).Msg("cannot journal how keeping an obligation ended")
		if leading.Err() != nil || !waitFor(leading, refusedPause) {
			return
		}
	}
}

// identity is that of the switchover which the obligation comes from.
func (k *keeper) identity(state *failover.State, task failover.Task) identity {
	a := state.Groups[task.Group].Apps[task.App]
	m := a.Mark
	id := identity{group: task.Group, app: task.App, step: failover.StepMaintenanceOn}
	if task.Release {
		m = a.Release
	}
	switch task.Part {
	case failover.PartDatabase:
		id.step = failover.StepFreeze
	case failover.PartReplication:
		id.step = failover.StepStopReplication
	case failover.PartReprotect:
		id.step = stepReprotect
	}
	if m == nil {
		return id
	}
	id.switchover, id.attempt = m.Switchover, m.Attempts+1
	// Equal across the attempts until one is done; what is to be done again after that is no repetition.
	id.key = fmt.Sprintf("%s-%d-keep-%s-%d", task.Group, m.Switchover, id.step, m.Kept[task.Part]+1)
	if w := state.Switchover(task.Group, m.Switchover); w != nil {
		id.from, id.to, id.kind, id.epoch = w.From, w.To, w.Kind, w.Epoch
	}
	return id
}

// believe remembers that a database which does not tell its freeze reported success; until it is seen not to answer.
func (k *keeper) believe(task failover.Task, yes bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.believed, task)
	if yes {
		k.believed[task] = belief{seen: time.Now(), id: k.ids[task]}
	}
}

// meet remembers which database is there. Another one than that which was frozen was not.
func (k *keeper) meet(task failover.Task, id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ids[task] = id
	if b := k.believed[task]; b.id != "" && id != "" && id != b.id {
		delete(k.believed, task)
	}
}

// believes is asked when the database has answered. What it did between two looks that were further apart than a slow round
// takes, because hands were at work meanwhile or kept failing, nobody knows: it may have restarted without its freeze.
func (k *keeper) believes(task failover.Task, rhythm failover.Probing) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	b, ok := k.believed[task]
	if !ok || time.Since(b.seen) > 2*(rhythm.RetryInterval+rhythm.Timeout) {
		return false
	}
	b.seen = time.Now()
	k.believed[task] = b
	return true
}
