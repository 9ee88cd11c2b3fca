package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// helperVariable makes the test binary a demo that starts one child and then hangs, to be killed.
const helperVariable = "DEMO_TEST_HANGS"

func TestMain(m *testing.M) {
	if log := os.Getenv(helperVariable); log != "" {
		one, err := newProcesses().start("child", log, nil, "sleep", "600")
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(one.pid())
		select {}
	}
	code := m.Run()
	if builtIn != "" {
		_ = os.RemoveAll(builtIn)
	}
	os.Exit(code)
}

// builtIn is the directory that build has made.
var builtIn string

// build compiles the demo and what it needs, once for all tests.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "demo-test-")
	if err != nil {
		return "", err
	}
	builtIn = dir
	out, err := exec.Command("go", "build", "-o", dir+"/", "../../cmd/watchover", "../sampleapp", ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return dir, nil
})

// demo is one run of the program with a temporary directory of its own.
type demo struct {
	*exec.Cmd
	out bytes.Buffer
	tmp string
}

func newDemo(t *testing.T, bin string, args ...string) *demo {
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	t.Cleanup(cancel)
	tmp, err := os.MkdirTemp("", "demo") // short: t.TempDir is too long for a Unix socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(tmp) })
	d := &demo{Cmd: exec.CommandContext(ctx, filepath.Join(bin, "demo"), args...), tmp: tmp}
	d.Env = append(os.Environ(), "TMPDIR="+tmp, "LC_ALL=C")
	d.Stdout, d.Stderr = &d.out, &d.out
	return d
}

// nothingLeft checks that no process and no file of the demo is there any more.
func (d *demo) nothingLeft(t *testing.T) {
	t.Helper()
	left, err := os.ReadDir(d.tmp)
	if err != nil || len(left) > 0 {
		t.Errorf("left in the temporary directory: %v (%v)", left, err)
	}
	if who := running(d.tmp); who != "" {
		t.Errorf("still running: %s", who)
	}
}

// running lists the processes whose command line names the directory.
func running(dir string) string {
	var found []string
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range lines {
		if text, err := os.ReadFile(path); err == nil && bytes.Contains(text, []byte(dir)) {
			found = append(found, strings.ReplaceAll(string(text), "\x00", " "))
		}
	}
	return strings.Join(found, "\n")
}

