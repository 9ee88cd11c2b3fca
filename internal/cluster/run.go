package cluster

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Run takes part in the cluster until ctx ends, then hands leadership over, stops in order and returns nil. It returns an
// error if this watcher cannot go on: it had to sit out and its disk is good again (ErrDiskBack), raft is stuck, or it
// cannot be stopped within bounds. The process should then end and be started again.
func (n *Node) Run(ctx context.Context) error {
	// The work outlives ctx by the hand-over.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	n.spawn(func() { n.gate.serve(work) })
	var beside sync.WaitGroup
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	beside.Go(func() { n.watchSpace(life) })
	defer beside.Wait()
	defer end()

	err := n.takePart(ctx, work)
	stop()
	if fault, ok := err.(diskFault); ok {
		n.hangUp()
		err = n.sitOut(ctx, fault)
	}
	if closing := n.close(); err == nil {
		err = closing
	}
	return err
}

// takePart waits for the cluster's first start if need be, and then takes part until ctx ends or something is broken.
func (n *Node) takePart(ctx, work context.Context) error {
	if err := n.join(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // stopped while it was waiting
		}
		return err
	}
	if err := n.checkLineage(ctx); err != nil {
		return err
	}
	if err := n.startRaft(); err != nil {
		return err
	}
	n.startLoops(work)
	select {
	case <-ctx.Done():
		n.handOver()
		return nil
	case err := <-n.store.fault:
		return diskFault{err}
	case err := <-n.fatal:
		return err
	}
}

// startLoops starts what runs beside raft; all of it ends with ctx.
func (n *Node) startLoops(ctx context.Context) {
	leading := make(chan struct{}, 1)
	n.spawn(func() { n.watchLeader(ctx) })
	n.spawn(func() { n.watchLeadership(ctx, leading) })
	n.spawn(func() { n.leadLoop(ctx, leading) })
	n.spawn(func() { n.beatLoop(ctx) })
	n.spawn(func() { n.pokeLoop(ctx) })
	n.spawn(func() { n.lineageLoop(ctx) })
	n.spawn(func() { n.standingLoop(ctx) })
}

// watchLeader keeps the view of who leads.
func (n *Node) watchLeader(ctx context.Context) {
	seen := make(chan raft.Observation, 16)
	observer := raft.NewObserver(seen, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	})
	r := n.raft.Load()
	r.RegisterObserver(observer)
	defer r.DeregisterObserver(observer)
	for {
		// Observations may be dropped when many come at once; what counts is what raft says now.
		if _, id := r.LeaderWithID(); string(id) != n.view.Load().id {
			n.setLeader(string(id))
			n.log.Info().Str(keyLeader, string(id)).Uint64(keyTerm, r.CurrentTerm()).Msg("leader changed")
			n.wake()
		}
		select {
		case <-seen:
		case <-ctx.Done():
			return
		}
	}
}

// watchLeadership reads raft's word on this watcher's leadership. Raft blocks until it is read, so this does nothing
// slow. The words are only a sign to look: several may have come together, and an old one may arrive in a later term.
func (n *Node) watchLeadership(ctx context.Context, leading chan<- struct{}) {
	for {
		select {
		case <-n.notify:
			n.endLostTerm()
			select {
			case leading <- struct{}{}:
			default:
			}
		case <-ctx.Done():
			return
		}
	}
}

// leadLoop is where this watcher leads, one term after the other.
func (n *Node) leadLoop(ctx context.Context, leading <-chan struct{}) {
	var last uint64
	for {
		select {
		case <-leading:
			number, leads := n.leadingTerm()
			if !leads || number == last {
				continue
			}
			last = number
			n.lead(ctx, number)
		case <-ctx.Done():
			return
		}
	}
}

// leadingTerm is the term that this watcher leads in. Raft leaves the leader's state before it raises its term, so a
// term that was the same before and after "leader" was read is the one led in.
func (n *Node) leadingTerm() (uint64, bool) {
	r := n.raft.Load()
	before := r.CurrentTerm()
	leads := r.State() == raft.Leader
	return before, leads && r.CurrentTerm() == before
}

// endLostTerm ends the term that is being led in if raft no longer leads in it.
func (n *Node) endLostTerm() {
	t := n.term.Load()
	if t == nil {
		return
	}
	if number, leads := n.leadingTerm(); !leads || number != t.number {
		t.end()
	}
}

// handOver gives leadership to another watcher before the stop, if this one leads.
func (n *Node) handOver() {
	n.stopping.Store(true)
	t := n.term.Load()
	if t == nil {
		return
	}
	t.giveWay(handover{reason: "stopping"})
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-t.gone:
	case <-timer.C:
		n.log.Warn().Dur(keyTimeout, stopTimeout).Msg("leadership was not handed over in time")
	}
}

// hangUp tells raft to stop and closes every connection: from here on nothing of this watcher reaches the others.
func (n *Node) hangUp() {
	n.stopping.Store(true)
	if r := n.raft.Load(); r != nil && n.stopped == nil {
		n.stopped = r.Shutdown() // only the first Shutdown's future waits
	}
	if n.trans != nil {
		n.trans.CloseStreams()
		_ = n.trans.Close() // closes the gate; there is nothing to do about an error
	}
	n.gate.close()
	n.closePeers()
	n.view.Load().end()
}

// close stops raft, the transport and every goroutine, and gives back the directory and the port.
func (n *Node) close() error {
	n.hangUp()
	err := within(stopTimeout, "raft", func() error {
		if n.stopped == nil {
			return nil
		}
		return n.stopped.Error()
	})
	close(n.down)
	if e := within(stopTimeout, "the cluster's goroutines", func() error { n.joinAll(); return nil }); err == nil {
		err = e
	}
	if err != nil {
		return err // the stores may still be in use; the process ends now and frees them
	}
	n.unregister()
	n.closeStores()
	n.dir.close()
	return nil
}

// within runs f and waits for it no longer than d. A later f is left behind: its caller is about to end the process.
func within(d time.Duration, what string, f func() error) error {
	done := make(chan error, 1)
	var once sync.Once
	go func() { err := f(); once.Do(func() { done <- err }) }()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("cannot stop %s: %w", what, err)
		}
		return nil
	case <-timer.C:
		return fmt.Errorf("cannot stop %s within %s; end the process", what, d)
	}
}

// spawn runs f in a goroutine that close waits for; false: the node is closing and f was not run.
func (n *Node) spawn(f func()) bool {
	n.work.Lock()
	defer n.work.Unlock()
	if n.workEnded {
		return false
	}
	n.wg.Go(f)
	return true
}

// joinAll waits for every goroutine and lets no new one start.
func (n *Node) joinAll() {
	n.work.Lock()
	n.workEnded = true
	n.work.Unlock()
	n.wg.Wait()
}
