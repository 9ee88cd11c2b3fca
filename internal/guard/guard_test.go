package guard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestRun(t *testing.T) {
	t.Parallel()
	g := newGuard(t)
	tests := []struct {
		name   string
		cmd    Command
		code   int
		output string
	}{
		{"success", Command{Argv: []string{"/bin/true"}}, 0, ""},
		{"failure", Command{Argv: []string{"/bin/false"}}, 1, ""},
		{"own exit code", Command{Argv: []string{"/bin/sh", "-c", "exit 42"}}, 42, ""},
		{"ended by another's signal", Command{Argv: []string{"/bin/sh", "-c", "kill -TERM $$"}}, 143, ""},
		{"both streams in order", Command{Argv: []string{"/bin/sh", "-c", "echo a; echo b >&2; echo c"}}, 0, "a\nb\nc\n"},
		{"no shell in between", Command{Argv: []string{"/bin/echo", "$HOME; *"}}, 0, "$HOME; *\n"},
		{"looked up in its own PATH", Command{Argv: []string{"echo", "x"}, Env: []string{"PATH=/nonexistent:/bin"}}, 0, "x\n"},
		{"bytes that are not UTF-8", Command{Argv: []string{"/bin/echo", "\xff\xfe"}}, 0, "\xff\xfe\n"},
		{"exact environment", Command{Argv: []string{"/usr/bin/env"}, Env: []string{"B=2", "A=1 x"}}, 0, "B=2\nA=1 x\n"},
		{"no environment", Command{Argv: []string{"/usr/bin/env"}}, 0, ""},
		{"standard input", Command{Argv: []string{"/bin/cat"}, Stdin: []byte("event")}, 0, "event"},
		{"no standard input", Command{Argv: []string{"/bin/cat"}}, 0, ""},
		{"input that is never read", Command{Argv: []string{"/bin/true"}, Stdin: bytes.Repeat([]byte("x"), MaxStdin)}, 0, ""},
		{"directory", Command{Argv: []string{"/bin/pwd"}, Dir: "/usr"}, 0, "/usr\n"},
		{"default directory", Command{Argv: []string{"/bin/pwd"}}, 0, "/\n"},
		{"signals have their defaults", Command{Argv: []string{"/bin/sh", "-c", "sed -n 's/^SigIgn:.*\\(........\\)$/\\1/p' /proc/self/status | tr 89abcdef 01234567"}}, 0, "00000000\n"}, // but 32, which belongs to the C library
		{"no signal is blocked", Command{Argv: []string{"/bin/sed", "-n", "s/^SigBlk:\t//p", "/proc/self/status"}}, 0, "0000000000000000\n"},
		{"no other open files", Command{Argv: []string{"/bin/ls", "/proc/self/fd"}}, 0, "0\n1\n2\n3\n"}, // 3 is the listing itself
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.cmd.Deadline = time.Now().Add(20 * time.Second)
			res, err := g.Run(context.Background(), tt.cmd)
			if err != nil {
				t.Fatal(err)
			}
			if res.ExitCode != tt.code || string(res.Output) != tt.output || res.Killed || res.Took <= 0 {
				t.Fatalf("got %+v with output %q, want code %d and %q", res, res.Output, tt.code, tt.output)
			}
		})
	}
}

