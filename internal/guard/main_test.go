package guard

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// watcherEnv makes the test binary a watcher that runs one shell script in a guard; its value is the deadline.
const watcherEnv = "GUARD_TEST_WATCHER"

const inherited = 99

func TestMain(m *testing.M) {
	if Main() {
		return
	}
	if limit := os.Getenv(watcherEnv); limit != "" {
		os.Exit(watcherMain(limit, os.Args[1], os.Args[2:]))
	}
	// A file that every child inherits, as a careless library or service manager leaves one: no hook may see it.
	if err := unix.Dup2(0, inherited); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func watcherMain(limit, script string, other []string) int {
	timeout, err := time.ParseDuration(limit)
	if err != nil {
		return 2
	}
	g := New(Options{Log: zerolog.Nop()})
	defer g.Close()
	if len(other) > 0 {
		go func() { _, _ = g.Run(context.Background(), Command{Argv: other, Deadline: time.Now().Add(timeout)}) }()
	}
	res, err := g.Run(context.Background(), shell(script, timeout))
	fmt.Printf("killed=%v code=%d err=%v\n", res.Killed, res.ExitCode, err)
	return 0
}

func shell(script string, timeout time.Duration) Command {
	return Command{Argv: []string{"/bin/sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin"}, Deadline: time.Now().Add(timeout)}
}

func newGuard(t testing.TB) *Guard {
	t.Helper()
	g := New(Options{Log: zerolog.Nop()})
	t.Cleanup(g.Close)
	return g
}

// family is a script that leaves a child in its group and one in a session of its own, writes all process ids to the
// file, and then waits for ever or ends.
func family(file string, end string) string {
	return fmt.Sprintf(`sleep 1000 >/dev/null 2>&1 & a=$!; setsid sh -c 'echo $$ >%[1]s.b; exec sleep 1000' >/dev/null 2>&1 &
		while [ ! -s %[1]s.b ]; do sleep 0.01; done
		echo $$ $a $(cat %[1]s.b) >%[1]s.tmp; mv %[1]s.tmp %[1]s; %[2]s`, file, end)
}

// eventually waits for a condition.
func eventually(t *testing.T, within time.Duration, what string, cond func() bool) {
	t.Helper()
	limit := time.After(within)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-limit:
			t.Fatalf("not within %v: %s", within, what)
		case <-tick.C:
		}
	}
}

// readPIDs waits until the family's process ids are known.
func readPIDs(t *testing.T, file string) []int {
	t.Helper()
	var pids []int
	eventually(t, 5*time.Second, "process ids in "+filepath.Base(file), func() bool {
		b, err := os.ReadFile(file)
		if err != nil {
			return false
		}
		for _, f := range strings.Fields(string(b)) {
			pid, err := strconv.Atoi(f)
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
		return true
	})
	return pids
}

// living returns those that are neither gone nor zombies nor about to die.
func living(pids []int) []int {
	var list []int
	for _, pid := range pids {
		if s, ok := readStat(pid); ok && s.state != 'Z' && s.state != 'X' {
			list = append(list, pid)
		}
	}
	return list
}

func allDead(t *testing.T, within time.Duration, pids []int) {
	t.Helper()
	eventually(t, within, fmt.Sprintf("processes %v dead", pids), func() bool { return len(living(pids)) == 0 })
}

// startWatcher starts a watcher process that runs the script and, if there is one, the other program.
func startWatcher(t *testing.T, timeout time.Duration, script string, other ...string) (*exec.Cmd, *strings.Builder) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", append([]string{script}, other...)...)
	cmd.Env = append(os.Environ(), watcherEnv+"="+timeout.String())
	out := new(strings.Builder)
	cmd.Stdout = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGCONT)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd, out
}

// guardOf returns the process id of a watcher's guard.
func guardOf(t *testing.T, watcher int) int {
	t.Helper()
	var list []int
	eventually(t, 5*time.Second, "a guard process", func() bool {
		list = children(watcher)
		return len(list) == 1
	})
	return list[0]
}
