package main

import (
	"os"
	"slices"
	"syscall"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// handleSignals carries out signals in their order, one at a time, until stopped is closed and the order in work is
// done. The first SIGTERM or SIGINT calls stop, a second one exit. A signal that is already waiting is not queued a
// second time, so at most three wait; those that still wait when the daemon stops are dropped.
func handleSignals(stopped <-chan struct{}, received <-chan os.Signal, p process, log zerolog.Logger, stop, exit func()) {
	var waiting []os.Signal
	var done chan struct{} // of the order in work; nil: none is. Closed by its goroutine
	stopping := false
	for {
		if done == nil && len(waiting) > 0 && !stopping {
			done = carryOut(waiting[0], p)
			waiting = waiting[1:]
		}
		over := stopped
		if done != nil {
			over = nil
		}
		select {
		case s := <-received:
			log.Info().Str("signal", signalName(s)).Msg("signal received")
			switch {
			case s != syscall.SIGTERM && s != syscall.SIGINT:
				if !slices.Contains(waiting, s) {
					waiting = append(waiting, s)
				}
			case stopping:
				exit()
				return
			default:
				stopping = true
				stop()
			}
		case <-done:
			done = nil
		case <-over:
			return
		}
	}
}

// signalName is the name that manuals use: SIGUSR1, not "user defined signal 1".
func signalName(s os.Signal) string {
	if number, ok := s.(syscall.Signal); ok {
		return unix.SignalName(number)
	}
	return s.String()
}

// carryOut gives the order of one signal; the channel is closed when that is done.
func carryOut(s os.Signal, p process) chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		switch s {
		case syscall.SIGUSR1:
			p.Switchover()
		case syscall.SIGUSR2:
			p.Pause()
		case syscall.SIGHUP:
			p.Reload()
		}
	}()
	return done
}
