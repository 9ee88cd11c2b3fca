package guard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// How the guard process knows itself: both must be there, so that no one becomes it by accident.
const (
	processName = "watchover-guard" // argv[0]; also what ps shows
	processEnv  = "WATCHOVER_GUARD"
)

const (
	socketFD = 3 // the first of exec.Cmd.ExtraFiles

	// drainTime is how long after a hook's end its output and its children may take to end as well.
	drainTime = 200 * time.Millisecond
	// stuckTime is how long after SIGKILL a hook may still be there before it is reported as stuck. Less than backstop.
	stuckTime = 500 * time.Millisecond
	// endTime is how long a guard without a watcher goes on killing.
	endTime = time.Second
	// maxQueue bounds what a frozen watcher has not read; two messages for each hook fit.
	maxQueue = 4 * MaxHooks
)

// Main runs the guard and returns true if this process was started as one; then there is nothing left to do for the
// caller. It belongs at the very beginning of main, and of TestMain in packages whose tests run a Guard:
//
//	if guard.Main() {
//		return
//	}
func Main() bool {
	if os.Args[0] != processName || os.Getenv(processEnv) == "" {
		return false
	}
	// The kernel sends the death signal of a hook when the *thread* that started it ends: stay on this one for ever.
	runtime.LockOSThread()
	if err := runProcess(); err != nil {
		fmt.Fprintln(os.Stderr, "watchover: cannot run the guard process:", err)
	}
	return true
}

// process is the guard: one thread, one loop over file descriptors, no locks.
type process struct {
	poll    int // epoll
	timer   int // timerfd, CLOCK_BOOTTIME
	null    int // /dev/null
	child   int // eventfd, raised at SIGCHLD
	own     settings
	hooks   map[uint64]*hook
	pipes   map[int]*hook // by the read ends: status and output
	stuck   map[int]*hook // by process id: killed in its start, and the kernel does not let it go
	queue   [][]byte      // messages that the watcher has not taken yet; at most maxQueue
	message []byte        // read buffers, used again
	chunk   []byte
	strays  int  // orphans alive at the last sweep that a running hook may have started
	ended   bool // the watcher is gone
}

func runProcess() error {
	p := &process{hooks: make(map[uint64]*hook), pipes: make(map[int]*hook), stuck: make(map[int]*hook),
		message: make([]byte, maxMessage+1), chunk: make([]byte, 64<<10)}
	if err := p.open(); err != nil {
		return err
	}
	p.send(reply{kind: kindHello, id: protocol})
	err := p.loop()
	p.killAll()
	return err
}

// open prepares the process: what it inherits must reach no hook, and orphans must come to it.
func (p *process) open() error {
	if err := closeOnExec(); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot become the reaper of orphans: %w", err)
	}
	_ = os.WriteFile("/proc/self/comm", []byte(processName), 0) // cosmetic: the name in ps
	// Caught and dropped, not ignored: an ignored signal would stay ignored in the hooks.
	signal.Notify(make(chan os.Signal, 1), unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGTSTP)
	var err error
	if p.null, err = unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("cannot open /dev/null: %w", err)
	}
	if p.child, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("cannot create an eventfd: %w", err)
	}
	if p.timer, err = unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		return fmt.Errorf("cannot create a timer: %w", err)
	}
	if p.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("cannot create an epoll: %w", err)
	}
	if err := unix.SetNonblock(socketFD, true); err != nil {
		return fmt.Errorf("cannot use the watcher's socket: %w", err)
	}
	for _, fd := range []int{socketFD, p.timer, p.child} {
		if err := p.watch(fd, unix.EPOLLIN); err != nil {
			return err
		}
	}
	p.notifyChildren()
	p.own, err = currentSettings()
	return err
}

// notifyChildren raises p.child at each SIGCHLD. Its goroutine lives as long as the process.
func (p *process) notifyChildren() {
	signals := make(chan os.Signal, 1) // one is enough: every raise looks at all children
	signal.Notify(signals, unix.SIGCHLD)
	go func() {
		one := []byte{1, 0, 0, 0, 0, 0, 0, 1} // not zero in either byte order
		for range signals {
			_, _ = unix.Write(p.child, one)
		}
	}()
}

