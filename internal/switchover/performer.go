package switchover

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/pkg/failover"
)

const (
	// flushAfter is how long an outcome waits for the start of the next step, so that both go into one entry: about as long as
	// a look at a database takes. Two entries one after the other hold clients up for longer than that.
	flushAfter = 20 * time.Millisecond
	// refusedPause keeps a start that the rules refuse from filling the log with proposals.
	refusedPause = time.Second
	// farewell bounds what an old leader spends on telling the new one that its hands are still.
	farewell = 2 * time.Second
	// giveWayPause is how long an act waits for the leader that was asked for to be found: some elections.
	giveWayPause = 2 * time.Second
)

// performer runs one group's switchovers. All its fields belong to the goroutine of run; attempts are goroutines that
// talk to it through starts and ends.
type performer struct {
	r       *Runner
	journal Journal
	group   string
	began   time.Time // when this watcher began to lead
	term    uint64    // the state's, then
	log     zerolog.Logger

	running  map[failover.Task]*attempt
	outcomes []failover.Ended // not yet proposed
	since    time.Time        // of the oldest of them
	sent     []proposal       // answer not yet in
	retryAt  time.Time        // not before this are outcomes proposed again that could not be
	asked    bool             // for another leader; once is enough

	proposals uint64
	pause     map[failover.Task]time.Time
	starts    chan startRequest
	ends      chan attemptEnd
	settled   chan proposal
	waiting   sync.WaitGroup // proposals whose answer is not in
}

// startRequest is an attempt that has looked at its target and asks to be journaled.
type startRequest struct {
	attempt *attempt
	start   failover.Start
}

type attemptEnd struct {
	attempt *attempt
	ended   *failover.Ended // nil: the attempt was never journaled, or its hands cannot be told to be still
}

// proposal is a journal entry that is on its way, with the outcomes in it.
type proposal struct {
	id    uint64
	ended []failover.Ended
	err   error // it may not have reached the log
}

func newPerformer(r *Runner, j Journal, group string, began time.Time, term uint64) *performer {
	return &performer{
		r: r, journal: j, group: group, began: began, term: term, log: r.opts.Log.With().Str("group", group).Logger(),
		running: map[failover.Task]*attempt{}, pause: map[failover.Task]time.Time{},
		starts: make(chan startRequest), ends: make(chan attemptEnd), settled: make(chan proposal),
	}
}

// run performs until ctx ends or the group is gone, then waits for every attempt's hands and says farewell.
func (p *performer) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer p.leave()
	defer cancel() // also when the group is gone: nobody takes what proposals come to any more
	flush := time.NewTimer(time.Hour)
	defer flush.Stop()
	for {
		changed := p.journal.Watch()
		state := p.foresee()
		if state.Groups[p.group] == nil {
			return
		}
		again := p.launch(ctx, state)
		p.recall(state)
		flush.Reset(p.flushIn())
		wake := timeAfter(again)
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-wake:
		case <-flush.C:
			p.propose(ctx, nil)
		case req := <-p.starts:
			p.propose(ctx, &req)
		case end := <-p.ends:
			p.take(end)
		case sent := <-p.settled:
			p.settle(sent)
		}
	}
}

// foresee is the applied state with the outcomes that are still on their way into the log.
func (p *performer) foresee() *failover.State {
	state := p.journal.State()
	var ended []failover.Ended
	for _, sent := range p.sent {
		ended = append(ended, sent.ended...)
	}
	ended = append(ended, p.outcomes...)
	if len(ended) == 0 {
		return state
	}
	next, _ := state.Apply(failover.Entry{Index: state.Index + 1, Term: state.Term, Command: failover.Command{
		Term: state.Term, Time: state.Time, Fresh: state.Fresh, Journal: &failover.Journal{Ended: ended}}})
	return next
}

