package guard

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A hook whose watcher was killed went on and acted two seconds after its deadline, while the next leader was at work.
func TestWatcherKilled(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pids")
	cmd, _ := startWatcher(t, time.Hour, family(file, "sleep 1000"))
	pids, guard := readPIDs(t, file), guardOf(t, cmd.Process.Pid)
	if got := living(pids); len(got) != 3 {
		t.Fatalf("alive before the kill: %v of %v", got, pids)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	allDead(t, time.Second, pids)
	allDead(t, 5*time.Second, []int{guard}) // the race detector alone takes a second to end
}

func TestWatcherFrozenAtDeadline(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pids")
	began := time.Now()
	const limit = 3 * time.Second // the script must have begun by then, on a busy machine too
	cmd, out := startWatcher(t, limit, family(file, "sleep 1000"))
	pids := readPIDs(t, file)
	if err := cmd.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if time.Since(began) < limit && len(living(pids)) != 3 {
		t.Fatal("the hook died before its deadline")
	}
	allDead(t, limit+time.Second, pids)
	if took := time.Since(began); took < limit {
		t.Fatalf("killed after %v, before the deadline", took)
	}
	// Thawed, it must read the report rather than take the guard for hung.
	if err := cmd.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.HasPrefix(got, "killed=true code=-1 ") || !strings.Contains(got, "deadline exceeded") {
		t.Fatalf("the watcher says %q", got)
	}
}

func TestTerminalSignalsDoNotReachHooks(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pids")
	cmd, out := startWatcher(t, time.Minute, family(file, "while [ ! -e "+file+".go ]; do sleep 0.01; done; exit 7"))
	pids := readPIDs(t, file)
	guard := guardOf(t, cmd.Process.Pid)
	for _, s := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGTSTP} {
		if err := unix.Kill(guard, s); err != nil {
			t.Fatal(err)
		}
	}
	if a, _ := readStat(guard); a.session != guard {
		t.Fatalf("the guard is in session %d", a.session)
	}
	if a, _ := readStat(pids[0]); a.session != pids[0] {
		t.Fatalf("the hook is in session %d", a.session)
	}
	if err := unix.Mknod(file+".go", unix.S_IFREG|0o600, 0); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != "killed=false code=7 err=<nil>\n" {
		t.Fatalf("the watcher says %q", got)
	}
	allDead(t, time.Second, pids)
}

func TestGuardKilled(t *testing.T) {
	t.Parallel()
	g := newGuard(t)
	file := filepath.Join(t.TempDir(), "pids")
	done := make(chan error, 1)
	go func() {
		_, err := g.Run(context.Background(), shell("sleep 1000 & echo $$ $! >"+file+".tmp; mv "+file+".tmp "+file+"; wait", time.Minute))
		done <- err
	}()
	pids := readPIDs(t, file)
	pid := g.link.cmd.Process.Pid
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, ErrLost) {
		t.Fatalf("Run returned %v", err)
	}
	if got := living(pids); len(got) != 0 { // dead before Run returns, not some time later
		t.Fatalf("alive after the guard's death: %v", got)
	}
	res, err := g.Run(context.Background(), shell("echo again", time.Minute))
	if err != nil || string(res.Output) != "again\n" {
		t.Fatalf("after the guard's death: %q, %v", res.Output, err)
	}
}

// With nobody left who could act, the kernel kills the hook: the death signal.
func TestGuardKilledUnderFrozenWatcher(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pids")
	cmd, _ := startWatcher(t, time.Minute, family(file, "sleep 1000"))
	pids, guard := readPIDs(t, file), guardOf(t, cmd.Process.Pid)
	if err := cmd.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(guard, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	allDead(t, time.Second, pids[:1])
	t.Cleanup(func() { // what is left of the family is beyond anybody's reach now, except this test's
		_ = unix.Kill(pids[2], unix.SIGKILL)
	})
	if err := cmd.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	allDead(t, time.Second, pids[1:2]) // the watcher, thawed, finds the rest of the session
}

// A frozen guard kills nothing; the watcher must then kill the guard.
func TestGuardFrozen(t *testing.T) {
	t.Parallel()
	g := newGuard(t)
	file := filepath.Join(t.TempDir(), "pids")
	done := make(chan error, 1)
	began := time.Now()
	go func() {
		_, err := g.Run(context.Background(), shell("sleep 1000 & echo $$ $! >"+file+".tmp; mv "+file+".tmp "+file+"; wait", 2*time.Second))
		done <- err
	}()
	pids := readPIDs(t, file)
	if err := unix.Kill(g.link.cmd.Process.Pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, ErrLost) {
		t.Fatalf("Run returned %v", err)
	}
	if took := time.Since(began); took > 2*time.Second+3*backstop {
		t.Fatalf("took %v", took)
	}
	allDead(t, time.Second, pids)
	if _, err := g.Run(context.Background(), shell("true", time.Minute)); err != nil {
		t.Fatal(err)
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	g := newGuard(t)
	if err := g.Start(context.Background()); err != nil || !g.link.alive() {
		t.Fatal(err)
	}
	first := g.link
	file := filepath.Join(t.TempDir(), "pids")
	done := make(chan error, 1)
	go func() {
		_, err := g.Run(context.Background(), shell(family(file, "sleep 1000"), time.Minute))
		done <- err
	}()
	pids := append(readPIDs(t, file), g.link.cmd.Process.Pid)
	if g.link != first {
		t.Fatal("Run started another guard")
	}
	g.Close()
	if err := <-done; !errors.Is(err, ErrClosed) {
		t.Fatalf("Run returned %v", err)
	}
	if got := living(pids); len(got) != 0 {
		t.Fatalf("alive after Close: %v of %v", got, pids)
	}
	g.Close() // harmless
	if err := g.Start(context.Background()); !errors.Is(err, ErrClosed) {
		t.Fatalf("Start after Close returned %v", err)
	}
	if _, err := g.Run(context.Background(), shell("true", time.Minute)); !errors.Is(err, ErrClosed) {
		t.Fatalf("Run after Close returned %v", err)
	}
}
