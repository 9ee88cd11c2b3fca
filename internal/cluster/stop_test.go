package cluster

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

// Raft does not answer proposals that stand in its queue when it is shut down. A watcher that was stopped just then did
// not end.
func TestStopWithProposalsInTheQueue(t *testing.T) {
	for range 5 {
		r := newRig(t, 1, nil)
		n := r.up()
		ctx, cancel := context.WithCancel(t.Context())
		var asking sync.WaitGroup
		begun := make(chan struct{}, 32)
		for range cap(begun) {
			asking.Go(func() {
				begun <- struct{}{}
				for ctx.Err() == nil {
					if _, err := n.Propose(ctx, pauseCommand("", "again", 0)); err != nil {
						return
					}
				}
			})
		}
		for range cap(begun) {
			<-begun
		}
		r.quit(n)
		cancel()
		asking.Wait()
		if n.err != nil {
			t.Fatalf("stop: %v", n.err)
		}
	}
}

// A transfer that is waited for ends with the watcher: it does not look for a new leader without pause until its time is over.
func TestTransferIsNotWaitedForByAWatcherThatHasStopped(t *testing.T) {
	n := &Node{}
	n.setLeader("w1")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- n.awaitLeader(ctx, "w1") }()
	n.setLeader("") // an election
	n.stopping.Store(true)
	n.view.Load().end()
	if err := <-ended; !errors.Is(err, ErrNoLeader) || ctx.Err() != nil {
		t.Errorf("it ended with %v, its own time with %v", err, ctx.Err())
	}
}