// closeOnExec keeps whatever the watcher inherited or opened carelessly from reaching a hook.
func closeOnExec() error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("cannot list open files (is /proc mounted?): %w", err)
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd >= socketFD {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

func (p *process) watch(fd int, events uint32) error {
	if err := unix.EpollCtl(p.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}); err != nil {
		return fmt.Errorf("cannot watch a file descriptor: %w", err)
	}
	return nil
}

// loop goes on until the watcher's end of the socket closes.
func (p *process) loop() error {
	events := make([]unix.EpollEvent, 2*MaxHooks)
	for !p.ended {
		p.arm()
		n, err := unix.EpollWait(p.poll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("cannot wait for events: %w", err)
		}
		for _, e := range events[:max(n, 0)] {
			if err := p.handle(int(e.Fd), e.Events); err != nil {
				return err
			}
		}
		p.expire(bootTime())
	}
	return nil
}

func (p *process) handle(fd int, events uint32) error {
	switch fd {
	case socketFD:
		if events&unix.EPOLLOUT != 0 {
			p.flush()
		}
		return p.receive()
	case p.child:
		drainCounter(fd)
		p.reap()
	case p.timer:
		drainCounter(fd)
	default:
		if h := p.pipes[fd]; h != nil && fd == h.status {
			p.readStatus(h)
		} else if h != nil {
			p.readOutput(h)
		}
	}
	return nil
}

// drainCounter resets an eventfd or timerfd.
func drainCounter(fd int) {
	var b [8]byte
	_, _ = unix.Read(fd, b[:])
}

// receive takes one message; epoll reports again if there are more.
func (p *process) receive() error {
	n, err := unix.Read(socketFD, p.message)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return nil
	case err != nil, n == 0: // a reset is an end like any other
		p.ended = true
		return nil
	}
	r, err := decodeRequest(p.message[:n])
	if err != nil {
		return fmt.Errorf("cannot read the watcher's request: %w", err)
	}
	h := p.hooks[r.id]
	switch {
	case r.kind == kindRun && h != nil:
		return fmt.Errorf("cannot start hook %d twice", r.id)
	case r.kind == kindRun:
		p.start(r)
	case h != nil: // a cancel for a hook that has just ended is no fault
		p.kill(h)
	}
	return nil
}

// start runs a hook, or says why it cannot.
func (p *process) start(r request) {
	failed := func(errno syscall.Errno) {
		p.send(reply{kind: kindEnded, id: r.id, outcome: outcomeFailed, code: uint64(errno)})
	}
	if len(p.hooks) >= MaxHooks {
		failed(unix.EAGAIN) // the watcher counts too, so this is another's fault
		return
	}
	if r.deadline <= bootTime() {
		p.send(reply{kind: kindEnded, id: r.id, outcome: outcomeKilled}) // too late to act at all
		return
	}
	if p.hangs(program{r.dir, r.path}) {
		failed(unix.EBUSY)
		return
	}
	h, err := spawn(r, p.null, p.own, usual)
	if err != nil {
		var errno syscall.Errno
		if !errors.As(err, &errno) {
			errno = unix.EIO
		}
		failed(errno)
		return
	}
	p.hooks[r.id] = h
	p.send(reply{kind: kindStarted, id: r.id, pid: uint64(h.pid)})
	for _, end := range []*int{&h.status, &h.out} {
		p.pipes[*end] = h
		if err := p.watch(*end, unix.EPOLLIN); err != nil {
			p.closePipe(end)
		}
	}
}

// hangs tells whether an earlier start of the program cannot even be killed. Each further one would be a process more
// that nothing can end, until the machine has no room for others.
func (p *process) hangs(wanted program) bool {
	for _, stuck := range p.stuck {
		if stuck.program == wanted {
			return true
		}
	}
	return false
}

// reap looks at every hook, since one SIGCHLD may stand for many, then at the orphans.
func (p *process) reap() {
	for _, h := range p.hooks {
		if !h.exited && h.reap() {
			h.settleBy = bootTime() + int64(drainTime)
			p.readStatus(h)
			p.readOutput(h)
		}
	}
	p.sweep()
}

// readStatus learns what became of the start. Once the hook is killed, the end of the pipe is the end of the process.
func (p *process) readStatus(h *hook) {
	if h.status < 0 {
		return
	}
	var b [4]byte
	n, err := unix.Read(h.status, b[:])
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return
	case n == len(b):
		h.errno = syscall.Errno(binary.NativeEndian.Uint32(b[:]))
	default:
		h.begun = !h.killed
	}
	h.image = nil // executed or dead
	p.closePipe(&h.status)
}

