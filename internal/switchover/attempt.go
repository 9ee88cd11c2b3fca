package switchover

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// attempt is one try at one task: look, be journaled, act, read back. It runs in a goroutine of its own, asks the
// performer through starts and ends through ends, exactly once each way.
type attempt struct {
	p       *performer
	task    failover.Task
	timeout time.Duration
	began   time.Time
	id      identity
	step    failover.Step
	w       *failover.Switchover
	target  *failover.App // whom it acts on
	from    *failover.App
	last    failover.AppState // what the quorum last saw of the app that it acts on, for when that does not answer
	answer  chan startAnswer  // one answer, buffered
	db      Database          // the target's, from its first look to the end of the act; nil: not looked at

	// For the performer's goroutine only.
	cancel  context.CancelFunc
	looking bool
}

type startAnswer struct {
	result failover.Result
	err    error
}

func newAttempt(p *performer, state *failover.State, task failover.Task) *attempt {
	w := state.Groups[task.Group].Switchover
	a := &attempt{
		p: p, task: task, timeout: state.Timeout(task), began: time.Now(), w: w, step: *w.Step(task.Step),
		last:   *state.Groups[task.Group].Apps[task.App],
		target: w.Policy.App(task.App), from: w.Policy.App(w.From), answer: make(chan startAnswer, 1), looking: true,
	}
	a.id = identity{
		group: task.Group, app: task.App, from: w.From, to: w.To, step: task.Step, kind: w.Kind, switchover: w.ID, epoch: w.Epoch,
		deadline: a.began.Add(a.timeout), attempt: a.step.Attempts + 1, key: fmt.Sprintf("%s-%d-%s-%s", task.Group, w.ID, task.Step, task.Work),
	}
	if a.step.Redo {
		a.id.key += "-again" // what is to be done again is no repetition
	}
	return a
}

// sight is what an attempt saw before it asked to be journaled.
type sight struct {
	done  bool // nothing is left to be done
	start failover.Start
	blind error // what undoing the step would need could not be seen: it must not be done
}

// run ends when the attempt does. An act that was called off in the middle may still take effect at its target until its
// deadline, whoever has stopped waiting for the answer: until then the attempt is not over, and if this watcher leads no
// longer, it is for the next leader to wait.
func (a *attempt) run(leading, ctx context.Context) {
	ctx, cancel := context.WithDeadline(ctx, a.id.deadline)
	defer cancel()
	defer a.close()
	seen := a.look(ctx)
	token, err := a.ask(ctx, seen.start)
	if err != nil {
		a.p.ends <- attemptEnd{attempt: a}
		return
	}
	a.id.token = token
	d := a.perform(ctx, seen)
	ended := a.outcome(ctx, d)
	if ended.Outcome == failover.OutcomeInterrupted && d.loose && !waitFor(leading, time.Until(a.id.deadline)) {
		a.p.log.Warn().Err(d.err).Str("step", string(a.task.Step)).Str("app", a.task.App).Msg(calledOffInAct)
		a.p.ends <- attemptEnd{attempt: a}
		return
	}
	ended.Task, ended.Token = a.task, token
	a.p.ends <- attemptEnd{attempt: a, ended: &ended}
}

const calledOffInAct = "called off in the middle of an act, which may still take effect; the next leader waits its time out"

// ask has the attempt journaled. The token is the permission to act.
func (a *attempt) ask(ctx context.Context, start failover.Start) (uint64, error) {
	if errors.Is(ctx.Err(), context.Canceled) {
		return 0, ctx.Err() // called off in the middle of the look: what was not seen then says nothing of the target
	}
	select {
	case a.p.starts <- startRequest{attempt: a, start: start}:
	case <-a.left(ctx):
		return 0, ctx.Err()
	}
	got := <-a.answer
	switch {
	case got.err != nil:
		a.p.log.Warn().Err(got.err).Str("step", string(a.task.Step)).Msg("attempt could not be journaled, nothing was done")
		return 0, got.err
	case !got.result.Accepted || got.result.Token == 0:
		a.p.log.Info().Str("step", string(a.task.Step)).Str("rule", got.result.Rule).Str("detail", got.result.Detail).Msg("attempt not accepted, nothing was done")
		return 0, errors.New(got.result.Detail)
	}
	return got.result.Token, nil
}

// left is closed when the attempt was called off. A look that has used all the time is journaled all the same, so that
// the try counts.
func (a *attempt) left(ctx context.Context) <-chan struct{} {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil
	}
	return ctx.Done()
}

// perform runs before hooks and the act itself, unless the time is over: hands that come late do not act.
func (a *attempt) perform(ctx context.Context, seen sight) deed {
	if a.task.Work == failover.WorkAfter {
		return a.hooks(ctx, "after", a.w.Policy.Steps[a.task.Step].After)
	}
	var before deed
	if a.task.Work == failover.WorkAct {
		if before = a.hooks(ctx, "before", a.w.Policy.Steps[a.task.Step].Before); before.err != nil {
			before.err = fmt.Errorf("before hook: %w", before.err)
			return before
		}
	}
	var done deed
	switch {
	case seen.done:
		done = a.confirm(ctx)
	case ctx.Err() != nil:
		done.err = errNoTime
	case seen.blind != nil:
		done.err = fmt.Errorf("not touched, because how to put it back cannot be seen: %w", seen.blind)
	default:
		done = a.act(ctx)
		done.loose = a.task.Step != failover.StepCatchUp // which only waits
	}
	done.output = before.output + done.output
	return done
}

var errNoTime = errors.New("no answer in time, nothing was done")

// deed is what an act came to.
type deed struct {
	output   string
	untold   bool
	position string // of a freeze
	// exception is what a person has to know of an act that is done all the same.
	exception string
	loose     bool // the target was asked to change: if nobody waits for its answer, it may still do it
	err       error
}

// outcome words a deed for the journal. An attempt that was called off is interrupted, whatever else went wrong.
func (a *attempt) outcome(ctx context.Context, d deed) failover.Ended {
	e := failover.Ended{Outcome: failover.OutcomeDone, Output: lastBytes(d.output, failover.MaxOutput), Untold: d.untold, Position: d.position, Exception: d.exception}
	switch {
	case d.err == nil:
	case errors.Is(ctx.Err(), context.Canceled):
		e.Outcome, e.Error = failover.OutcomeInterrupted, "called off: "+d.err.Error()
	default:
		e.Outcome, e.Error = failover.OutcomeFailed, d.err.Error()
	}
	return e
}

// hooks runs hooks one after the other. Each has an Idempotency-Key of its own: a receiver of several must not take the
// second for a repetition of the first.
func (a *attempt) hooks(ctx context.Context, when string, hooks []failover.Action) deed {
	var all deed
	for i, hook := range hooks {
		id := a.id
		id.key = fmt.Sprintf("%s-%s-%d", a.id.key, when, i+1)
		if ctx.Err() != nil {
			all.err = errNoTime
			return all
		}
		output, err := a.p.r.out.do(ctx, hook, id)
		all.output += output
		if err != nil {
			all.err, all.loose = err, hook.HTTP != nil // a program is dead, a receiver may go on
			return all
		}
	}
	return all
}

func lastBytes(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return text[len(text)-most:]
}

// database is the target's, opened at the first look: whatever acts goes through the connection that has looked.
func (a *attempt) database() (Database, error) {
	if a.db != nil {
		return a.db, nil
	}
	db, err := a.p.r.out.database(a.target.Database, a.id)
	if err == nil {
		a.db = db
	}
	return db, err
}

func (a *attempt) close() {
	if a.db != nil {
		a.db.Close()
	}
}
