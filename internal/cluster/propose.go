package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/watchover-ha/watchover/pkg/failover"
)

const (
	retryPause = 50 * time.Millisecond
	// maxPending bounds the leader's commands that are not committed yet; see takeSlot. Raft's queue holds 64.
	maxPending = 48
	// catchUpWait bounds how long a follower waits for its own state to show what it has just had committed.
	catchUpWait = time.Second
)

// Propose has a command committed and returns what Apply answered. On a follower it goes through the leader, and the
// follower's own State shows it on return. The leader fills in Term, Time and Fresh.
//
// It tries until ctx ends, or for ten seconds if ctx has no deadline. ErrNoLeader: nothing was done. ErrUnknown: the
// command may have been committed; with an id, Propose has already sent it again as long as it could. Other errors mean that the
// command cannot be proposed at all.
func (n *Node) Propose(ctx context.Context, c failover.Command) (failover.Result, error) {
	text, err := failover.EncodeCommand(c)
	if err != nil {
		return failover.Result{}, err
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, proposeTimeout)
		defer cancel()
	}
	unknown := false
	for {
		view := n.view.Load()
		result, err := n.proposeOnce(ctx, view.id, c, text)
		switch {
		case err == nil:
			return result, nil
		case errors.Is(err, ErrUnknown):
			unknown = true
			if c.ID == "" {
				return result, err
			}
		case !errors.Is(err, ErrNoLeader):
			return result, err
		}
		if n.stopping.Load() || !waitEither(ctx, view.changed.Done(), retryPause) {
			if unknown {
				return result, fmt.Errorf("%w: %v", ErrUnknown, err)
			}
			return result, err
		}
	}
}