func TestCannotRun(t *testing.T) {
	t.Parallel()
	g := newGuard(t)
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return file
	}
	soon := time.Now().Add(time.Minute)
	tests := []struct {
		name string
		cmd  Command
		is   error
		text string
	}{
		{"empty", Command{Deadline: soon}, nil, "empty command"},
		{"no deadline", Command{Argv: []string{"/bin/true"}}, nil, "no deadline"},
		{"missing", Command{Argv: []string{"/nonexistent/hook"}, Deadline: soon}, fs.ErrNotExist, `cannot run "/nonexistent/hook": no such file or directory: check the path`},
		{"not in PATH", Command{Argv: []string{"hook"}, Env: []string{"PATH=/bin"}, Deadline: soon}, fs.ErrNotExist, `cannot run "hook": not found in PATH "/bin"`},
		{"never from the working directory", Command{Argv: []string{"hook"}, Env: []string{"PATH=:."}, Dir: "/bin", Deadline: soon}, fs.ErrNotExist, "not found in PATH"},
		{"not executable", Command{Argv: []string{write("plain", "#!/bin/sh\n", 0o600)}, Deadline: soon}, fs.ErrPermission, "chmod +x"},
		{"no interpreter", Command{Argv: []string{write("lost", "#!/nonexistent/sh\n", 0o700)}, Deadline: soon}, fs.ErrNotExist, "interpreter named in its first line"},
		{"no first line", Command{Argv: []string{write("bare", "echo x\n", 0o700)}, Deadline: soon}, nil, "starts with #!"},
		{"missing directory", Command{Argv: []string{"/bin/true"}, Dir: "/nonexistent", Deadline: soon}, fs.ErrNotExist, "working directory /nonexistent is missing"},
		{"NUL", Command{Argv: []string{"/bin/echo", "a\x00b"}, Deadline: soon}, nil, "NUL"},
		{"long arguments", Command{Argv: []string{"/bin/echo", strings.Repeat("x", MaxArgs)}, Deadline: soon}, ErrTooBig, "at most 65536"},
		{"many arguments", Command{Argv: make([]string, MaxArgs/8+1), Deadline: soon}, nil, "cannot run"},
		{"long input", Command{Argv: []string{"/bin/cat"}, Stdin: make([]byte, MaxStdin+1), Deadline: soon}, ErrTooBig, "at most"},
		{"deadline passed", Command{Argv: []string{"/bin/true"}, Deadline: time.Now().Add(-time.Second)}, context.DeadlineExceeded, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			res, err := g.Run(context.Background(), tt.cmd)
			if err == nil || tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.text) {
				t.Fatalf("got %v, want %v with %q", err, tt.is, tt.text)
			}
			if res.ExitCode != -1 {
				t.Fatalf("exit code %d of a program that never ran", res.ExitCode)
			}
		})
	}
}

// The largest command that is accepted must also get through.
func TestLargestCommand(t *testing.T) {
	t.Parallel()
	g := newGuard(t)
	argv := []string{"/bin/sh", "-c", "wc -c; echo ${#X}"}
	free := MaxArgs - len("/bin/sh") - 8*5 - len("PATH=/usr/bin:/bin") - len("X=")
	for _, a := range argv {
		free -= len(a)
	}
	c := Command{Argv: argv, Env: []string{"PATH=/usr/bin:/bin", "X=" + strings.Repeat("v", free)}, Stdin: make([]byte, MaxStdin), Deadline: time.Now().Add(20 * time.Second)}
	res, err := g.Run(context.Background(), c)
	if want := fmt.Sprintf("%d\n%d\n", MaxStdin, free); err != nil || string(res.Output) != want {
		t.Fatalf("got %q, %v, want %q", res.Output, err, want)
	}
	c.Env[1] += "v"
	if _, err := g.Run(context.Background(), c); !errors.Is(err, ErrTooBig) {
		t.Fatalf("one byte more: %v", err)
	}
}

func TestKill(t *testing.T) {
	t.Parallel()
	g := newGuard(t)
	t.Run("deadline", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "pids")
		// It ignores every signal that can be ignored.
		res, err := g.Run(context.Background(), shell("trap '' TERM INT HUP; echo begun; "+family(file, "sleep 1000"), 2*time.Second))
		if !errors.Is(err, context.DeadlineExceeded) || !res.Killed || res.ExitCode != -1 || string(res.Output) != "begun\n" {
			t.Fatalf("got %+v, %v", res, err)
		}
		if res.Took < 2*time.Second || res.Took > 3*time.Second {
			t.Fatalf("took %v of two seconds", res.Took)
		}
		if got := living(readPIDs(t, file)); len(got) != 0 {
			t.Fatalf("alive: %v", got)
		}
	})
	t.Run("deadline of the context", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		if res, err := g.Run(ctx, shell("sleep 1000", time.Hour)); !errors.Is(err, context.DeadlineExceeded) || res.Took > time.Second {
			t.Fatalf("got %+v, %v", res, err)
		}
	})
	t.Run("cancellation", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "pids")
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		done := make(chan error, 1)
		go func() {
			_, err := g.Run(ctx, shell(family(file, "sleep 1000"), time.Hour))
			done <- err
		}()
		pids := readPIDs(t, file)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if got := living(pids); len(got) != 0 {
			t.Fatalf("alive: %v", got)
		}
	})
}

