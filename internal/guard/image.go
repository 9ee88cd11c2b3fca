package guard

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// How a program is started: by a child of our own making, which executes it and tells over a pipe why it cannot.
//
// execve(2) and chdir(2) on a network file system that went away do not come back. [syscall.ForkExec] makes its child
// with vfork: until that has executed the program, the thread that asked, its processor of the Go scheduler and the lock
// of all other starts are held, so a second thread would not help, and the guard did nothing for anybody. Here the one
// that hangs is the child alone: its process id is known, and it is killed like any other hook.
//
// What the child does is a list of system calls, written before it is made: it has neither a scheduler nor an allocator,
// and on amd64 not even a stack, since it shares the guard's memory there (clone_amd64.s). A second start of this
// executable in its place would cost several times as much as the whole run of a small program, a fork about as much.

// statusFD is where the child tells why the program was not executed. It is in the place of the watcher's socket: a child
// that nothing can kill must not keep that open, or the watcher would not see the guard's end.
const statusFD = socketFD

// signalSetSize is that of the kernel, in bytes.
const signalSetSize = 8

// op is one system call of the child. The assembler knows its layout.
type op struct {
	trap       uintptr
	a, b, c, d uintptr
	need       uintptr // 0: no error; anyResult: whatever comes; else this very result
}

const anyResult = 1

// image is a program on its way to be executed. It has to stay as it is until the child has done so or is dead.
type image struct {
	path, dir *byte
	argv, env []*byte // both end in nil
	settings  settings
	ops       []op
	errno     uint32   // the child's own
	none      [64]byte // a struct sigaction: the default
	in, out   int
	status    int // write end of the pipe
}

// settings are what a program has of its own, different from those of the guard.
type settings struct {
	limit  unix.Rlimit   // of open files
	mask   unix.Sigset_t // of signals
	caught []int         // signals for which the guard has a handler
}

func newImage(r request, s settings) (*image, error) {
	i := &image{settings: s}
	dir := r.dir
	if dir == "" {
		dir = "/"
	}
	var errs [4]error
	i.path, errs[0] = syscall.BytePtrFromString(r.path)
	i.dir, errs[1] = syscall.BytePtrFromString(dir)
	i.argv, errs[2] = syscall.SlicePtrFromStrings(r.argv)
	i.env, errs[3] = syscall.SlicePtrFromStrings(r.env)
	return i, errors.Join(errs[:]...) // a NUL byte, which Run has refused
}

// write lists what the child does. What may hang comes last, when it holds no file of the guard and dies with it.
func (i *image) write() {
	do := func(need, trap, a, b, c, d uintptr) { i.ops = append(i.ops, op{trap, a, b, c, d, need}) }
	do(0, unix.SYS_SETSID, 0, 0, 0, 0)
	do(0, unix.SYS_DUP3, uintptr(i.status), statusFD, unix.O_CLOEXEC, 0)
	do(0, unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0)
	do(uintptr(os.Getpid()), unix.SYS_GETPPID, 0, 0, 0, 0) // else the guard died before the line above
	do(0, unix.SYS_DUP3, uintptr(i.in), 0, 0, 0)
	do(0, unix.SYS_DUP3, uintptr(i.out), 1, 0, 0)
	do(0, unix.SYS_DUP3, uintptr(i.out), 2, 0, 0)
	// Where the kernel has no such call (before 5.9), the rest is closed when the program is executed.
	do(anyResult, unix.SYS_CLOSE_RANGE, statusFD+1, uintptr(^uint32(0)), 0, 0)
	do(anyResult, unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, uintptr(unsafe.Pointer(&i.settings.limit)), 0)
	for _, s := range i.settings.caught { // execve does that too, but only after they are let through
		do(0, unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&i.none)), 0, signalSetSize)
	}
	do(0, unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&i.settings.mask)), 0, signalSetSize)
	do(0, unix.SYS_CHDIR, uintptr(unsafe.Pointer(i.dir)), 0, 0, 0)
	do(0, unix.SYS_EXECVE, uintptr(unsafe.Pointer(i.path)), uintptr(unsafe.Pointer(unsafe.SliceData(i.argv))),
		uintptr(unsafe.Pointer(unsafe.SliceData(i.env))), 0)
}

// start makes the child. What it becomes is told by the pipe: bytes are the errno, and an end without any means that the
// program was executed, or that the child has died. The caller stays on its thread, for the death signal.
//
// No signal may reach the child before it has put away the guard's handlers; the thread it comes from passes that on.
func (i *image) start(launch launcher) (int, error) {
	i.write()
	var all, before unix.Sigset_t
	for n := range all.Val {
		all.Val[n] = ^all.Val[n]
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &before); err != nil {
		return 0, err
	}
	pid := launch(i.ops, &i.errno)
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil); err != nil {
		return 0, err // cannot be: the set is the kernel's own
	}
	if pid < 0 {
		return 0, syscall.Errno(-pid)
	}
	return pid, nil
}

// launcher makes a child that does the operations, the last of which executes a program. If one fails, the child writes
// its errno to statusFD and ends. The result is the child's process id, or the negative errno.
type launcher func(ops []op, errno *uint32) int

// forked is the launcher of all architectures: its child has a copy of the guard's memory.
//
//go:noinline
//go:norace
func forked(ops []op, errno *uint32) int {
	flags, stack := uintptr(unix.SIGCHLD), uintptr(0)
	if runtime.GOARCH == "s390x" {
		flags, stack = stack, flags // clone(2): the first two are swapped there
	}
	pid, _, err := syscall.RawSyscall6(unix.SYS_CLONE, flags, stack, 0, 0, 0, 0)
	if err != 0 {
		return -int(err)
	}
	if pid != 0 {
		return int(pid)
	}
	for n := range ops { // the child: nothing but system calls from here on
		o := &ops[n]
		r, _, err := syscall.RawSyscall6(o.trap, o.a, o.b, o.c, o.d, 0, 0)
		if o.need > anyResult && r != o.need {
			err = unix.ESRCH
		}
		if err != 0 && o.need != anyResult {
			*errno = uint32(err)
			break
		}
	}
	_, _, _ = syscall.RawSyscall(unix.SYS_WRITE, statusFD, uintptr(unsafe.Pointer(errno)), unsafe.Sizeof(*errno))
	for {
		_, _, _ = syscall.RawSyscall(unix.SYS_EXIT_GROUP, 253, 0, 0)
	}
}

// currentSettings finds what the guard was started with and its hooks get. It is called when all handlers are in place.
func currentSettings() (s settings, err error) {
	// Go raises the soft limit of open files for itself when a process begins, and tells the old one to nobody; an exec puts
	// it back before it fails.
	_ = syscall.Exec("", []string{""}, nil) // ENOENT
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &s.limit); err != nil {
		return s, fmt.Errorf("cannot read the limit of open files: %w", err)
	}
	_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: s.limit.Max, Max: s.limit.Max}) // refused: then it has fewer
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, nil, &s.mask); err != nil {
		return s, fmt.Errorf("cannot read the signal mask: %w", err)
	}
	for signal := 1; signal <= 8*signalSetSize; signal++ {
		var action [8]uintptr // the handler comes first; 0 is the default, 1 ignores
		_, _, errno := syscall.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(signal), 0, uintptr(unsafe.Pointer(&action)), signalSetSize, 0, 0)
		if errno == 0 && action[0] > 1 {
			s.caught = append(s.caught, signal)
		}
	}
	return s, nil
}