// waitEither waits for a sign or for d; false: ctx ended first.
func waitEither(ctx context.Context, sign <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-sign:
		// A new leader cannot be faster than this, and no leader at all must not be asked in a tight loop.
		return pause(ctx, time.Millisecond)
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (n *Node) proposeOnce(ctx context.Context, leader string, c failover.Command, text []byte) (failover.Result, error) {
	if leader == "" {
		return failover.Result{}, ErrNoLeader
	}
	if leader == n.o.Name {
		t := n.term.Load()
		if t == nil {
			return failover.Result{}, ErrNoLeader
		}
		return t.proposeWhenReady(ctx, c)
	}
	result, err := n.forward(ctx, leader, text)
	if err == nil {
		n.catchUp(ctx, result.Index)
	}
	return result, err
}

// forward sends a command to the leader.
func (n *Node) forward(ctx context.Context, leader string, text []byte) (failover.Result, error) {
	p, ok := n.member(leader)
	if !ok {
		return failover.Result{}, fmt.Errorf("%w: %q leads and is not known here", ErrNoLeader, leader)
	}
	deadline, _ := ctx.Deadline()
	a, err := n.peer(leader).call(ctx, p.Address, request{Propose: &proposal{Command: text, Wait: time.Until(deadline)}})
	switch {
	case errors.Is(err, errNotSent):
		return failover.Result{}, fmt.Errorf("%w: %v", ErrNoLeader, err)
	case err != nil:
		return failover.Result{}, fmt.Errorf("%w: %v", ErrUnknown, err)
	case a.Kind == errorNoLeader:
		return failover.Result{}, fmt.Errorf("%w: %s", ErrNoLeader, a.Error)
	case a.Kind == errorUnknown:
		return failover.Result{}, fmt.Errorf("%w: %s", ErrUnknown, a.Error)
	case a.Kind != "" || a.Result == nil:
		return failover.Result{}, fmt.Errorf("cannot propose through %s: %s", leader, a.Error)
	}
	return *a.Result, nil
}

// takeProposal proposes for another watcher.
func (n *Node) takeProposal(ctx context.Context, p proposal) answer {
	c, err := failover.DecodeCommand(p.Command)
	if err != nil {
		return answer{Kind: errorInvalid, Error: err.Error()}
	}
	if !forwardable(c) {
		return answer{Kind: errorInvalid, Error: "only the leader itself proposes such a command"}
	}
	select {
	case n.proposal <- struct{}{}:
		defer func() { <-n.proposal }()
	default:
		return answer{Kind: errorNoLeader, Error: fmt.Sprintf("%d commands are in work already", maxProposals)}
	}
	t := n.term.Load()
	if t == nil {
		return answer{Kind: errorNoLeader, Error: n.o.Name + " does not lead"}
	}
	ctx, cancel := context.WithTimeout(ctx, min(p.Wait, time.Minute))
	defer cancel()
	result, err := t.proposeWhenReady(ctx, c)
	switch {
	case err == nil:
		return answer{Result: &result}
	case errors.Is(err, ErrNoLeader):
		return answer{Kind: errorNoLeader, Error: err.Error()}
	case errors.Is(err, ErrUnknown):
		return answer{Kind: errorUnknown, Error: err.Error()}
	}
	return answer{Kind: errorInvalid, Error: err.Error()}
}

// forwardable reports whether another watcher may propose c through the leader: what people order, and the ends of attempts.
// Verdicts come with heartbeats, under the name of whoever sent them; the rest is the leader's own.
func forwardable(c failover.Command) bool {
	return c.Init == nil && c.Tick == nil && c.Reports == nil && c.Due == nil && (c.Journal == nil || c.Journal.Start == nil)
}

// catchUp waits a moment for this watcher's own state to reach index.
func (n *Node) catchUp(ctx context.Context, index uint64) {
	ctx, cancel := context.WithTimeout(ctx, catchUpWait)
	defer cancel()
	for {
		next := n.Watch()
		if n.State().Index >= index {
			return
		}
		select {
		case <-next:
		case <-ctx.Done():
			return
		}
	}
}

// ProposeAsync puts a command into the leader's log at once and returns how to wait for it; commands proposed one after
// the other keep their order and may share one write to the disk. Errors are those of Propose, without its retries: on
// a watcher that does not lead, ErrNoLeader.
func (n *Node) ProposeAsync(c failover.Command) func(context.Context) (failover.Result, error) {
	t := n.term.Load()
	if t == nil {
		return failed(ErrNoLeader)
	}
	return t.proposeAsync(c)
}

func failed(err error) func(context.Context) (failover.Result, error) {
	return func(context.Context) (failover.Result, error) { return failover.Result{}, err }
}

// proposeWhenReady proposes once the term has been opened by its first Tick.
func (t *term) proposeWhenReady(ctx context.Context, c failover.Command) (failover.Result, error) {
	select {
	case <-t.ready:
	case <-t.ctx.Done():
		return failover.Result{}, ErrNoLeader
	case <-ctx.Done():
		return failover.Result{}, fmt.Errorf("%w that is ready: %v", ErrNoLeader, ctx.Err())
	}
	return t.proposeAsync(c)(ctx)
}

// pending is a command on its way through the log.
type pending struct {
	done   chan struct{} // closed when result and err are set
	result failover.Result
	err    error
}

// proposeAsync enqueues c and returns how to wait for it.
func (t *term) proposeAsync(c failover.Command) func(context.Context) (failover.Result, error) {
	p, err := t.enqueue(c, nil)
	if err != nil {
		return failed(err)
	}
	return p.wait
}

// wait waits for the command's result; ctx ending first leaves the outcome unknown.
func (p *pending) wait(ctx context.Context) (failover.Result, error) {
	select {
	case <-p.done:
		return p.result, p.err
	case <-ctx.Done():
		return failover.Result{}, fmt.Errorf("%w: %v", ErrUnknown, ctx.Err())
	}
}

// enqueue fills in this term's number, clock and list of fresh watchers and hands the command to raft. The lock keeps
// the lists in the order of the log: an older one must not follow a newer one. An error means that nothing was done,
// unless it is ErrUnknown. Then is called with the command's end, if it is not nil and there was no error.
func (t *term) enqueue(c failover.Command, then func(error)) (*pending, error) {
	t.order.Lock()
	defer t.order.Unlock()
	if err := t.takeSlot(); err != nil {
		return nil, err
	}
	now := time.Now()
	c.Term, c.Time, c.Fresh = t.number, now.UTC(), t.fresh(now)
	text, err := failover.EncodeCommand(c)
	if err != nil {
		<-t.slots
		return nil, err
	}
	f := t.n.raft.Load().ApplyLog(raft.Log{Data: text}, t.n.o.Timing.Heartbeat)
	t.proposed(c.Fresh)
	p := &pending{done: make(chan struct{})}
	if !t.n.spawn(func() { t.finish(p, f, then) }) {
		return nil, fmt.Errorf("%w: this watcher is stopping", ErrUnknown)
	}
	return p, nil
}

// takeSlot bounds the commands in the log that are not committed yet. There are fewer slots than places in raft's own queue, so
// that a command with a slot is enqueued at once, and later ones cannot overtake it.
func (t *term) takeSlot() error {
	if t.ctx.Err() != nil {
		return ErrNoLeader
	}
	select {
	case t.slots <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(t.n.o.Timing.Heartbeat)
	defer timer.Stop()
	select {
	case t.slots <- struct{}{}:
		return nil
	case <-t.ctx.Done():
		return ErrNoLeader
	case <-timer.C:
		return fmt.Errorf("%w that can take a command: %d are waiting to be committed", ErrNoLeader, cap(t.slots))
	}
}

// finish waits for raft and notes what came out.
func (t *term) finish(p *pending, f raft.ApplyFuture, then func(error)) {
	p.result, p.err = t.outcome(f)
	<-t.slots
	if p.err != nil {
		t.unproposed()
	}
	if then != nil {
		then(p.err)
	}
	close(p.done)
}

func (t *term) outcome(f raft.ApplyFuture) (failover.Result, error) {
	if err := t.n.await(context.Background(), f); err != nil {
		return failover.Result{}, t.judge(err)
	}
	result, ok := f.Response().(failover.Result)
	if !ok {
		return failover.Result{}, fmt.Errorf("%w: the state machine answered %T", ErrUnknown, f.Response())
	}
	if result.Code == failover.CodeStale && result.Rule == "term" {
		// It landed in a later term and was refused there.
		return failover.Result{}, fmt.Errorf("%w: %s", ErrNoLeader, result.Detail)
	}
	return result, nil
}

// judge says what a failed proposal means.
func (t *term) judge(err error) error {
	switch {
	case errors.Is(err, raft.ErrLeadershipTransferInProgress):
		t.noteTransferring()
		return fmt.Errorf("%w: %v", ErrNoLeader, err)
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrEnqueueTimeout):
		return fmt.Errorf("%w: %v", ErrNoLeader, err)
	}
	// Leadership lost with the entry in the log, raft stopped, or a failing disk.
	return fmt.Errorf("%w: %v", ErrUnknown, err)
}

// await waits for one of raft's futures, no longer than ctx or raft last. A future that stood in raft's queue when it was
// shut down is never answered: its goroutine is left behind, in a process that ends.
func (n *Node) await(ctx context.Context, f raft.Future) error {
	answered := make(chan error, 1)
	go func() { answered <- f.Error() }()
	select {
	case err := <-answered:
		return err
	case <-n.down:
		return raft.ErrRaftShutdown
	case <-ctx.Done():
		return ctx.Err()
	}
}
