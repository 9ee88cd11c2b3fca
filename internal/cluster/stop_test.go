package cluster

import (
	"context"
	"sync"
	"testing"
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
