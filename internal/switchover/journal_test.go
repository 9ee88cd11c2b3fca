package switchover

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// fakeJournal is a log in memory. Entries are applied one by one, each after delay.
type fakeJournal struct {
	mu      sync.Mutex // guards what follows
	state   *failover.State
	next    chan struct{} // closed when a newer state is there
	term    uint64
	lost    bool // this watcher does not lead: Begin is refused, what is queued fails
	delay   time.Duration
	refuse  func(failover.Command) error // of commands that come in; nil error: taken
	entries []failover.Entry
	at      []time.Duration
	queue   chan queued
	ends    sync.WaitGroup
	gaveWay []string // reasons, each with those that were named
}

type queued struct {
	command failover.Command
	bound   bool // to the term
	term    uint64
	ready   time.Time
	answer  chan answered
}

type answered struct {
	result failover.Result
	err    error
}

var (
	errLost  = errors.New("not the leader")
	errQueue = errors.New("the queue is full")
)

func newFakeJournal() *fakeJournal {
	j := &fakeJournal{state: failover.NewState(), next: make(chan struct{}), term: 1, queue: make(chan queued, 256)}
	j.ends.Go(j.commit)
	return j
}

func (j *fakeJournal) close() {
	close(j.queue)
	j.ends.Wait()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.term = 0
	close(j.next)
}

func (j *fakeJournal) State() *failover.State {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.state
}

func (j *fakeJournal) Watch() <-chan struct{} {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.next
}

func (j *fakeJournal) GiveWay(reason string, to ...string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.gaveWay = append(j.gaveWay, reason+" -> "+strings.Join(to, ","))
}

func (j *fakeJournal) Begin(c failover.Command) func(context.Context) (failover.Result, error) {
	return j.take(c, true)
}

func (j *fakeJournal) Propose(ctx context.Context, c failover.Command) (failover.Result, error) {
	return j.take(c, false)(ctx)
}

func (j *fakeJournal) take(c failover.Command, bound bool) func(context.Context) (failover.Result, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	err := error(nil)
	if j.refuse != nil {
		err = j.refuse(c)
	}
	if err == nil && bound && j.lost {
		err = errLost
	}
	if err != nil {
		return func(context.Context) (failover.Result, error) { return failover.Result{}, err }
	}
	q := queued{command: c, bound: bound, term: j.term, ready: time.Now().Add(j.delay), answer: make(chan answered, 1)}
	j.queue <- q
	return func(ctx context.Context) (failover.Result, error) {
		select {
		case a := <-q.answer:
			return a.result, a.err
		case <-ctx.Done():
			return failover.Result{}, ctx.Err()
		}
	}
}

func (j *fakeJournal) commit() {
	for q := range j.queue {
		<-time.After(time.Until(q.ready))
		j.mu.Lock()
		a := answered{err: errLost}
		if !q.bound || q.term == j.term {
			a = answered{result: j.apply(q.command)}
		}
		j.mu.Unlock()
		q.answer <- a
	}
}

func (j *fakeJournal) apply(c failover.Command) failover.Result {
	c.Term, c.Time, c.Fresh = j.term, time.Now().UTC(), []string{"w1", "w2", "w3"}
	e := failover.Entry{Index: j.state.Index + 1, Term: j.term, Command: c}
	var r failover.Result
	j.state, r = j.state.Apply(e)
	j.entries, j.at = append(j.entries, e), append(j.at, time.Since(bubbleStart))
	close(j.next)
	j.next = make(chan struct{})
	return r
}

// elect begins a new term. What of the old one is not committed yet is refused.
func (j *fakeJournal) elect() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.term++
	j.apply(failover.Command{Tick: &failover.Tick{}})
}

func (j *fakeJournal) deposed(yes bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lost = yes
}

func (j *fakeJournal) set(change func(*fakeJournal)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	change(j)
}

// journaled lists the journal entries, with the time of each.
func (j *fakeJournal) journaled() (list []failover.Journal, at []time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, e := range j.entries {
		if e.Command.Journal != nil {
			list, at = append(list, *e.Command.Journal), append(at, j.at[i])
		}
	}
	return list, at
}

// audience plays the leader's clock and, with react, the other watchers, until the journal is closed.
func (j *fakeJournal) audience(react func(*failover.State) (failover.Command, bool)) {
	seen := map[string]time.Time{}
	for {
		j.mu.Lock()
		state, changed, over := j.state, j.next, j.term == 0
		j.mu.Unlock()
		if over {
			return
		}
		if c, ok := react(state); ok {
			j.now(c)
			continue
		}
		waits := map[string]time.Time{}
		var first <-chan time.Time
		soonest, key := time.Duration(0), ""
		for _, timer := range state.Timers() {
			if waits[timer.Key] = seen[timer.Key]; waits[timer.Key].IsZero() {
				waits[timer.Key] = time.Now()
			}
			if left := time.Until(waits[timer.Key].Add(timer.After)); key == "" || left < soonest {
				soonest, key = left, timer.Key
			}
		}
		seen = waits
		if key != "" {
			first = time.After(max(0, soonest))
		}
		select {
		case <-changed:
		case <-first:
			j.now(failover.Command{Due: &failover.Due{Key: key}})
		}
	}
}

func (j *fakeJournal) now(c failover.Command) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.term != 0 {
		j.apply(c)
	}
}