// A hook may leave nothing behind that acts later, however it hid it.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, leave string }{
		{"in its group", "sleep 1000 >/dev/null 2>&1 &"},
		{"holding its output", "sleep 1000 &"},
		{"hopping from process to process", "h() { h & }; h >/dev/null 2>&1;"},
		{"in a group of its own", "bash -c 'set -m; sleep 1000 >/dev/null 2>&1 &';"},
		{"in a session of its own", "setsid sleep 1000 >/dev/null 2>&1 &"},
		{"as a daemon holding its output", "(setsid sleep 1000 &);"},
		{"as a daemon with children", "(setsid sh -c 'sleep 1000 & wait' >/dev/null 2>&1 &);"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := newGuard(t) // of its own: what has escaped is killed when no other hook runs
			res, err := g.Run(context.Background(), shell(tt.leave+" echo done; exit 3", 20*time.Second))
			if err != nil || res.ExitCode != 3 || string(res.Output) != "done\n" {
				t.Fatalf("got %+v, %v", res, err)
			}
			if res.Took > 5*time.Second {
				t.Fatalf("took %v: waited for what was left behind", res.Took)
			}
			eventually(t, time.Second, "a guard without descendants", func() bool { return len(descendants(g.link.cmd.Process.Pid)) == 0 })
		})
	}
}

// A process that left its hook's session is killed with the last hook that may have started it, and not before: it may
// be another's helper.
func TestEscapedWithOtherHooks(t *testing.T) {
	t.Parallel()
	g := newGuard(t)
	file := filepath.Join(t.TempDir(), "pids")
	done := make(chan error, 1)
	go func() {
		_, err := g.Run(context.Background(), shell(fmt.Sprintf("(setsid sh -c 'echo $$ >%[1]s.tmp; mv %[1]s.tmp %[1]s; exec sleep 1000' >/dev/null 2>&1 &); while [ ! -e %[1]s.go ]; do sleep 0.01; done", file), 20*time.Second))
		done <- err
	}()
	pids := readPIDs(t, file)
	if _, err := g.Run(context.Background(), shell("true", 20*time.Second)); err != nil {
		t.Fatal(err)
	}
	if len(living(pids)) != 1 {
		t.Fatal("killed while its hook was still running")
	}
	if err := os.WriteFile(file+".go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	allDead(t, time.Second, pids)
}

func TestOutputIsBounded(t *testing.T) {
	t.Parallel()
	g := newGuard(t)
	t.Run("the last bytes are kept", func(t *testing.T) {
		res, err := g.Run(context.Background(), shell("seq 1 300000", 20*time.Second))
		if err != nil || len(res.Output) != MaxOutput || !bytes.HasSuffix(res.Output, []byte("\n299999\n300000\n")) {
			t.Fatalf("got %d bytes, %v", len(res.Output), err)
		}
	})
	t.Run("a hook that never stops writing starves no other", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan Result, 1)
		go func() {
			res, _ := g.Run(ctx, shell("exec cat /dev/zero", time.Minute))
			done <- res
		}()
		for range 20 {
			res, err := g.Run(context.Background(), shell("echo x", time.Minute))
			if err != nil || res.Took > 2*time.Second {
				t.Errorf("got %+v, %v", res, err)
			}
		}
		cancel()
		if res := <-done; len(res.Output) != MaxOutput || !res.Killed {
			t.Fatalf("kept %d bytes, killed %v", len(res.Output), res.Killed)
		}
	})
}

