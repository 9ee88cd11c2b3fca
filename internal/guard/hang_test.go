package guard

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// held makes a program that nobody can execute before the test has ended: execve opens the file, and that waits for the
// holder of its lease (fcntl(2), F_SETLEASE), 45 s at most. It stands for a network file system that went away.
func held(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho begun\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	eventually(t, 5*time.Second, "a lease", func() bool { // a process that is just being started has the file open as well
		_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
		if err != nil && !errors.Is(err, unix.EAGAIN) {
			t.Fatal(err)
		}
		return err == nil
	})
	return path
}

// One program that hung in its start took the guard with it: no deadline of any hook was kept, and after a second the
// watcher killed the guard with all of them.
func TestHungStartHoldsUpNobody(t *testing.T) {
	t.Parallel()
	g := newGuard(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	type end struct {
		Result
		err error
	}
	run := func(c Command) <-chan end {
		done := make(chan end, 1)
		go func() {
			res, err := g.Run(ctx, c)
			done <- end{res, err}
		}()
		return done
	}
	if err := g.Start(ctx); err != nil {
		t.Fatal(err)
	}
	program := held(t)
	before := run(shell("sleep 5; echo through", 40*time.Second))
	late := run(Command{Argv: []string{program}, Deadline: time.Now().Add(2 * time.Second)})
	cancelled := run(Command{Argv: []string{program}, Deadline: time.Now().Add(40 * time.Second)})
	eventually(t, 5*time.Second, "three processes", func() bool { return len(children(g.link.cmd.Process.Pid)) == 3 })

	if res, err := g.Run(context.Background(), shell("echo beside", 40*time.Second)); err != nil || string(res.Output) != "beside\n" {
		t.Fatalf("beside it: %q, %v", res.Output, err)
	}
	res, err := g.Run(context.Background(), shell("sleep 1000", 500*time.Millisecond))
	if !errors.Is(err, context.DeadlineExceeded) || !res.Killed || res.Took > 2*time.Second {
		t.Fatalf("another's deadline beside it: %+v, %v", res, err)
	}
	if e := <-late; !errors.Is(e.err, context.DeadlineExceeded) || e.Killed || e.Took > 4*time.Second || !strings.Contains(e.err.Error(), "cannot start") {
		t.Fatalf("the one that hung to its deadline: %+v", e)
	}
	if e := <-before; e.err != nil || string(e.Output) != "through\n" {
		t.Fatalf("one that was running before: %q, %v", e.Output, e.err)
	}
	cancel()
	if e := <-cancelled; !errors.Is(e.err, context.Canceled) || e.Killed {
		t.Fatalf("the one that was cancelled: %+v", e)
	}
	if left := descendants(g.link.cmd.Process.Pid); len(left) != 0 {
		t.Fatalf("processes left: %v", left)
	}
}

// A guard that hung in a start did not see its watcher die: hooks acted after their deadline, under nobody's eyes.
func TestWatcherKilledDuringAHungStart(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pids")
	cmd, _ := startWatcher(t, 40*time.Second, family(file, "sleep 1000"), held(t))
	pids, guard := readPIDs(t, file), guardOf(t, cmd.Process.Pid)
	eventually(t, 5*time.Second, "the start of the other one", func() bool { return len(children(guard)) == 2 })
	pids = append(pids, children(guard)...)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	allDead(t, time.Second, pids)
	allDead(t, 5*time.Second, []int{guard})
}

// childOf waits for the one process of a guard that can be started no further, which has no files but its own then.
func childOf(t *testing.T, g *Guard) (pids []int) {
	t.Helper()
	eventually(t, 5*time.Second, "a guard", func() bool {
		g.lock <- struct{}{}
		defer func() { <-g.lock }()
		return g.link != nil
	})
	eventually(t, 5*time.Second, "a process", func() bool {
		pids = children(g.link.cmd.Process.Pid)
		return len(pids) == 1
	})
	eventually(t, 5*time.Second, "no files but its own", func() bool {
		files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pids[0]))
		return err == nil && len(files) == 4 // the fourth tells how the start went
	})
	return pids
}

// While a program hangs in its start, its guard alone is killed: the kernel kills it, and nothing of it keeps the
// socket open, by which the watcher sees the guard's end.
func TestGuardKilledDuringAHungStart(t *testing.T) {
	t.Parallel()
	g := newGuard(t)
	done := make(chan error, 1)
	program := held(t)
	go func() {
		_, err := g.Run(context.Background(), Command{Argv: []string{program}, Deadline: time.Now().Add(40 * time.Second)})
		done <- err
	}()
	pids := childOf(t, g)
	if err := g.link.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, ErrLost) {
		t.Fatalf("Run returned %v", err)
	}
	allDead(t, time.Second, pids)
}