// launch begins whatever Next offers and nobody does yet. It returns how long until something waits to be looked at
// again; zero: nothing does.
func (p *performer) launch(ctx context.Context, state *failover.State) (again time.Duration) {
	maps.DeleteFunc(p.pause, func(_ failover.Task, until time.Time) bool { return time.Until(until) <= 0 })
	for _, task := range state.Next(p.group) {
		if p.running[task] != nil {
			continue
		}
		if wait := max(p.foreign(state, task), p.elsewhere(state, task), time.Until(p.pause[task])); wait > 0 {
			if again == 0 || wait < again {
				again = wait
			}
			continue
		}
		if p.giveUpOrphan(state, task) {
			continue // offered again once that is foreseen
		}
		a := newAttempt(p, state, task)
		p.running[task] = a
		acting, cancel := context.WithCancel(ctx)
		a.cancel = cancel
		go a.run(ctx, acting)
	}
	return again
}

// foreign is how long to wait for another leader's hands: the full timeout of its open attempt, from our own beginning.
func (p *performer) foreign(state *failover.State, task failover.Task) time.Duration {
	wait := foreignKeeper(state, p.group, task.App, p.began)
	step := state.Groups[p.group].Switchover.Step(task.Step)
	if step.Open == "" {
		return wait
	}
	open := task
	open.Work = step.Open
	if p.running[open] != nil {
		return refusedPause // ours; it is being recalled
	}
	return max(wait, time.Until(p.began.Add(state.Timeout(open))))
}

var errOrphan = errors.New("given up: its time is over and none of this leader's hands are on it")

// giveUpOrphan ends an attempt of this same term that is not ours and whose time is over: an earlier Lead's, or one whose
// start got into the log after its proposer had given it up. Nobody else will, and no other is accepted while it is open.
func (p *performer) giveUpOrphan(state *failover.State, task failover.Task) bool {
	step := state.Groups[p.group].Switchover.Step(task.Step)
	if step.Open == "" || step.OpenTerm != state.Term || state.Term != p.term {
		return false
	}
	task.Work = step.Open
	if len(p.outcomes) == 0 {
		p.since = time.Now()
	}
	p.outcomes = append(p.outcomes, failover.Ended{Task: task, Token: step.Token, Outcome: failover.OutcomeInterrupted, Error: errOrphan.Error()})
	return true
}

// foreignKeeper is how long to wait for the hands with which an earlier leader kept a mark on an app or did a release: they
// may be closing what the step or the keeper opens, or the other way round. An attempt of this term counts too; while our
// own keeper is at it Next offers no step there.
func foreignKeeper(state *failover.State, group, app string, began time.Time) (wait time.Duration) {
	a := state.Groups[group].Apps[app]
	for _, m := range []*failover.Mark{a.Mark, a.Release} {
		if m != nil && m.Open != nil {
			timeout := m.Open.Timeout
			if timeout == 0 {
				timeout = state.Timeout(failover.Task{Group: group, App: app, Part: m.Open.Part})
			}
			wait = max(wait, time.Until(began.Add(timeout)))
		}
	}
	return wait
}

// recall cancels attempts that the switchover has turned away from: acts, once it is being undone.
func (p *performer) recall(state *failover.State) {
	w := state.Groups[p.group].Switchover
	for task, a := range p.running {
		if !w.Open() || w.ID != task.Switchover || w.Undoing != "" && task.Work != failover.WorkUndo {
			a.cancel()
		}
	}
}

// elsewhere asks for another leader if this watcher cannot reach the app that is to be acted on, though the quorum finds it
// well: those who reach it have better hands. It returns how long to wait for that; then this watcher tries all the same.
func (p *performer) elsewhere(state *failover.State, task failover.Task) time.Duration {
	if p.asked || task.Work == failover.WorkAfter || task.Step == failover.StepSwitchDNS || task.Step == failover.StepVerify {
		return 0
	}
	to := state.BetterPlaced(p.r.opts.Watcher, p.group, task.App)
	if len(to) == 0 {
		return 0
	}
	p.asked = true
	p.pause[task] = time.Now().Add(giveWayPause)
	p.journal.GiveWay(fmt.Sprintf("%s of group %s, which %s is due on, cannot be reached from here; others find it up", task.App, task.Group, task.Step), to...)
	return giveWayPause
}

