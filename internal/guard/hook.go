package guard

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// program is what a start may hang on.
type program struct{ dir, path string }

// hook is one running program, seen from the guard process.
type hook struct {
	pid      int   // also its session and its process group; ours until reap has returned true
	started  int64 // clock ticks since boot, as in /proc/PID/stat
	deadline int64 // CLOCK_BOOTTIME, nanoseconds
	settleBy int64 // when it is reported whatever is still missing; 0 while it runs undisturbed
	program  program
	image    *image        // nil when the child needs it no more
	status   int           // read end of the pipe that closes when the program is executed, -1 once closed
	begun    bool          // the program was seen to be executed
	errno    syscall.Errno // why it could not be
	out      int           // read end of its output, -1 once closed
	tail     tail
	killed   bool // by us, while its first process was alive
	exited   bool // its first process is reaped
	children bool // something it may have started was still alive at the last sweep
	code     int
}

// spawn starts a program in a session of its own, with the death signal as the second layer under the guard. It does not
// wait until the program is executed: that may take for ever.
func spawn(r request, null int, s settings, launch launcher) (*hook, error) {
	i, err := newImage(r, s)
	if err != nil {
		return nil, err
	}
	if i.in, err = input(r.stdin, null); err != nil {
		return nil, err
	}
	if i.in != null {
		defer unix.Close(i.in)
	}
	h := &hook{deadline: r.deadline, program: program{r.dir, r.path}, image: i}
	if h.status, i.status, err = pipe(); err != nil {
		return nil, err
	}
	defer unix.Close(i.status)
	if h.out, i.out, err = pipe(); err != nil {
		unix.Close(h.status)
		return nil, err
	}
	defer unix.Close(i.out)
	h.started = ticks(bootTime())
	if h.pid, err = i.start(launch); err != nil {
		unix.Close(h.status)
		unix.Close(h.out)
		return nil, err
	}
	return h, nil
}

// pipe returns both ends of a pipe; reading never waits.
func pipe() (read, write int, err error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return -1, -1, err
	}
	if err := unix.SetNonblock(ends[0], true); err != nil {
		unix.Close(ends[0])
		unix.Close(ends[1])
		return -1, -1, err
	}
	return ends[0], ends[1], nil
}

// input makes standard input a file in memory: unlike a pipe it needs nobody who waits until the program reads.
func input(data []byte, null int) (int, error) {
	if len(data) == 0 {
		return null, nil
	}
	fd, err := unix.MemfdCreate("stdin", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, err
	}
	if n, err := unix.Pwrite(fd, data, 0); err != nil || n != len(data) {
		unix.Close(fd)
		return -1, fmt.Errorf("cannot keep %d bytes of standard input: %w", len(data), unix.EIO)
	}
	return fd, nil
}

// kill ends the hook and all of its descendants, then once more its group: that is atomic, no fork slips through.
func (h *hook) kill() {
	killTree(h.pid)
	_ = unix.Kill(-h.pid, unix.SIGKILL)
}

// reap tells whether the first process has ended, and if so kills the rest of its group. That comes before the process
// is collected: as long as it is a zombie, no other process or group can have got its number.
func (h *hook) reap() bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, h.pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	if err != nil || info.Signo == 0 {
		return false
	}
	_ = unix.Kill(-h.pid, unix.SIGKILL)
	var status unix.WaitStatus
	if _, err := unix.Wait4(h.pid, &status, 0, nil); err != nil {
		return false
	}
	h.exited = true
	h.code = status.ExitStatus()
	if status.Signaled() {
		h.code = 128 + int(status.Signal()) // as shells say it
	}
	return true
}

// tail keeps the last MaxOutput bytes of a stream.
type tail struct{ b []byte }

func (t *tail) write(p []byte) {
	if len(p) > MaxOutput {
		p = p[len(p)-MaxOutput:]
	}
	if over := len(t.b) + len(p) - MaxOutput; over > 0 {
		t.b = t.b[:copy(t.b, t.b[over:])]
	}
	t.b = append(t.b, p...)
}

func (t *tail) bytes() []byte { return t.b }