func built(t *testing.T) string {
	t.Helper()
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

func TestOnceProvesTheSwitch(t *testing.T) {
	d := newDemo(t, built(t), "--once")
	if err := d.Run(); err != nil {
		t.Fatalf("%v\n%s", err, &d.out)
	}
	t.Logf("\n%s", &d.out)
	for _, want := range []string{"w1 finds main down", "step 5 promote          on standby done", "w3 answers shop.ha.example.com. A 127.0.0.12 (standby), TTL 300",
		"+ asked over UDP, all three watchers answer", "+ all three watchers' history", "same and in the same order", "+ the old main is in maintenance"} {
		if !strings.Contains(d.out.String(), want) {
			t.Errorf("it does not say %q", want)
		}
	}
	d.nothingLeft(t)
}

func TestInterruptEndsEverything(t *testing.T) {
	d := newDemo(t, built(t))
	out, err := os.CreateTemp(t.TempDir(), "out")
	if err != nil {
		t.Fatal(err)
	}
	d.Stdout = out
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(read(t, out.Name()), "w1 is armed") {
		if !pause(t.Context(), 10*time.Millisecond) || d.Process.Signal(syscall.Signal(0)) != nil {
			t.Fatalf("it has ended: %s%s", read(t, out.Name()), &d.out)
		}
	}
	if running(d.tmp) == "" {
		t.Error("nothing runs, so nothing can be left")
	}
	if err := d.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	var code *exec.ExitError
	if err := d.Wait(); !errors.As(err, &code) || code.ExitCode() != 1 || !strings.Contains(d.out.String(), "stopped before the end") {
		t.Errorf("it ended with %v and said %s", err, &d.out)
	}
	d.nothingLeft(t)
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestSaysWhatCannotBeDone(t *testing.T) {
	alone, broken := t.TempDir(), t.TempDir()
	for _, dir := range []string{alone, broken} {
		if err := os.Link(filepath.Join(built(t), "demo"), filepath.Join(dir, "demo")); err != nil {
			t.Fatal(err)
		}
	}
	for name, script := range map[string]string{"watchover": "echo no disk; exit 7", "sampleapp": "exec " + filepath.Join(built(t), "sampleapp") + ` "$@"`} {
		if err := os.WriteFile(filepath.Join(broken, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name, bin string
		args      []string
		code      int
		says      []string
	}{
		{"alone", alone, nil, 1, []string{"cannot find watchover beside", "make demo"}},
		{"a watcher that fails", broken, []string{"--once"}, 1, []string{"has ended (exit status 7)", "no disk"}},
		{"flag", alone, []string{"--twice"}, 2, []string{"usage: demo"}},
		{"argument", alone, []string{"once"}, 2, []string{`unknown argument "once"`}},
		{"help", alone, []string{"--help"}, 0, []string{"usage: demo"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := newDemo(t, test.bin, test.args...)
			_ = d.Run()
			if got := d.ProcessState.ExitCode(); got != test.code {
				t.Errorf("exit code %d, want %d", got, test.code)
			}
			for _, want := range test.says {
				if !strings.Contains(d.out.String(), want) {
					t.Errorf("it does not say %q but %s", want, &d.out)
				}
			}
			d.nothingLeft(t)
		})
	}
}

func TestNothingOutlivesAKilledDemo(t *testing.T) {
	helper := exec.CommandContext(t.Context(), os.Args[0])
	helper.Env = append(os.Environ(), helperVariable+"="+filepath.Join(t.TempDir(), "log"))
	out, err := helper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := helper.Start(); err != nil {
		t.Fatal(err)
	}
	text, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		t.Fatalf("the helper says %q", text)
	}
	if err := syscall.Kill(child, 0); err != nil {
		t.Fatalf("the child does not run: %v", err)
	}
	_ = helper.Process.Kill()
	_ = helper.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for !gone(child) {
		if !pause(ctx, 5*time.Millisecond) {
			t.Fatalf("process %d outlives the demo that was killed", child)
		}
	}
}

// gone: ended, or only waiting for init to notice.
func gone(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(text), ") Z ")
}

func TestClosingStopsWhoDoesNotListen(t *testing.T) {
	p := newProcesses()
	ready := make(chan struct{}, 1)
	deaf, err := p.start("deaf", filepath.Join(t.TempDir(), "log"), func(line []byte) { ready <- struct{}{} },
		"sh", "-c", `trap "" TERM; echo ready; while :; do sleep 60; done`)
	if err != nil {
		t.Fatal(err)
	}
	<-ready
	p.close()
	if !gone(deaf.pid()) {
		t.Error("it runs on")
	}
	if err := deaf.alive(); err == nil || !strings.Contains(err.Error(), "killed") || !strings.Contains(err.Error(), "ready") {
		t.Errorf("alive says %v", err)
	}
}

func TestLines(t *testing.T) {
	var whole bytes.Buffer
	var seen []string
	l := &lines{copy: &whole, each: func(line []byte) { seen = append(seen, string(line)) }}
	for _, text := range []string{"on", "e\ntwo\n\nth", "ree\n", strings.Repeat("x", maxLine+5), "y\nlast"} {
		if n, err := l.Write([]byte(text)); n != len(text) || err != nil {
			t.Fatalf("wrote %d, %v", n, err)
		}
	}
	if want := []string{"one", "two", "", "three", strings.Repeat("x", maxLine)}; strings.Join(seen, "|") != strings.Join(want, "|") {
		t.Errorf("%d lines, %.60q", len(seen), seen)
	}
	if !strings.HasSuffix(whole.String(), "y\nlast") {
		t.Error("the copy is not whole")
	}
}

func TestCrewTurnsAPanicIntoAnError(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	team := &crew{cancel: cancel}
	team.add(func() error { panic("boom") })
	team.wait.Wait()
	if cause := context.Cause(ctx); cause == nil || !strings.Contains(cause.Error(), "boom") {
		t.Errorf("the cause is %v", cause)
	}
}

func TestFreePorts(t *testing.T) {
	ports, err := freePorts(20)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, port := range ports {
		if seen[port] || port < firstPort || port > lastPort {
			t.Errorf("port %d", port)
		}
		seen[port] = true
	}
}

func TestProofsThatFailAreTheExitCode(t *testing.T) {
	rows, err := proofRows([]proof{{"one", nil}, {"two", errors.New("because")}}, asciiSigns)
	if text := render(rows, 80); text != "  + one\n  x not: two\n" {
		t.Errorf("rows %q", text)
	}
	if err == nil || err.Error() != "not so: two: because" {
		t.Errorf("error %v", err)
	}
	if _, err := proofRows([]proof{{"one", nil}}, asciiSigns); err != nil {
		t.Errorf("error %v", err)
	}
}
