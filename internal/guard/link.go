package guard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

const (
	// startTimeout bounds the guard's own start; it takes milliseconds, but the machine may be swapping.
	startTimeout = 5 * time.Second
	// sendTimeout bounds handing over one message; the guard reads at once unless it hangs.
	sendTimeout = time.Second
	// closeTimeout is how long the guard may take to kill its hooks and end before it is killed itself.
	closeTimeout = 2 * time.Second
)

// link is the watcher's end of one guard process.
type link struct {
	log   zerolog.Logger
	conn  *net.UnixConn
	cmd   *exec.Cmd
	began time.Time
	done  chan struct{} // closed by serve after the process and its hooks are dead

	mu     sync.Mutex
	calls  map[uint64]*call // guarded by mu; nil once the guard is dead
	closed bool             // guarded by mu: close was called, so the end is no news
}

// call is one hook in flight.
type call struct {
	pid   int        // 0 until the guard reported it; guarded by link.mu
	reply chan reply // buffered, written once
}

// startLink starts a guard process and waits until it is ready.
func startLink(ctx context.Context, executable string, log zerolog.Logger) (*link, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot create the guard's socket: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "guard"), os.NewFile(uintptr(fds[1]), "guard")
	defer ours.Close() // FileConn duplicates it
	conn, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return nil, fmt.Errorf("cannot use the guard's socket: %w", err)
	}
	l := &link{log: log, conn: conn.(*net.UnixConn), began: time.Now(), done: make(chan struct{}), calls: make(map[uint64]*call)}
	l.cmd = guardCommand(executable, theirs)
	err = l.cmd.Start()
	theirs.Close() // now, so that a guard that ends at once is noticed at once
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("cannot start the guard process %s: %w", executable, err)
	}
	if err := l.hello(ctx); err != nil {
		conn.Close()
		_ = l.cmd.Process.Kill()
		_ = l.cmd.Wait()
		return nil, fmt.Errorf("cannot start the guard process %s: %w", executable, err)
	}
	log.Debug().Int("pid", l.cmd.Process.Pid).Dur("took", time.Since(l.began)).Msg("guard started")
	go l.serve() // waited for by close, through done
	return l, nil
}

// guardCommand describes the guard process: in a session of its own, so that a terminal's Ctrl-C does not reach it.
func guardCommand(executable string, socket *os.File) *exec.Cmd {
	return &exec.Cmd{
		Path: executable,
		Args: []string{processName},
		// Small: it only ever waits. A second processor spares the SIGCHLD goroutine, which has to wake while the loop
		// sits in a system call, a quarter of a millisecond for each hook.
		Env:         []string{processEnv + "=1", "GOMAXPROCS=2", "GOGC=25", "GOTRACEBACK=single"},
		Dir:         "/",
		Stderr:      os.Stderr, // a file, passed on as it is: where a crash of the guard can be read
		ExtraFiles:  []*os.File{socket},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
}

// hello waits for the guard's first message.
func (l *link) hello(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 64)
	n, err := l.conn.Read(buf)
	if ctx.Err() != nil {
		return fmt.Errorf("no answer: %w", ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("it ended at once: %w", err)
	}
	if r, err := decodeReply(buf[:n]); err != nil || r.kind != kindHello || r.id != protocol {
		return errors.New("it is of another version: restart the daemon")
	}
	return nil
}

// alive tells whether the guard still takes commands.
func (l *link) alive() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls != nil
}

// do has one program run and waits for its end. The context has ended at the deadline at the latest.
func (l *link) do(ctx context.Context, req request, deadline time.Time) (reply, error) {
	c := &call{reply: make(chan reply, 1)}
	l.mu.Lock()
	if l.calls == nil {
		l.mu.Unlock()
		return reply{}, ErrLost
	}
	l.calls[req.id] = c
	l.mu.Unlock()
	defer l.forget(req.id)
	if err := l.send(req); err != nil {
		return reply{}, err
	}
	select {
	case r := <-c.reply:
		return r, nil
	case <-l.done:
		return l.lost(c)
	case <-ctx.Done():
	}
	if time.Now().Before(deadline) { // at the deadline the guard kills by itself
		if err := l.send(request{kind: kindCancel, id: req.id}); err != nil {
			return reply{}, err
		}
	}
	return l.await(c)
}

// await waits for the end of a hook that is being killed, and kills a guard that says nothing.
func (l *link) await(c *call) (reply, error) {
	timer := time.NewTimer(backstop)
	defer timer.Stop()
	for range 2 {
		select {
		case r := <-c.reply:
			return r, nil
		case <-l.done:
			return l.lost(c)
		case <-timer.C:
			timer.Reset(backstop)
		}
	}
	l.log.Error().Int("pid", l.cmd.Process.Pid).Msg("guard does not answer, killing it")
	_ = l.cmd.Process.Kill()
	<-l.done
	return l.lost(c)
}

// lost says what became of a hook whose guard is dead: its end may have been reported just before.
func (l *link) lost(c *call) (reply, error) {
	select {
	case r := <-c.reply:
		return r, nil
	default:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return reply{}, ErrClosed
	}
	return reply{}, ErrLost
}

func (l *link) forget(id uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.calls, id)
}

// send hands one message to the guard. A guard that takes none within sendTimeout is as good as dead and is killed:
// whether it read the message is unknown, and a hook must not run unwatched.
func (l *link) send(req request) error {
	l.mu.Lock()
	_ = l.conn.SetWriteDeadline(time.Now().Add(sendTimeout))
	_, err := l.conn.Write(req.encode())
	l.mu.Unlock()
	if err == nil {
		return nil
	}
	_ = l.cmd.Process.Kill()
	<-l.done
	return fmt.Errorf("%w: cannot reach it: %v", ErrLost, err)
}

// serve reads the guard's messages until its end, then makes sure that nothing of it is left.
func (l *link) serve() {
	defer close(l.done)
	err := l.read()
	_ = l.cmd.Process.Kill() // it may have been its message, not its life, that ended
	_ = l.cmd.Wait()
	l.conn.Close()
	l.mu.Lock()
	var pids []int
	for _, c := range l.calls {
		if c.pid != 0 {
			pids = append(pids, c.pid)
		}
	}
	l.calls = nil
	closed := l.closed
	l.mu.Unlock()
	killSessions(pids)
	if !closed {
		l.log.Error().Err(err).Int("pid", l.cmd.Process.Pid).Int("hooks", len(pids)).Msg("guard died, its hooks were killed")
	}
}

func (l *link) read() error {
	buf := make([]byte, MaxOutput+256)
	for {
		// No read deadline: the guard speaks only when a hook starts or ends. Each call of do has its own bound.
		n, err := l.conn.Read(buf)
		if err != nil {
			return err
		}
		r, err := decodeReply(buf[:n])
		if err != nil {
			return err
		}
		l.dispatch(r)
	}
}

func (l *link) dispatch(r reply) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.calls[r.id]
	switch {
	case c == nil: // given up already
	case r.kind == kindStarted:
		c.pid = int(r.pid)
	case r.kind == kindEnded:
		delete(l.calls, r.id) // before the reply: its process id is no longer its own
		c.reply <- r
	}
}

// close ends the guard and waits for it. Closing our end of the socket is what makes it kill its hooks.
func (l *link) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	_ = l.conn.CloseWrite()
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case <-l.done:
		return
	case <-timer.C:
	}
	_ = l.cmd.Process.Kill()
	<-l.done
}