// A server of a file system takes every question and answers none: what asks it cannot even be killed. Then the hook is
// reported all the same, the others go on, and the program is not started over and over.
func TestStartThatCannotBeKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	answer, err := mountSilence(dir)
	if err != nil {
		t.Logf("this process may not mount: %v", err) // as root it may, where the kernel has FUSE
		if os.Geteuid() == 0 && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
			t.Error("root may not mount")
		}
		return
	}
	t.Cleanup(answer)
	g := newGuard(t)
	silent := func() (Result, error) {
		return g.Run(context.Background(), Command{Argv: []string{dir + "/program"}, Deadline: time.Now().Add(500 * time.Millisecond)})
	}
	res, err := silent()
	if !errors.Is(err, context.DeadlineExceeded) || res.Killed || res.Took > 2*time.Second || !strings.Contains(err.Error(), "has not let it die yet") {
		t.Fatalf("got %+v, %v", res, err)
	}
	pids := children(g.link.cmd.Process.Pid)
	if len(living(pids)) != 1 {
		t.Fatalf("it died: %v", pids)
	}
	if res, err := g.Run(context.Background(), shell("echo beside", time.Minute)); err != nil || string(res.Output) != "beside\n" {
		t.Fatalf("beside it: %q, %v", res.Output, err)
	}
	if _, err := silent(); !errors.Is(err, unix.EBUSY) || len(children(g.link.cmd.Process.Pid)) != 1 {
		t.Fatalf("once more: %v", err)
	}
	// It has none of the guard's files, or the watcher would not see another guard's end.
	second := newGuard(t)
	done := make(chan error, 1)
	go func() {
		_, err := second.Run(context.Background(), Command{Argv: []string{dir + "/program"}, Deadline: time.Now().Add(40 * time.Second)})
		done <- err
	}()
	pids = append(pids, childOf(t, second)...)
	if err := second.link.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if !errors.Is(err, ErrLost) || len(living(pids)) != 2 {
			t.Fatalf("the second guard was killed: %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the end of the second guard was not noticed")
	}
	answer()
	allDead(t, 5*time.Second, pids)
	eventually(t, 5*time.Second, "another start", func() bool {
		_, err := silent()
		return err != nil && !errors.Is(err, unix.EBUSY)
	})
}

// mountSilence mounts a file system that never answers (FUSE, whose one word here is that it is there). The function that
// it returns ends it, and then every question to it.
func mountSilence(dir string) (end func(), err error) {
	device, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Mount("silence", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", device)); err != nil {
		unix.Close(device)
		return nil, err
	}
	question := make([]byte, 64<<10)
	_, err = unix.Read(device, question) // FUSE_INIT
	answer := make([]byte, 16+64)
	binary.NativeEndian.PutUint32(answer, uint32(len(answer)))
	copy(answer[8:16], question[8:16])                // which question this answers
	binary.NativeEndian.PutUint32(answer[16:], 7)     // the protocol
	binary.NativeEndian.PutUint32(answer[20:], 31)    // its minor version
	binary.NativeEndian.PutUint32(answer[36:], 4<<10) // max_write
	if err == nil {
		_, err = unix.Write(device, answer)
	}
	if err != nil {
		unix.Close(device)
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		return nil, err
	}
	reader := make(chan struct{}) // closed when nothing is read any more
	go func() {
		defer close(reader)
		for err := error(nil); err == nil; {
			_, err = unix.Read(device, question)
		}
		unix.Close(device)
	}()
	end = sync.OnceFunc(func() {
		_ = unix.Unmount(dir, unix.MNT_FORCE|unix.MNT_DETACH) // which fails the questions, those to come too
		<-reader
	})
	return end, nil
}

// Go raises the limit of open files for itself; a hook gets what the watcher was started with.
func TestLimitOfOpenFiles(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", `ulimit -Sn 512; exec "$0" "$1"`, self, "exit $(($(ulimit -Sn) - 500))")
	cmd.Env = append(os.Environ(), watcherEnv+"=1m")
	if out, err := cmd.Output(); err != nil || string(out) != "killed=false code=12 err=<nil>\n" {
		t.Fatalf("the watcher says %q, %v", out, err)
	}
}

// Both ways of making the child, whichever this architecture uses.
func TestLaunchers(t *testing.T) {
	t.Parallel()
	for name, launch := range map[string]launcher{"usual": usual, "forked": forked} {
		for _, tt := range []struct {
			name, path, dir string
			errno           syscall.Errno
			output          string
		}{
			{"executed", "/bin/sh", "/usr", 0, "a b\n/usr\nX=1\n0\n1\n2\n3\n"},
			{"missing", "/nonexistent/sh", "/", unix.ENOENT, ""},
			{"not executable", "/etc/passwd", "/", unix.EACCES, ""},
			{"missing directory", "/bin/sh", "/nonexistent", unix.ENOENT, ""},
		} {
			t.Run(name+" "+tt.name, func(t *testing.T) {
				runtime.LockOSThread() // for the death signal
				defer runtime.UnlockOSThread()
				null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer unix.Close(null)
				own := settings{}
				if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own.limit); err != nil {
					t.Fatal(err)
				}
				h, err := spawn(request{path: tt.path, dir: tt.dir, argv: []string{"sh", "-c", `echo "$0"; pwd; env | grep X; ls /proc/self/fd`, "a b"},
					env: []string{"X=1", "PATH=/usr/bin:/bin"}}, null, own, launch)
				if err != nil {
					t.Fatal(err)
				}
				p := &process{pipes: map[int]*hook{}, chunk: make([]byte, 1<<10), poll: -1}
				eventually(t, 20*time.Second, "its end", func() bool {
					p.readStatus(h)
					p.readOutput(h)
					return h.reap() || h.exited
				})
				for h.status >= 0 || h.out >= 0 {
					p.readStatus(h)
					p.readOutput(h)
				}
				if h.errno != tt.errno || string(h.tail.bytes()) != tt.output || h.begun != (tt.errno == 0) {
					t.Fatalf("errno %d, output %q, begun %t, code %d", h.errno, h.tail.bytes(), h.begun, h.code)
				}
			})
		}
	}
}
