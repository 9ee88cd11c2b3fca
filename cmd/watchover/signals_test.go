package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/rs/zerolog"
)

// orders is a daemon that records its orders and takes its time if the test says so.
type orders struct {
	mu   sync.Mutex // guards got
	got  []string
	hold chan struct{} // nil: orders take no time; else each waits for a value or for the closing
}

func (o *orders) take(name string) {
	o.mu.Lock()
	o.got = append(o.got, name)
	o.mu.Unlock()
	if o.hold != nil {
		<-o.hold
	}
}

func (o *orders) taken() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.got)
}

func (o *orders) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (o *orders) Switchover()                   { o.take("switchover") }
func (o *orders) Pause()                        { o.take("pause") }
func (o *orders) Reload()                       { o.take("reload") }

func TestSignalsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &orders{hold: make(chan struct{})}
		received, stopped, ended := make(chan os.Signal), make(chan struct{}), make(chan struct{})
		stops := 0
		go func() {
			defer close(ended)
			handleSignals(stopped, received, o, zerolog.Nop(), func() { stops++ }, func() { t.Error("exit was called") })
		}()
		received <- syscall.SIGUSR1
		synctest.Wait()
		// While the first is in work: another of its kind waits, but only once.
		for _, s := range []os.Signal{syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGHUP, syscall.SIGUSR2, syscall.SIGHUP, syscall.SIGUSR1} {
			received <- s
		}
		if got := o.taken(); !slices.Equal(got, []string{"switchover"}) {
			t.Errorf("two at once: %v", got)
		}
		for range 4 {
			o.hold <- struct{}{}
			synctest.Wait()
		}
		if got, want := o.taken(), []string{"switchover", "switchover", "pause", "reload"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		received <- syscall.SIGTERM
		synctest.Wait()
		received <- syscall.SIGUSR1 // too late
		synctest.Wait()
		if got := o.taken(); len(got) != 4 || stops != 1 {
			t.Errorf("after SIGTERM: %v, stopped %d times", got, stops)
		}
		close(stopped)
		<-ended
	})
}

func TestSecondSignalStopsAtOnce(t *testing.T) {
	for _, pair := range [][2]os.Signal{{syscall.SIGTERM, syscall.SIGTERM}, {syscall.SIGINT, syscall.SIGTERM}} {
		synctest.Test(t, func(t *testing.T) {
			o := &orders{hold: make(chan struct{})}
			received, ended := make(chan os.Signal), make(chan struct{})
			stops, exits := 0, 0
			go func() {
				defer close(ended)
				handleSignals(nil, received, o, zerolog.Nop(), func() { stops++ }, func() { exits++ })
			}()
			received <- syscall.SIGHUP // in work all the time
			received <- pair[0]
			synctest.Wait()
			if stops != 1 || exits != 0 {
				t.Errorf("after the first: %d stops, %d exits", stops, exits)
			}
			received <- pair[1]
			<-ended
			if stops != 1 || exits != 1 {
				t.Errorf("after the second: %d stops, %d exits", stops, exits)
			}
			close(o.hold)
		})
	}
}

// TestSignalsReachTheDaemon sends this process real signals.
func TestSignalsReachTheDaemon(t *testing.T) {
	o := &orders{}
	done := make(chan error, 1)
	running := make(chan struct{})
	go func() {
		done <- runProcess(t.Context(), func() (process, error) { return &started{orders: o, running: running}, nil }, zerolog.Nop())
	}()
	<-running // signals are caught by now
	for i, s := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGHUP} {
		if err := syscall.Kill(os.Getpid(), s); err != nil {
			t.Fatal(err)
		}
		waitFor(t, func() bool { return len(o.taken()) == i+1 })
	}
	if got, want := o.taken(), []string{"switchover", "pause", "reload"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestSignalWhileStarting shows that a signal that comes before the daemon is ready waits for it and does not end it.
func TestSignalWhileStarting(t *testing.T) {
	o := &orders{}
	running, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- runProcess(t.Context(), func() (process, error) {
			for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGTERM} { // the kernel would end the process
				if err := syscall.Kill(os.Getpid(), s); err != nil {
					return nil, err
				}
			}
			return &started{orders: o, running: running}, nil
		}, zerolog.Nop())
	}()
	<-running
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := runProcess(t.Context(), func() (process, error) { return nil, errors.New("no disk") }, zerolog.Nop()); err == nil || err.Error() != "no disk" {
		t.Errorf("got %v", err)
	}
}

// started says when it runs.
type started struct {
	*orders
	running chan struct{}
}

func (s *started) Run(ctx context.Context) error {
	close(s.running)
	return s.orders.Run(ctx)
}
