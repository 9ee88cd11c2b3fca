package daemon

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/internal/config"
	"github.com/watchover-ha/watchover/internal/guard"
	"github.com/watchover-ha/watchover/internal/probe"
	"github.com/watchover-ha/watchover/internal/switchover"
)

// Exec probes that hang fill their own guard to the last place. Hooks run all the same, and a probe that gets no place
// says nothing about its app.
func TestProbesAndHooksDoNotStarveOneAnother(t *testing.T) {
	d := &Daemon{file: &config.File{Dir: "/"}, guard: guard.New(guard.Options{Log: zerolog.Nop()}), probing: guard.New(guard.Options{Log: zerolog.Nop()})}
	defer d.guard.Close()
	defer d.probing.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	var hanging sync.WaitGroup
	defer hanging.Wait()
	defer cancel()
	for range guard.MaxHooks {
		hanging.Go(func() { _, _, _ = d.probeProgram(ctx, []string{"/bin/sleep", "60"}, nil) })
	}
	for { // until there is no place left
		short, end := context.WithTimeout(ctx, 500*time.Millisecond)
		_, _, err := d.probeProgram(short, []string{"/bin/true"}, nil)
		end()
		if errors.Is(err, guard.ErrBusy) {
			if !errors.Is(err, probe.ErrNotRun) {
				t.Fatalf("a probe without a place: %v", err)
			}
			break
		}
		if ctx.Err() != nil {
			t.Fatal("the places are never taken")
		}
	}
	if _, code, err := d.program(ctx, switchover.Process{Argv: []string{"/bin/true"}}); code != 0 || err != nil {
		t.Errorf("a hook beside them: exit code %d, %v", code, err)
	}
}

// A program that ran to its deadline is the app's silence; one that never ran is nobody's.
func TestProbeProgramTellsWhetherItRan(t *testing.T) {
	d := &Daemon{file: &config.File{Dir: "/"}, probing: guard.New(guard.Options{Log: zerolog.Nop()})}
	defer d.probing.Close()
	if err := d.probing.Start(t.Context()); err != nil { // else the first one has its start to wait for
		t.Fatal(err)
	}
	for _, tc := range []struct {
		argv   []string
		notRun bool
	}{{[]string{"/bin/sleep", "60"}, false}, {[]string{"/nonexistent/program"}, true}} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		_, _, err := d.probeProgram(ctx, tc.argv, nil)
		cancel()
		if err == nil || errors.Is(err, probe.ErrNotRun) != tc.notRun {
			t.Errorf("%v: %v", tc.argv, err)
		}
	}
	t.Setenv("SHOP_PASSWORD", "hunter2")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	output, _, err := d.probeProgram(ctx, []string{"/usr/bin/env"}, []string{"WATCHOVER_APP=main"})
	if want := "PATH=" + os.Getenv("PATH") + "\nLANG=" + os.Getenv("LANG") + "\nWATCHOVER_APP=main\n"; err != nil || string(output) != want {
		t.Errorf("the environment of a probe is %q, %v; want %q", output, err, want)
	}
	d.probing.Close()
	if _, _, err := d.probeProgram(t.Context(), []string{"/bin/true"}, nil); !errors.Is(err, probe.ErrNotRun) {
		t.Errorf("without a deadline, on a guard that is closed: %v", err)
	}
}