// readOutput takes what the hook wrote: one chunk at a time, so that a hook that never stops writing starves no other.
func (p *process) readOutput(h *hook) {
	if h.out < 0 {
		return
	}
	n, err := unix.Read(h.out, p.chunk)
	switch {
	case n > 0:
		h.tail.write(p.chunk[:n])
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
	default:
		p.closePipe(&h.out)
	}
}

// closePipe closes a read end. The epoll forgets it only when told: a child that is being started may have a copy open.
func (p *process) closePipe(end *int) {
	if *end < 0 {
		return
	}
	delete(p.pipes, *end)
	_ = unix.EpollCtl(p.poll, unix.EPOLL_CTL_DEL, *end, nil)
	unix.Close(*end)
	*end = -1
}

// kill ends a hook with all that it started.
func (p *process) kill(h *hook) {
	if h.exited || h.killed {
		return
	}
	p.readStatus(h) // the last chance to learn whether it has begun
	h.killed = true
	h.settleBy = bootTime() + int64(stuckTime)
	h.kill()
}

// expire does what is due: deadlines, and the ends of hooks that are through.
func (p *process) expire(now int64) {
	for id, h := range p.hooks {
		if now >= h.deadline {
			p.kill(h)
		}
		overdue := h.settleBy != 0 && now >= h.settleBy
		if overdue || h.exited && h.out < 0 && !h.children {
			p.finish(id, h)
		}
	}
}

// finish reports a hook's end. One that is stuck is an orphan from now on: reaped by sweep when the kernel lets it go.
func (p *process) finish(id uint64, h *hook) {
	p.closePipe(&h.status)
	p.closePipe(&h.out)
	delete(p.hooks, id)
	r := reply{kind: kindEnded, id: id, pid: uint64(h.pid), outcome: outcomeExit, code: uint64(h.code), output: h.tail.bytes()}
	switch {
	case h.errno != 0:
		r.outcome, r.code = outcomeFailed, uint64(h.errno)
	case !h.exited:
		r.outcome = outcomeStuck
	case h.killed:
		r.outcome = outcomeKilled
	}
	if h.killed && !h.begun {
		r.pid = 0
	}
	if r.outcome == outcomeStuck && !h.begun {
		p.stuck[h.pid] = h // with its image, which the child may yet use
	}
	p.send(r)
	if p.strays > 0 {
		p.sweep() // they have one possible owner less
	}
}

// arm sets the timer to whatever is due next.
func (p *process) arm() {
	var next int64
	for _, h := range p.hooks {
		due := h.deadline
		if h.settleBy != 0 {
			due = h.settleBy
		}
		if next == 0 || due < next {
			next = due
		}
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(next)} // zero disarms
	_ = unix.TimerfdSettime(p.timer, unix.TFD_TIMER_ABSTIME, &spec, nil)
}

// send passes a message on, or keeps it until the watcher reads again.
func (p *process) send(r reply) {
	p.queue = append(p.queue, r.encode())
	p.flush()
}

func (p *process) flush() {
	for len(p.queue) > 0 {
		err := unix.Sendto(socketFD, p.queue[0], unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, nil)
		switch {
		case err == nil:
			p.queue = slices.Delete(p.queue, 0, 1)
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN) && len(p.queue) <= maxQueue:
			p.interest(unix.EPOLLIN | unix.EPOLLOUT)
			return
		default: // the watcher is gone, or asks on without ever listening
			p.ended = true
			p.queue = nil
		}
	}
	p.interest(unix.EPOLLIN)
}

func (p *process) interest(events uint32) {
	_ = unix.EpollCtl(p.poll, unix.EPOLL_CTL_MOD, socketFD, &unix.EpollEvent{Events: events, Fd: socketFD})
}

// killAll is the end: nothing that a hook started may be left.
func (p *process) killAll() {
	until := bootTime() + int64(endTime)
	for {
		for _, h := range p.hooks {
			if !h.exited {
				h.kill()
				h.reap()
			}
		}
		if left := p.killChildren(); left == 0 || bootTime() > until {
			return
		}
		fds := []unix.PollFd{{Fd: int32(p.child), Events: unix.POLLIN}}
		_, _ = unix.Poll(fds, 10)
		drainCounter(p.child)
	}
}
