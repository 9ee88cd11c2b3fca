package main

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// scene is everything that the audience may see at one moment.
type scene struct {
	act      string // what happens now, in a sentence
	killed   time.Time
	shops    []shopView
	watchers []watcherView
	steps    []stepView
	index    uint64 // of the cluster's state that the steps are from
	opened   time.Time
	switched time.Time // the record
	ended    time.Time
	result   string
	customer customerView
	back     *comeback
	idle     bool // the show is over: look less often
}

// shopView is one shop.
type shopView struct {
	name, address string
	reachable     bool
	condition
}

// watcherView is one watcher: what it thinks of main, and what it answers.
type watcherView struct {
	name      string
	leader    bool
	ready     bool // it says that the group would be failed over if need be
	verdict   string
	failed    time.Time // its first failed probe of main after the kill
	down      time.Time // when it found main down
	answer    string    // to the question for the group's record; empty: none
	ttl       uint32
	answering time.Time // when answer was first heard
}

// stepView is one step of the plan.
type stepView struct {
	name, app, state string
	started, ended   time.Time
}

// customerView is how the customer fares.
type customerView struct {
	taken, refused int
	last           time.Time     // an order was taken
	at             string        // by whom: the address
	again          time.Time     // the first order that the standby took
	gap            time.Duration // between that one and the order before it
	marks          []bool        // the latest orders: taken or not; from shortly before the kill on, the oldest
}

// comeback is how the old main was received.
type comeback struct {
	answered, closed, frozen time.Time
}

// board is where the observers write what they see and the screen reads it.
type board struct {
	mu      sync.Mutex // guards what follows
	now     scene
	changed chan struct{} // closed and replaced with each change
}

func newBoard(l *lab) *board {
	b := &board{changed: make(chan struct{})}
	for _, s := range l.shops {
		b.now.shops = append(b.now.shops, shopView{name: s.Name, address: s.Address})
	}
	for _, w := range l.watchers {
		b.now.watchers = append(b.now.watchers, watcherView{name: w.Name})
	}
	for _, name := range failover.Plan {
		b.now.steps = append(b.now.steps, stepView{name: string(name), state: "pending"})
	}
	return b
}

// update changes the scene.
func (b *board) update(change func(s *scene)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(&b.now)
	close(b.changed)
	b.changed = make(chan struct{})
}

// look returns a copy of the scene.
func (b *board) look() scene {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.copy()
}

func (b *board) copy() scene {
	s := b.now
	s.shops, s.watchers, s.steps = slices.Clone(s.shops), slices.Clone(s.watchers), slices.Clone(s.steps)
	s.customer.marks = slices.Clone(s.customer.marks)
	return s
}

// blank is the scene before anything has happened.
func (b *board) blank() scene {
	s := b.look()
	blank := scene{shops: make([]shopView, len(s.shops)), watchers: make([]watcherView, len(s.watchers))}
	for _, step := range s.steps {
		blank.steps = append(blank.steps, stepView{name: step.name, state: "pending"})
	}
	return blank
}

// wait returns as soon as the condition holds; false: the context ended first.
func (b *board) wait(ctx context.Context, holds func(s *scene) bool) bool {
	for {
		b.mu.Lock()
		ok, changed := holds(&b.now), b.changed
		b.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// nameOf is the shop behind an address.
func (s *scene) nameOf(address string) string {
	for _, v := range s.shops {
		if v.address == address {
			return v.name
		}
	}
	return address
}

// majority is when more than half of the watchers had found main down; zero: they have not yet.
func (s *scene) majority() time.Time {
	var at []time.Time
	for _, w := range s.watchers {
		if !w.down.IsZero() {
			at = append(at, w.down)
		}
	}
	slices.SortFunc(at, time.Time.Compare)
	if n := len(s.watchers)/2 + 1; len(at) >= n {
		return at[n-1]
	}
	return time.Time{}
}

// firstFailure is who noticed first, and when.
func (s *scene) firstFailure() (who string, at time.Time) {
	for _, w := range s.watchers {
		if !w.failed.IsZero() && (at.IsZero() || w.failed.Before(at)) {
			who, at = w.name, w.failed
		}
	}
	return who, at
}

// allAnswer is since when every watcher has answered the address; zero: not all do.
func (s *scene) allAnswer(address string) (at time.Time) {
	for _, w := range s.watchers {
		if w.answer != address {
			return time.Time{}
		}
		if w.answering.After(at) {
			at = w.answering
		}
	}
	return at
}
