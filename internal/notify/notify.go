// Package notify tells people what happened: while its watcher leads, it brings the events of each group to the group's
// targets, a webhook or a program each.
//
// It decides nothing: State.NextNotice says what a target has not been told, and once it has been told, that is committed,
// so that the next leader goes on from there. An event is told at least once and in order; who must not act twice looks at
// its id. A target that cannot be reached is tried again, for as long as the state keeps the event, and meanwhile holds up
// nobody else: neither another target nor a switchover. A pager that hangs at night must not be the reason why the
// failover that it should have told of did not happen.
//
// The URL of a webhook is a secret. It is read from its file for each attempt, and appears in no log, error or state.
package notify

import (
	"context"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/pkg/failover"
)

const (
	// attemptTime bounds one attempt to tell a target.
	attemptTime = 10 * time.Second
	// After a failed attempt the next one waits firstPause, doubling up to longestPause.
	firstPause   = time.Second
	longestPause = time.Minute
	// commitTime bounds the wait for a cursor's entry.
	commitTime = 10 * time.Second
	// farewell bounds that wait once leadership is to be given up.
	farewell = 2 * time.Second
)

// Journal is what the notifier needs of the cluster, in the term that its watcher leads.
type Journal interface {
	// State is the newest applied state.
	State() *failover.State
	// Watch returns a channel that is closed when a newer state than the present one is there.
	Watch() <-chan struct{}
	// Propose commits a command in this term, or fails.
	Propose(context.Context, failover.Command) (failover.Result, error)
}

// Program runs one program to its end or to the context's deadline and returns the last bytes of its output.
type Program func(ctx context.Context, p Process) (output []byte, exitCode int, err error)

// Process is what is run: exact environment, working directory, standard input.
type Process struct {
	Argv  []string
	Env   []string
	Dir   string
	Stdin []byte
}

// Options configure a notifier.
type Options struct {
	Watcher string
	Dir     string // where relative paths of the policy are looked up
	Run     Program
	Log     zerolog.Logger
}

// Notifier tells targets while its watcher leads.
type Notifier struct{ o Options }

// New makes a notifier.
func New(o Options) *Notifier { return &Notifier{o: o} }

// place names one target of one group.
type place struct{ group, target string }

// Lead works until ctx ends, which is when the watcher leads no more. It returns when nothing of it runs any more; an
// attempt that is then under way is called off, and made again by the next leader.
func (n *Notifier) Lead(ctx context.Context, j Journal) {
	var work sync.WaitGroup
	defer work.Wait()
	working := map[place]bool{}
	ended := make(chan place)
	begin := func(p place, action failover.Action) {
		working[p] = true
		work.Go(func() {
			newCourier(n, j, p, action).run(ctx)
			select {
			case ended <- p:
			case <-ctx.Done():
			}
		})
	}
	var seen, revision uint64
	for {
		changed := j.Watch()
		s := j.State()
		if s.PolicyRevision != revision {
			seen = 0 // targets may have come
		}
		if s.EventSeq != seen {
			for p, action := range due(s, s.GroupsToTell(seen)) {
				if !working[p] {
					begin(p, action)
				}
			}
			seen, revision = s.EventSeq, s.PolicyRevision
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case p := <-ended:
			delete(working, p)
			for q, action := range due(j.State(), []string{p.group}) { // it may have ended just as news came
				if q == p {
					begin(p, action)
				}
			}
		}
	}
}

// due lists the targets of some groups that are to be told something.
func due(s *failover.State, groups []string) map[place]failover.Action {
	list := map[place]failover.Action{}
	for _, name := range groups {
		g := s.Policy.Group(name)
		if g == nil {
			continue
		}
		for _, action := range g.Notify {
			p := place{name, action.Key()}
			if _, ok := s.NextNotice(p.group, p.target); ok {
				list[p] = action
			}
		}
	}
	return list
}

// wait returns false if ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
