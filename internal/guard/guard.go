// Package guard runs hooks and exec actions so that none of them acts after its deadline or after the watcher's end.
//
// A program started by the watcher itself lives on when the watcher is killed, and a frozen watcher kills nothing: a
// hook was seen to act two seconds after its deadline, when another watcher had long taken over. Therefore hooks are
// children of a second process, the guard: the same executable, started lazily, one per Guard, doing nothing else.
//
//   - At a hook's deadline the guard kills it by its own clock (CLOCK_BOOTTIME, which runs on while the machine sleeps),
//     whatever state the watcher is in. When the caller cancels, it kills at once.
//   - A program that hangs in its start, on a network file system that went away, hangs alone: its child is killed at the
//     deadline like any other. One that cannot even be killed is reported, and not started again before it is gone.
//   - When the socket to the watcher closes, for whatever reason, it kills every hook and ends.
//   - When the guard itself dies, the kernel kills the hooks (PR_SET_PDEATHSIG) and the watcher kills what is left of
//     their sessions. The next Run starts a new guard.
//   - A hook may leave nothing behind: when its first process ends, the rest of its session is killed. A process that
//     moved itself into another session is found too, since the guard is the reaper of orphans
//     (PR_SET_CHILD_SUBREAPER); it is killed when no hook is left that could have started it.
//
// Killing means SIGKILL, with no warning before it: the time that a hook was given is its own to the end.
//
// Not covered: watcher and guard killed in the same instant (a hook's first process still dies with the guard, its
// children do not), a directory of PATH that hangs (the watcher looks there, with no deadline, for a program that is named
// without a slash), the guard alone killed while a hook's process is in another session than the hook (nobody can tell then
// whose it was), set-user-ID programs (the kernel clears their death signal), and what a hook has asked another
// machine to do.
package guard

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// Bounds of what one guard takes. A larger command is refused by Run, never cut.
const (
	MaxHooks  = 64       // running at once; further calls of Run wait for a place until their own deadline
	MaxOutput = 4 << 10  // bytes kept of stdout and stderr together: the last ones
	MaxArgs   = 64 << 10 // bytes of argv, environment, directory and path together, 8 more counted for each string
	MaxStdin  = 64 << 10 // bytes of standard input
)

// backstop is how long after a hook's deadline (or its cancellation) the guard may stay silent before it is taken for
// hung and killed. It is waited twice: a watcher that was itself frozen needs a moment to read what has arrived.
const backstop = time.Second

// Errors that callers may ask for with errors.Is. A hook that was killed at its deadline or by its caller gives
// context.DeadlineExceeded or the context's own error; one that could not be started gives the system's error, such as
// fs.ErrNotExist.
var (
	ErrClosed = errors.New("guard is closed")
	ErrLost   = errors.New("guard process died, its hooks were killed")
	ErrBusy   = fmt.Errorf("%d hooks are running already", MaxHooks)
	ErrTooBig = errors.New("command too large")
)

// Options configure a Guard.
type Options struct {
	Log        zerolog.Logger
	Executable string // started as the guard; it must call Main first. Default /proc/self/exe
}

// Command is one program to run. There is no shell; standard output and standard error are one stream.
type Command struct {
	Argv     []string  // Argv[0] is looked up in the PATH of Env unless it contains a slash
	Env      []string  // the exact environment, NAME=value; nothing is added
	Dir      string    // working directory; default "/"
	Stdin    []byte    // what the program may read; empty: /dev/null
	Deadline time.Time // when it is killed; default, and upper bound, is the context's deadline. One of the two is required
}

// Result is what became of a hook. With an error other than a kill only Took is set.
type Result struct {
	Output   []byte        // the last MaxOutput bytes of stdout and stderr together
	ExitCode int           // 128+N if another's signal N ended it; -1 if Killed or never run
	Killed   bool          // it ran, and was killed by us: deadline or cancellation
	Took     time.Duration // from the call of Run
}

// Guard runs programs through a guard process. Its methods may be called concurrently.
type Guard struct {
	log        zerolog.Logger
	executable string
	slots      chan struct{} // one element per hook in flight
	ids        atomic.Uint64
	closed     chan struct{} // closed by Close
	lock       chan struct{} // guards link; a channel, so that waiting for a slow start honours the context
	link       *link         // nil: none started yet, or the last one died
}

// New returns a Guard. No process is started before Start or the first Run.
func New(o Options) *Guard {
	if o.Executable == "" {
		o.Executable = "/proc/self/exe"
	}
	return &Guard{
		log:        o.Log,
		executable: o.Executable,
		slots:      make(chan struct{}, MaxHooks),
		closed:     make(chan struct{}),
		lock:       make(chan struct{}, 1),
	}
}

// Start starts the guard process if there is none, so that the first Run need not wait those milliseconds for it.
func (g *Guard) Start(ctx context.Context) error {
	_, err := g.connect(ctx)
	return err
}

