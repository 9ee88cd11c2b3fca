// Mutants breaks the code on purpose, one guarantee at a time, and asks each layer of the proof whether it notices: the
// rules' own tests, the runner's tests, the simulator, and whole watchers in fake time. A proof that notices nothing proves
// nothing.
//
//	go run ./internal/mutants                  every mutant, every layer (most of an hour on two processors)
//	go run ./internal/mutants -layers sim      the simulator alone
//	go run ./internal/mutants -only stale      those whose name contains a word
//
// Nothing is changed in the tree: the broken file is handed to the compiler in the place of the real one (go build -overlay).
// A mutant whose text is no longer in the code is an error, so that the list cannot fall behind.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// layer is one kind of proof, with the budget that it has in make test. What it prints is searched for the number of tries it took.
type layer struct {
	name  string
	args  []string // of go test
	env   []string
	tries *regexp.Regexp
	limit time.Duration // set by measure
}

var layers = []*layer{
	{name: "rules", args: []string{"./pkg/failover", "-rapid.nofailfile"}},
	{name: "runner", args: []string{"./internal/switchover"}},
	{name: "sim", args: []string{"-run", "^TestSeeds$", "./internal/sim", "-seeds", "4000", "-shrink=false"}, tries: regexp.MustCompile(`seed (\d+) breaks`)},
	{name: "bubble", args: []string{"-run", "^TestBubbleSchedules$", "./internal/daemon"}, env: []string{"SCHEDULES=500"}, tries: regexp.MustCompile(`seed (\d+):`)},
}

func main() {
	only := flag.String("only", "", "mutants whose name contains this")
	which := flag.String("layers", "rules,runner,sim,bubble", "layers to ask, separated by commas")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	escaped := 0
	fmt.Printf("%-2s %-52s", "", "mutant")
	for _, l := range layers {
		fmt.Printf(" %-14s", l.name)
	}
	fmt.Printf("\n%-55s", "   (the code as it is)")
	for _, l := range layers {
		took := "-"
		if slices.Contains(strings.Split(*which, ","), l.name) {
			var err error
			if took, err = l.measure(ctx); err != nil {
				fmt.Fprintf(os.Stderr, "\nmutants: %v\n", err)
				os.Exit(2)
			}
		}
		fmt.Printf(" %-14s", took)
	}
	fmt.Println()
	for _, m := range mutants {
		if !strings.Contains(m.name, *only) || ctx.Err() != nil {
			continue
		}
		caught, err := m.run(ctx, strings.Split(*which, ","))
		if err != nil {
			fmt.Fprintf(os.Stderr, "mutants: %s: %v\n", m.name, err)
			os.Exit(2)
		}
		if !caught {
			escaped++
		}
	}
	if ctx.Err() != nil {
		os.Exit(1)
	}
	if escaped > 0 {
		fmt.Printf("%d mutants were not noticed\n", escaped)
		os.Exit(1)
	}
}

// run asks the layers about one mutant, a cell of its line each.
func (m mutant) run(ctx context.Context, which []string) (caught bool, err error) {
	dir, err := os.MkdirTemp("", "mutant")
	if err != nil {
		return false, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	overlay, err := m.overlay(dir)
	if err != nil {
		return false, err
	}
	fmt.Printf("%-2d %-52s", m.guarantee, m.name)
	for _, l := range layers {
		cell := "-"
		if slices.Contains(which, l.name) {
			var noticed bool
			if noticed, cell, err = l.ask(ctx, overlay); err != nil {
				fmt.Println()
				return false, err
			}
			caught = caught || noticed
		}
		fmt.Printf(" %-14s", cell)
	}
	fmt.Println()
	return caught, nil
}

// overlay writes the broken file and the description that the compiler takes.
func (m mutant) overlay(dir string) (string, error) {
	text, err := os.ReadFile(m.file)
	if err != nil {
		return "", err
	}
	if n := bytes.Count(text, []byte(m.old)); n != 1 {
		return "", fmt.Errorf("%q is %d times in %s, want once", m.old, n, m.file)
	}
	broken := filepath.Join(dir, filepath.Base(m.file))
	if err := os.WriteFile(broken, bytes.Replace(text, []byte(m.old), []byte(m.new), 1), 0o600); err != nil {
		return "", err
	}
	real, err := filepath.Abs(m.file)
	if err != nil {
		return "", err
	}
	list, err := json.Marshal(map[string]map[string]string{"Replace": {real: broken}})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, list, 0o600)
}

// measure runs a layer on the code as it is, on which it must find nothing, and sets how long a mutant may keep it.
func (l *layer) measure(ctx context.Context) (string, error) {
	output, took, err := l.test(ctx)
	if err != nil {
		return "", fmt.Errorf("layer %s finds fault with the code as it is: %w\n%s", l.name, err, output)
	}
	l.limit = 4*took + time.Minute
	return "- (" + took.String() + ")", nil
}

func (l *layer) test(ctx context.Context, flags ...string) (output []byte, took time.Duration, err error) {
	args := append(append([]string{"test", "-count=1", "-vet=off", "-timeout", "0"}, flags...), l.args...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), l.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the test is a child of go's
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	began := time.Now()
	output, err = cmd.CombinedOutput()
	return output, time.Since(began).Round(time.Second), err
}

// ask runs one layer on one mutant. One that does not end in time has been noticed, by hanging.
func (l *layer) ask(ctx context.Context, overlay string) (noticed bool, cell string, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.limit)
	defer cancel()
	output, took, err := l.test(ctx, "-overlay", overlay)
	switch {
	case ctx.Err() != nil:
		return true, "hangs", nil
	case err == nil:
		return false, "-", nil
	case bytes.Contains(output, []byte("[build failed]")):
		return false, "", fmt.Errorf("it does not compile:\n%s", output)
	}
	if l.tries != nil {
		if found := l.tries.FindSubmatch(output); found != nil {
			return true, fmt.Sprintf("%s (%s)", found[1], took), nil
		}
	}
	return true, "yes (" + took.String() + ")", nil
}
