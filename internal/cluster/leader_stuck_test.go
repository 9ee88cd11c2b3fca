package cluster

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// One of the leader's goroutines sits in a call of the kernel's that does not return. Then it is to give way: for as long as
// it waited for that, nobody led, and its heartbeats kept others from it.
func TestALeaderWhoseWorkDoesNotEndMakesWay(t *testing.T) {
	var stuck atomic.Bool // only the first leader is
	kernel := make(chan struct{})
	r := newRig(t, 3, func(o *Options) {
		slow(o)
		o.leadPatience = 300 * time.Millisecond
		o.Lead = func(ctx context.Context, _ Leadership) {
			<-ctx.Done()
			if stuck.CompareAndSwap(false, true) {
				<-kernel
			}
		}
	})
	t.Cleanup(func() { close(kernel) })
	leader := r.up()
	leader.term.Load().giveWay(handover{reason: "asked for"})
	select {
	case <-leader.done:
	case <-time.After(20 * time.Second):
		t.Fatal("it waits for its work without end")
	}
	if leader.err == nil || !strings.Contains(leader.err.Error(), "start the process again") {
		t.Errorf("it ended with %v", leader.err)
	}
	leader.err = nil // it was to end so
	next := r.leader()
	if _, err := next.Propose(seconds(t, 10), pauseCommand("x", "for a moment", 100*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	until(t, "the next leader keeps the timers", func() bool { return pauseReason(next) == "" })
}
