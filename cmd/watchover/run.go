package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/watchover-ha/watchover/internal/config"
)

// process is the daemon as the signals see it.
type process interface {
	Run(ctx context.Context) error
	Switchover() // SIGUSR1
	Pause()      // SIGUSR2
	Reload()     // SIGHUP
}

func runCommand(u *ui) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use: "run --config FILE", Short: "The daemon", Args: arguments(0, 0),
		Long: `Runs the daemon until SIGTERM or SIGINT; a second one stops it at once.

SIGUSR1 switches over the only group, or watcher.signals.switchover. SIGUSR2 pauses the automation of all groups.
SIGHUP reads the file and certificates again. Of the section watcher, operators, signals and log.level are taken up;
what differs in other keys is told in the log and counts from the next start.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if path == "" {
				return usage("run needs --config FILE", "`watchover config example` prints one to start from")
			}
			f, err := loadConfig(path)
			if err != nil {
				return err
			}
			log := newLogger(u.err, f.Watcher.Log)
			return runProcess(cmd.Context(), func() (process, error) { return newProcess(path, log) }, log)
		},
	}
	cmd.Flags().StringVarP(&path, "config", "c", "", "the watcher's file")
	return cmd
}

// newLogger writes for people on a terminal and JSON elsewhere, unless the file says which.
func newLogger(out io.Writer, c config.Log) zerolog.Logger {
	setLevel(c.Level)
	file, isFile := out.(*os.File)
	terminal := isFile && isatty.IsTerminal(file.Fd())
	if c.Format == "console" || c.Format != "json" && terminal {
		out = zerolog.ConsoleWriter{Out: out, TimeFormat: "15:04:05.000", NoColor: !terminal || os.Getenv("NO_COLOR") != ""}
	}
	zerolog.TimeFieldFormat = time.RFC3339Nano
	return zerolog.New(out).With().Timestamp().Logger()
}

// setLevel is of the whole process: the parts' loggers are made once, and the level may change while they run.
func setLevel(text string) {
	level, err := zerolog.ParseLevel(text)
	if err != nil {
		level = zerolog.InfoLevel // a file with such a level has not been read without faults
	}
	zerolog.SetGlobalLevel(level)
}

// runProcess makes and runs the daemon under its signals. They are caught before it is made: one that comes meanwhile
// waits, instead of ending the process as the kernel would have it.
func runProcess(ctx context.Context, build func() (process, error), log zerolog.Logger) error {
	received := make(chan os.Signal, 16) // signal.Notify drops what does not fit
	signal.Notify(received, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGHUP)
	defer signal.Stop(received)
	p, err := build()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stopped, handled := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(handled)
		handleSignals(stopped, received, p, log, cancel, func() { os.Exit(exitFailed) })
	}()
	err = p.Run(ctx)
	close(stopped)
	<-handled
	if err != nil {
		return fmt.Errorf("cannot run the daemon: %w", err)
	}
	return nil
}