func (p *performer) flushIn() time.Duration {
	if len(p.outcomes) == 0 {
		return time.Hour
	}
	wait := time.Until(p.retryAt)
	for _, a := range p.running {
		if a.looking {
			wait = max(wait, time.Until(p.since.Add(flushAfter)))
			break
		}
	}
	return max(0, wait)
}

// take receives an attempt's end.
func (p *performer) take(end attemptEnd) {
	delete(p.running, end.attempt.task)
	end.attempt.cancel()
	if end.ended == nil {
		p.pause[end.attempt.task] = time.Now().Add(refusedPause)
		return
	}
	if len(p.outcomes) == 0 {
		p.since = time.Now()
	}
	p.outcomes = append(p.outcomes, *end.ended)
}

// propose journals the outcomes at hand, and with them the start that req asks for.
func (p *performer) propose(ctx context.Context, req *startRequest) {
	j := &failover.Journal{Ended: p.outcomes}
	if req != nil {
		j.Start = &req.start
		req.attempt.looking = false
	}
	if len(j.Ended) == 0 && req == nil {
		return
	}
	p.proposals++
	sent := proposal{id: p.proposals, ended: p.outcomes}
	p.outcomes = nil
	p.sent = append(p.sent, sent)
	crashPoint("before", j)
	wait := p.journal.Begin(failover.Command{Journal: j})
	p.waiting.Add(1)
	go func() {
		defer p.waiting.Done()
		result, err := awaitAnswer(ctx, wait)
		sent.err = err
		if err == nil {
			crashPoint("after", j)
		}
		if req != nil {
			req.attempt.answer <- startAnswer{result: result, err: err}
		}
		select {
		case p.settled <- sent:
		case <-ctx.Done():
		}
	}()
}

// awaitAnswer waits for what Apply answered, a moment longer than ctx lasts: a start that the log takes in while
// leadership ends has to be given up in the log too, or the next leader waits its whole time out.
func awaitAnswer(ctx context.Context, wait func(context.Context) (failover.Result, error)) (failover.Result, error) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(farewell, cancel) })
	defer stop()
	return wait(longer)
}

// settle drops a proposal whose answer is in: the applied state has it now. One that failed may not be in the log. Its
// outcomes are proposed again, for a step whose end is not journaled is never tried again in this term; those that did
// get in are refused as old.
func (p *performer) settle(sent proposal) {
	p.sent = slices.DeleteFunc(p.sent, func(other proposal) bool { return other.id == sent.id })
	if sent.err == nil || len(sent.ended) == 0 {
		return
	}
	p.log.Warn().Err(sent.err).Msg("outcomes could not be journaled, they are proposed again")
	p.outcomes = slices.Concat(sent.ended, p.outcomes)
	p.retryAt = time.Now().Add(refusedPause)
}

// leave waits until every attempt's hands are still, then tells whoever leads now. Of an act that may still take effect
// nothing is told.
func (p *performer) leave() {
	for _, a := range p.running {
		a.cancel()
	}
	for len(p.running) > 0 {
		select {
		case req := <-p.starts:
			req.attempt.answer <- startAnswer{err: context.Canceled}
		case end := <-p.ends:
			p.take(end)
		}
	}
	p.waiting.Wait()
	outcomes := p.outcomes
	for _, sent := range p.sent {
		outcomes = append(outcomes, sent.ended...)
	}
	if len(outcomes) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	if _, err := p.journal.Propose(ctx, failover.Command{Journal: &failover.Journal{Ended: outcomes}}); err != nil {
		p.log.Warn().Err(err).Msg("cannot tell the new leader how the last attempts ended; it waits their time out")
	}
}

func timeAfter(d time.Duration) <-chan time.Time {
	if d <= 0 {
		return nil
	}
	return time.After(d)
}