// Run runs one program to its end. The error is nil if the program ended by itself, whatever its exit code. On return
// the program and what it started are dead, unless the error says that the kernel would not let it die, or a process has
// left the hook's session while another hook is running (see the package's story).
func (g *Guard) Run(ctx context.Context, c Command) (Result, error) {
	began := time.Now()
	res, err := g.run(ctx, c)
	res.Took = time.Since(began)
	return res, err
}

func (g *Guard) run(ctx context.Context, c Command) (Result, error) {
	failed := Result{ExitCode: -1}
	if err := c.check(); err != nil {
		return failed, err
	}
	ctx, cancel := c.bound(ctx)
	defer cancel()
	deadline, ok := ctx.Deadline()
	if !ok {
		return failed, fmt.Errorf("cannot run %q: no deadline, neither of the command nor of the context", c.Argv[0])
	}
	path, err := lookPath(c.Argv[0], c.Env)
	if err != nil {
		return failed, err
	}
	if err := g.acquire(ctx); err != nil {
		return failed, fmt.Errorf("cannot run %q: %w", c.Argv[0], err)
	}
	defer func() { <-g.slots }()
	l, err := g.connect(ctx)
	if err != nil {
		return failed, fmt.Errorf("cannot run %q: %w", c.Argv[0], err)
	}
	req := request{kind: kindRun, id: g.ids.Add(1), deadline: bootTime() + int64(time.Until(deadline)),
		path: path, dir: c.Dir, stdin: c.Stdin, argv: c.Argv, env: c.Env}
	rep, err := l.do(ctx, req, deadline)
	if err != nil {
		return failed, fmt.Errorf("cannot run %q: %w", c.Argv[0], err)
	}
	return c.result(ctx, path, rep)
}

// acquire takes one of the MaxHooks places.
func (g *Guard) acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err // before the select, which would choose at random
	}
	select {
	case g.slots <- struct{}{}:
		return nil
	case <-g.closed:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrBusy, ctx.Err())
	}
}

// connect returns the living guard process, starting one if there is none.
func (g *Guard) connect(ctx context.Context) (*link, error) {
	select {
	case g.lock <- struct{}{}:
		defer func() { <-g.lock }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case <-g.closed:
		return nil, ErrClosed
	default:
	}
	if g.link != nil && g.link.alive() {
		return g.link, nil
	}
	l, err := startLink(ctx, g.executable, g.log)
	if err != nil {
		return nil, err
	}
	g.link = l
	return l, nil
}

// Close kills all hooks, ends the guard process and waits for both. Calls of Run return ErrLost or ErrClosed.
func (g *Guard) Close() {
	g.lock <- struct{}{}
	defer func() { <-g.lock }()
	select {
	case <-g.closed:
		return
	default:
		close(g.closed)
	}
	if g.link != nil {
		g.link.close()
	}
}

// bound applies the command's own deadline to ctx.
func (c Command) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if c.Deadline.IsZero() {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, c.Deadline)
}

// check refuses what cannot be passed on.
func (c Command) check() error {
	if len(c.Argv) == 0 || c.Argv[0] == "" {
		return errors.New("cannot run an empty command: give the program's path")
	}
	size := len(c.Dir) + len(c.Argv[0])
	for _, list := range [][]string{c.Argv, c.Env} {
		for _, s := range list {
			if strings.IndexByte(s, 0) >= 0 {
				return fmt.Errorf("cannot run %q: an argument or variable contains a NUL byte", c.Argv[0])
			}
			size += len(s) + 8
		}
	}
	switch {
	case strings.IndexByte(c.Dir, 0) >= 0:
		return fmt.Errorf("cannot run %q: the directory contains a NUL byte", c.Argv[0])
	case size > MaxArgs:
		return fmt.Errorf("cannot run %q: %w: arguments and environment take %d bytes, at most %d are allowed", c.Argv[0], ErrTooBig, size, MaxArgs)
	case len(c.Stdin) > MaxStdin:
		return fmt.Errorf("cannot run %q: %w: standard input has %d bytes, at most %d are allowed", c.Argv[0], ErrTooBig, len(c.Stdin), MaxStdin)
	}
	return nil
}

// result turns the guard's reply into what Run returns.
func (c Command) result(ctx context.Context, path string, r reply) (Result, error) {
	res := Result{ExitCode: -1, Output: r.output}
	switch r.outcome {
	case outcomeExit:
		res.ExitCode = int(r.code)
		return res, nil
	case outcomeKilled, outcomeStuck:
		res.Killed = r.pid != 0 // else it came too late to be started, or hung in its start
		cause := ctx.Err()
		if cause == nil {
			cause = context.DeadlineExceeded // the guard's timer was a moment faster than ours
		}
		if r.outcome == outcomeStuck {
			return res, fmt.Errorf("cannot end %q: killed, but the kernel has not let it die yet (a hung disk or network file system?): %w", c.Argv[0], cause)
		}
		if !res.Killed {
			return res, fmt.Errorf("cannot start %q in time (a hung disk or network file system, or a busy machine?): %w", c.Argv[0], cause)
		}
		return res, fmt.Errorf("cannot finish %q in time: killed: %w", c.Argv[0], cause)
	default:
		return res, startError(c, path, r.errno())
	}
}