func TestLimit(t *testing.T) {
	t.Parallel()
	g := newGuard(t)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for i := range MaxHooks {
		all.Go(func() {
			_, _ = g.Run(ctx, shell(fmt.Sprintf("echo >%s/%d; exec sleep 1000", dir, i), time.Hour))
		})
	}
	eventually(t, 20*time.Second, "all hooks running", func() bool {
		entries, _ := os.ReadDir(dir)
		return len(entries) == MaxHooks
	})
	if _, err := g.Run(context.Background(), shell("true", 50*time.Millisecond)); !errors.Is(err, ErrBusy) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one more: %v", err)
	}
	cancel()
	all.Wait()
	if _, err := g.Run(context.Background(), shell("true", time.Minute)); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestConcurrentRunsLeakNothing(t *testing.T) { // not parallel: it counts this process's files
	g := newGuard(t)
	run := func() {
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				text := fmt.Sprint("hook ", i)
				res, err := g.Run(context.Background(), Command{Argv: []string{"/bin/cat"}, Stdin: []byte(text), Deadline: time.Now().Add(time.Minute)})
				if err != nil || string(res.Output) != text {
					t.Errorf("%d: got %q, %v", i, res.Output, err)
				}
			})
		}
		all.Wait()
	}
	count := func(pid string) int {
		entries, err := os.ReadDir("/proc/" + pid + "/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	run()
	guard := fmt.Sprint(g.link.cmd.Process.Pid)
	ours, theirs := count("self"), count(guard)
	run()
	a, b := count("self"), count(guard)
	for end := time.Now().Add(10 * time.Second); (a > ours || b > theirs) && time.Now().Before(end); a, b = count("self"), count(guard) {
		<-time.After(10 * time.Millisecond) // the guard closes a run's last file after it has told its end
	}
	if a > ours || b > theirs {
		t.Fatalf("open files grew: watcher %d to %d, guard %d to %d", ours, a, theirs, b)
	}
	if left := descendants(g.link.cmd.Process.Pid); len(left) != 0 {
		t.Fatalf("children left, zombies perhaps: %v", left)
	}
}

func TestExecutable(t *testing.T) {
	t.Parallel()
	for name, executable := range map[string]string{"missing": "/nonexistent/watchover", "not a guard": "/bin/true"} {
		g := New(Options{Executable: executable})
		if _, err := g.Run(context.Background(), shell("true", time.Minute)); err == nil || !strings.Contains(err.Error(), "cannot start the guard process "+executable) {
			t.Errorf("%s: %v", name, err)
		}
		g.Close()
	}
}

// FuzzDecode: no message may crash either side, and what was encoded comes back.
func FuzzDecode(f *testing.F) {
	f.Add(request{kind: kindRun, id: 7, deadline: 9, path: "/bin/x", argv: []string{"x", ""}, env: []string{"A=1"}, stdin: []byte("in")}.encode())
	f.Add(request{kind: kindCancel, id: 7}.encode())
	f.Add(reply{kind: kindEnded, id: 7, pid: 3, outcome: outcomeExit, code: 1, output: []byte("out")}.encode())
	f.Add([]byte{byte(kindRun), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := decodeRequest(b); err == nil {
			if again, err := decodeRequest(r.encode()); err != nil || fmt.Sprint(again) != fmt.Sprint(r) {
				t.Fatalf("%v became %v, %v", r, again, err)
			}
		}
		if r, err := decodeReply(b); err == nil {
			if again, err := decodeReply(r.encode()); err != nil || fmt.Sprint(again) != fmt.Sprint(r) {
				t.Fatalf("%v became %v, %v", r, again, err)
			}
		}
	})
}

func TestParseStat(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, line string
		want       stat
		ok         bool
	}{
		{"plain", "12 (sh) S 3 12 12 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 777 1 2", stat{pid: 12, parent: 3, session: 12, state: 'S', started: 777}, true},
		{"a name made to mislead", "12 (a) Z 9 9 9) R 3 12 11 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 778 1 2", stat{pid: 12, parent: 3, session: 11, state: 'R', started: 778}, true},
		{"cut off", "12 (sh) S 3 12", stat{}, false},
		{"empty", "", stat{}, false},
	}
	for _, tt := range tests {
		if got, ok := parseStat(12, []byte(tt.line)); ok != tt.ok || ok && got != tt.want {
			t.Errorf("%s: got %+v, %v", tt.name, got, ok)
		}
	}
}

// Where the kernel keeps no list of children, the slow way must find the same.
func TestChildrenBothWays(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pids")
	cmd, _ := startWatcher(t, time.Minute, family(file, "sleep 1000"))
	readPIDs(t, file)
	guard := guardOf(t, cmd.Process.Pid)
	if fast, slow := children(guard), childrenByParent(guard); len(fast) != 1 || fmt.Sprint(fast) != fmt.Sprint(slow) {
		t.Fatalf("by the kernel's list %v, by parent %v", fast, slow)
	}
}

// A command that reached the guard after its deadline was never started, so it was not killed either.
func TestTooLateIsNotKilled(t *testing.T) {
	res, err := Command{Argv: []string{"/bin/true"}}.result(t.Context(), "/bin/true", reply{kind: kindEnded, outcome: outcomeKilled})
	if res.Killed || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("killed %t, %v", res.Killed, err)
	}
}
