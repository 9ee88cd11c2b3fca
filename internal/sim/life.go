package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/internal/switchover"
	"github.com/watchover-ha/watchover/pkg/failover"
)

var (
	errNoLeader = errors.New("no leader")
	errUnknown  = errors.New("outcome unknown")
	errKilled   = errors.New("the program was killed")
)

// call is something that a watcher's runner wants of the outside; it waits for the driver's answer.
type call struct {
	life    *life
	reign   *reign // of whom it is that calls
	key     string // order among the calls of one moment
	ctx     context.Context
	process *switchover.Process
	command *failover.Command // Begin, or Propose if forward
	forward bool
	giveWay []string // with reason
	reason  string
	reply   chan reply // one slot
}

type reply struct {
	output []byte
	code   int
	result failover.Result
	err    error
}

// life is one process of a watcher, as its runner sees it.
type life struct {
	w      *world
	n      *watcher
	boot   uint64
	runner *switchover.Runner
	held   []*call // what came while it was paused
	open   []*call // programs whose end it has not been told
	atRest bool    // its state gives a runner nothing to do

	mu      sync.Mutex // guards what follows
	dead    bool
	state   *failover.State
	changed chan struct{} // closed and replaced with each state
	up      map[string]time.Time
}

func newLife(n *watcher, boot uint64, state *failover.State) *life {
	l := &life{w: n.w, n: n, boot: boot, state: state, changed: make(chan struct{}), up: map[string]time.Time{}}
	l.runner = switchover.New(switchover.Options{Watcher: n.name, Dir: "/", Run: l.run, Log: zerolog.Nop(), UpSince: l.upSince})
	return l
}

func (l *life) State() *failover.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

func (l *life) Watch() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

func (l *life) upSince(_, app string) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.up[app]
}

func (l *life) setUp(app string, up bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !up {
		delete(l.up, app)
	} else if l.up[app].IsZero() {
		l.up[app] = l.w.moment()
	}
}

// publish shows the process a newer state and lets it react.
func (l *life) publish(s *failover.State) {
	if l.n.reign != nil {
		l.w.meet()
		l.atRest = atRest(s)
	}
	l.mu.Lock()
	l.state = s
	close(l.changed)
	l.changed = make(chan struct{})
	l.mu.Unlock()
	if l.n.reign != nil {
		synctest.Wait()
	}
}

// atRest reports whether a state gives a runner nothing to do.
func atRest(s *failover.State) bool {
	g := s.Groups[group]
	return g == nil || !g.Switchover.Open() && len(s.Obliged(group)) == 0
}

func (l *life) kill() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
}

// call hands a call to the driver; false: the process is dead and nothing more comes of it.
func (l *life) call(c *call) bool {
	l.mu.Lock()
	dead := l.dead
	l.mu.Unlock()
	if dead {
		return false
	}
	c.life, c.reply = l, make(chan reply, 1)
	l.w.mu.Lock()
	l.w.incoming = append(l.w.incoming, c)
	l.w.mu.Unlock()
	l.w.wake()
	return true
}

// run is switchover.Program.
func (l *life) run(ctx context.Context, p switchover.Process) ([]byte, int, error) {
	c := &call{ctx: ctx, process: &p, key: fmt.Sprintf("%s run %v %s", l.n.name, p.Argv, variable(p.Env, "STEP"))}
	if ctx.Err() != nil || !l.call(c) {
		return nil, -1, errKilled
	}
	stop := context.AfterFunc(ctx, l.w.wake)
	defer stop()
	r := <-c.reply
	return r.output, r.code, r.err
}

// seat is the journal that the runner gets for one term.
type seat struct {
	*life
	reign *reign
}

func (s seat) Begin(c failover.Command) func(context.Context) (failover.Result, error) {
	return s.propose(&call{reign: s.reign, command: &c})
}

func (s seat) Propose(ctx context.Context, c failover.Command) (failover.Result, error) {
	return s.propose(&call{reign: s.reign, command: &c, forward: true, ctx: ctx})(ctx)
}

func (s seat) GiveWay(reason string, to ...string) {
	s.call(&call{reign: s.reign, key: s.n.name + " give way", giveWay: append([]string{""}, to...), reason: reason})
}

func (s seat) propose(c *call) func(context.Context) (failover.Result, error) {
	c.key = s.n.name + " journal " + journalKey(c.command.Journal)
	if !s.call(c) {
		return func(context.Context) (failover.Result, error) { return failover.Result{}, errNoLeader }
	}
	return func(ctx context.Context) (failover.Result, error) {
		select {
		case r := <-c.reply:
			return r.result, r.err
		case <-ctx.Done():
			return failover.Result{}, errUnknown
		}
	}
}

// journalKey names the goroutine that proposes: each app's keeper and the performer have one.
func journalKey(j *failover.Journal) string {
	task := failover.Task{}
	if j.Start != nil {
		task = j.Start.Task
	} else if len(j.Ended) > 0 {
		task = j.Ended[0].Task
	}
	if task.Switchover == 0 {
		return task.Group + " " + task.App
	}
	return task.Group
}

// take answers a call, or holds it if its process stands still.
func (w *world) take(c *call) {
	n := c.life.n
	switch {
	case n.life != c.life:
		w.resume(c, reply{code: -1, err: errKilled})
	case n.paused:
		c.life.held = append(c.life.held, c)
	case c.process != nil:
		c.life.open = append(c.life.open, c)
		w.startProgram(c)
	case c.giveWay != nil:
		c.reign.giveWay(c.reason, c.giveWay[1:]...)
	case w.passPoint(n, "before", c.command.Journal):
		c.life.held = append(c.life.held, c)
	case c.forward:
		n.propose(*c.command, 10*time.Second, func(r failover.Result, err error) { w.answered(c, r, err) })
	default:
		c.reign.enqueue(*c.command, func(r failover.Result, err error) { w.answered(c, r, err) })
	}
}

// answered passes the log's answer on to the process, unless it dies just then.
func (w *world) answered(c *call, r failover.Result, err error) {
	c.life.n.do(c.life, func() {
		again := func() { w.resume(c, reply{result: r, err: err}) }
		if err == nil && w.passPoint(c.life.n, "after", c.command.Journal) {
			c.life.n.do(c.life, again)
			return
		}
		again()
	})
}

// resume lets the caller go on, and waits until it is quiet again.
func (w *world) resume(c *call, r reply) {
	c.life.open = slices.DeleteFunc(c.life.open, func(other *call) bool { return other == c })
	c.reply <- r
	synctest.Wait()
}
