// Package switchover is the hands of Watchover: the runner that performs, on the leader only, what the rules in
// pkg/failover ask for, and the observer with which every watcher looks at databases and maintenance switches.
//
// It decides nothing. It asks State.Next what is due, looks at the target, journals the attempt, acts only if the log
// accepted it and time is left, reads back what it did, and journals the outcome. A leader that takes over asks the
// same Next; there is no other code for it. The failure that taught this: a leader died in the middle of a hook, and
// nobody went on.
package switchover

import (
	"context"
	"time"

	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// Journal is what the runner needs of the cluster.
type Journal interface {
	// State is the newest applied state.
	State() *failover.State
	// Watch returns a channel that is closed when a newer state than the present one is there.
	Watch() <-chan struct{}
	// Begin proposes on this leader without waiting; the returned func waits for what Apply answered.
	Begin(failover.Command) func(context.Context) (failover.Result, error)
	// Propose sends a command to whoever leads and waits.
	Propose(context.Context, failover.Command) (failover.Result, error)
	// GiveWay asks for leadership to be handed to one of the watchers named. It does not wait, and it may come to nothing.
	GiveWay(reason string, to ...string)
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

// Options configure runner and observer.
type Options struct {
	Watcher string
	Dir     string // where relative paths of the policy are looked up
	Run     Program
	Log     zerolog.Logger
	// Databases opens databases of every kind but exec; nil: there are no others.
	Databases Databases
	// UpSince tells when this watcher's own probes last began to find an app up; zero while they do not. It tells the
	// keeper of marks when an app without a maintenance check has come back.
	UpSince func(group, app string) time.Time
}

// Runner performs switchovers while its watcher leads.
type Runner struct {
	opts Options
	out  *outside
}

// New makes a runner.
func New(opts Options) *Runner {
	return &Runner{opts: opts, out: newOutside(opts)}
}

// Lead works until ctx ends, which is when the watcher leads no more. It returns when all its hands are still, after
// telling the next leader so as far as that can be reached.
func (r *Runner) Lead(ctx context.Context, journal Journal) {
	began, term := time.Now(), journal.State().Term
	running := map[string]chan struct{}{}
	ended := make(chan struct{}, 1)
	for {
		changed := journal.Watch()
		for _, group := range journal.State().GroupNames() {
			if done, ok := running[group]; ok && !isClosed(done) || ctx.Err() != nil {
				continue
			}
			done := make(chan struct{})
			running[group] = done
			go func() {
				defer poke(ended)
				defer close(done)
				r.lead(ctx, journal, group, began, term)
			}()
		}
		select {
		case <-ctx.Done():
			for _, done := range running {
				<-done
			}
			return
		case <-changed:
		case <-ended: // a group that was gone may be there again
		}
	}
}

// poke has a loop look again, if it is not about to anyhow.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// lead runs one group's switchovers and keeps its marks, until ctx ends or the group is gone.
func (r *Runner) lead(ctx context.Context, journal Journal, group string, began time.Time, term uint64) {
	ctx, cancel := context.WithCancel(ctx)
	k := newKeeper(r, journal, group, began, term)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		k.run(ctx)
		cancel() // the group was gone for a moment, if the performer did not notice: both begin anew
	}()
	newPerformer(r, journal, group, began, term).run(ctx)
	cancel()
	<-kept
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
