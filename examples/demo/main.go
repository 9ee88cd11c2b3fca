// Demo shows Watchover at work in ten seconds, on one machine and without installing anything: two small shops with a
// replicated database, three watchers, and a customer who orders all the time through the name that the watchers
// serve. Then the main shop is killed.
//
// Everything is real: the watchers are processes with a configuration file each, the DNS answers are asked over UDP,
// the customer connects to whatever address they give, and every time shown was measured. It needs the programs
// watchover and sampleapp beside its own; `make demo` builds all three.
//
// Whatever happens to the demo, nothing is left running: see processes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

const usage = `usage: demo [--once]
Starts three watchers and two sample shops on loopback, kills the main shop and shows what happens then.
  --once   stop by itself; exit 0 only if the switch really happened on all watchers
`

func main() {
	os.Exit(program(os.Args[1:], os.Stdout, os.Stderr))
}

// program runs the demo and returns the exit code: 0 shown and proved, 1 something is missing, 2 wrong usage.
func program(args []string, out *os.File, errs io.Writer) int {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(errs)
	flags.Usage = func() { _, _ = io.WriteString(errs, usage) }
	once := flags.Bool("once", false, "")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0:
		_, _ = fmt.Fprintf(errs, "demo: unknown argument %q\n%s", flags.Arg(0), usage)
		return 2
	}
	// SIGPIPE too: without a reader the demo ends, but in order.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	err := run(ctx, newStage(out, os.Getenv), *once)
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		_, _ = fmt.Fprintln(errs, "demo: stopped before the end")
	default:
		_, _ = fmt.Fprintf(errs, "demo: %v\n", err)
	}
	return 1
}

// run builds the laboratory in a temporary directory, plays the story in it and takes it down again.
func run(ctx context.Context, s *stage, once bool) (err error) {
	bin, err := programs()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "watchover-demo-")
	if err != nil {
		return fmt.Errorf("cannot make a temporary directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	l, err := newLab(bin, dir)
	if err != nil {
		return err
	}
	defer l.processes.close()
	return play(ctx, l, s, once)
}

// programs finds the directory of the two programs that the demo starts: its own.
func programs() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("cannot find the demo's own directory: %w", err)
	}
	dir := filepath.Dir(self)
	for _, name := range []string{"watchover", "sampleapp"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return "", fmt.Errorf("cannot find %s beside %s: %w (run `make demo`, which builds both)", name, self, err)
		}
	}
	return dir, nil
}
