// Command watchover is the daemon and the tool that speaks to it: one binary, a verb for each thing to do.
//
// Everything that decides or acts lives below internal and pkg; here are flags, signals, exit codes and tables.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/mattn/go-isatty"

	"github.com/watchover-ha/watchover/internal/guard"
)

func main() {
	if guard.Main() { // this process is the guard of another one's hooks
		return
	}
	os.Exit(program())
}

// program runs the verb that the command line names and returns the exit code.
func program() int {
	u := &ui{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv,
		terminal: isatty.IsTerminal(os.Stdin.Fd()) && isatty.IsTerminal(os.Stdout.Fd()),
		screen:   isatty.IsTerminal(os.Stdout.Fd()),
	}
	u.color = u.screen && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "run" { // the daemon reads its signals itself
		return execute(context.Background(), args, u)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return execute(ctx, args, u)
}
