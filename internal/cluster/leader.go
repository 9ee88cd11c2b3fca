package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/watchover-ha/watchover/pkg/failover"
)

const (
	// quorumPatience is how long a leader goes on that hears fewer than a majority fresh.
	quorumPatience = 10 * time.Second
	// clockTolerance is by how much a leader's wall clock may part from its monotonic one.
	clockTolerance = 5 * time.Second
	initRetry      = 5 * time.Second
	openRetry      = 500 * time.Millisecond
	// leadPatience is how long what a leader does may go on after its reign. All of it ends within moments: it is told to, and
	// bounds whatever it waits for.
	leadPatience = 30 * time.Second
)

// Leadership is what Options.Lead gets: the right to propose in one term.
type Leadership struct {
	Term uint64
	t    *term
}

// Propose has a command committed in this term. Unlike Node.Propose it is never forwarded and never sent again:
// ErrNoLeader (nothing was done) and ErrUnknown tell that the term is over.
func (l Leadership) Propose(ctx context.Context, c failover.Command) (failover.Result, error) {
	return l.t.proposeAsync(c)(ctx)
}

// ProposeAsync is Node.ProposeAsync, bound to this term.
func (l Leadership) ProposeAsync(c failover.Command) func(context.Context) (failover.Result, error) {
	return l.t.proposeAsync(c)
}

// GiveWay asks for leadership to be handed to another watcher, one of to if any are named, at most once per term. The
// reason is logged. If nobody can take it, this watcher goes on leading; if it was not taken, Lead is called again.
func (l Leadership) GiveWay(reason string, to ...string) {
	l.t.giveWay(handover{reason: reason, to: to})
}

// term is one term that this watcher leads in.
type term struct {
	n       *Node
	number  uint64
	ctx     context.Context // ends with the leadership
	end     context.CancelFunc
	gone    chan struct{} // closed by lead when the term is over and nothing of it runs any more
	opening sync.Once
	opened  chan struct{} // closed by open when reports may be proposed
	ready   chan struct{} // closed by open when the first Tick has been applied
	change  chan struct{} // one slot: the list of fresh watchers may have changed
	give    chan handover // one slot: why and to whom to give way

	slots chan struct{} // one for each command that is not committed yet

	order sync.Mutex // held while a command is filled in and enqueued

	mu           sync.Mutex
	heard        map[string]*hearing // guarded by mu, by watcher
	last         []string            // guarded by mu: the list that the last command carried
	lastKnown    bool                // guarded by mu: last is in the log or on its way there
	transferred  bool                // guarded by mu
	transferring time.Time           // guarded by mu: since when raft has refused commands for a transfer; zero: it does not

	sayWaits time.Time // of keepMembers alone: when it last said what a change waits for

	pushes []*pusher // one for each other watcher; used by startPushing, and then only by raft's goroutine for the state machine
}

// lead is one term of leadership: enter, loop, and leave nothing behind.
func (n *Node) lead(work context.Context, number uint64) {
	ctx, end := context.WithCancel(work)
	t := &term{
		n: n, number: number, ctx: ctx, end: end, heard: map[string]*hearing{},
		gone: make(chan struct{}), opened: make(chan struct{}), ready: make(chan struct{}),
		change: make(chan struct{}, 1), give: make(chan handover, 1),
		slots: make(chan struct{}, maxPending),
	}
	defer close(t.gone)
	defer end()
	t.startPushing()
	n.noteContact()
	n.term.Store(t)
	defer n.term.Store(nil)
	n.endLostTerm() // the word that leadership was lost may have come before the term was stored
	for {
		err := t.open(ctx)
		if err == nil {
			break
		}
		if ctx.Err() == nil {
			n.log.Warn().Err(err).Uint64(keyTerm, number).Msg("term is not open yet")
		}
		if !pause(ctx, openRetry) || n.stopping.Load() {
			return
		}
	}
	n.log.Info().Uint64(keyTerm, number).Msg("leading")
	for ctx.Err() == nil {
		h, err := t.reign(ctx)
		if err != nil { // whoever asked for a transfer learns from gone that this watcher leads no more
			n.fail(fmt.Errorf("cannot go on: leadership has ended, but not what the leader does: %w; start the process again", err))
			return
		}
		if h.reason != "" {
			h.answer(t.transfer(ctx, h))
			if n.stopping.Load() {
				return
			}
		}
	}
	n.log.Info().Uint64(keyTerm, number).Msg("no longer leading")
}

// open makes this watcher's state current, starts an empty cluster, waits a moment for the others, and commits the
// first Tick.
func (t *term) open(ctx context.Context) error {
	r := t.n.raft.Load()
	if err := t.n.await(ctx, r.Barrier(t.n.o.Timing.Heartbeat)); err != nil {
		return fmt.Errorf("cannot reach the log's end: %w", err)
	}
	t.n.noteLeading()
	if err := t.begin(ctx); err != nil {
		return err
	}
	t.opening.Do(func() { close(t.opened) })
	t.n.wake() // count this watcher itself
	t.admitWaiting()
	t.awaitMajority(ctx)
	if _, err := t.proposeAsync(failover.Command{Tick: &failover.Tick{}})(ctx); err != nil {
		return fmt.Errorf("cannot commit the first entry: %w", err)
	}
	close(t.ready)
	return nil
}

// isOpen reports whether this watcher's state was current in the term; nil: it leads in none.
func (t *term) isOpen() bool {
	if t == nil {
		return false
	}
	select {
	case <-t.opened:
		return true
	default:
		return false
	}
}

// begin commits the first entry of an empty cluster.
func (t *term) begin(ctx context.Context) error {
	for t.n.State().Cluster == "" {
		init := failover.Init{Cluster: t.n.o.Cluster, ClusterID: randomID()}
		for _, p := range t.n.o.Peers {
			init.Members = append(init.Members, failover.Member{Name: p.Name, Address: p.Address, DNS: p.DNS, Node: t.n.agreedNode(p.Name)})
		}
		if t.n.o.Bootstrap != nil {
			init.Policy = t.n.o.Bootstrap()
		}
		result, err := t.proposeAsync(failover.Command{Init: &init})(ctx)
		if err != nil {
			return fmt.Errorf("cannot commit the cluster's first entry: %w", err)
		}
		if result.Accepted {
			break
		}
		t.n.log.Error().Str(keyReason, result.Detail).Msg("cluster cannot begin: its policy is refused; correct the file and reload it")
		if !pause(ctx, initRetry) {
			return ctx.Err()
		}
	}
	return nil
}

// awaitMajority waits until a majority has been heard, but no longer than one heartbeat.
func (t *term) awaitMajority(ctx context.Context) {
	timer := time.NewTimer(t.n.o.Timing.Heartbeat)
	defer timer.Stop()
	for !t.majorityFresh(time.Now()) {
		select {
		case <-t.change:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// reign runs Lead and keeps the lists and timers until leadership ends or is to be given away; the reason is empty if
// leadership was lost. Lead has returned when it does, except with an error: then the process must end. Nobody leads before
// that: a transfer gives away no hands that are still at work, and a watcher has one pair of them. And nobody would ever
// again, if the wait for it had no end.
func (t *term) reign(ctx context.Context) (handover, error) {
	leading, stop := context.WithCancel(ctx)
	defer stop()
	var lead sync.WaitGroup
	if t.n.o.Lead != nil {
		lead.Go(func() { t.n.o.Lead(leading, Leadership{Term: t.number, t: t}) })
	}
	lead.Go(func() { t.keepMembers(leading) })
	h := t.keepDuties(ctx)
	stop()
	return h, within(t.n.o.leadPatience, "the leader's work", func() error { lead.Wait(); return nil })
}

// keepDuties keeps the lists and timers for as long as a reign lasts.
func (t *term) keepDuties(ctx context.Context) handover {
	d := newDuties(t)
	defer d.timer.Stop()
	for {
		published := t.n.Watch()
		if h := (handover{reason: d.perform(time.Now())}); h.reason != "" && t.canGiveWay(h) {
			t.n.log.Warn().Str(keyReason, h.reason).Uint64(keyTerm, t.number).Msg("giving way")
			return h
		}
		select {
		case <-published:
		case <-t.change:
		case <-d.timer.C:
		case h := <-t.give:
			if t.n.stopping.Load() || t.canGiveWay(h) {
				t.n.log.Info().Str(keyReason, h.reason).Uint64(keyTerm, t.number).Msg("giving way")
				return h
			}
			h.answer(ErrTransferred)
		case <-ctx.Done():
			return handover{}
		}
	}
}

// giveWay asks the term's loop to hand over; only the first reason is kept.
func (t *term) giveWay(h handover) {
	select {
	case t.give <- h:
	default:
	}
}

// canGiveWay reports whether there is somebody to give way to, and no transfer has been tried in this term. Otherwise it
// is better to go on: Lead is not interrupted for nothing, and another reason may find a successor later.
func (t *term) canGiveWay(h handover) bool {
	t.mu.Lock()
	again := t.transferred
	t.mu.Unlock()
	if again {
		return false
	}
	if _, ok := t.successor(time.Now(), h.to...); ok {
		return true
	}
	if ok, held := t.n.limit.allow("stays: " + h.reason); ok {
		t.n.log.Warn().Str(keyReason, h.reason).Int(keySuppressed, held).Msg("leadership stays here: no other watcher can take it now")
	}
	return false
}

// transfer hands leadership over, once per term and only to a watcher heard just now: a second transfer to one that
// cannot be reached can leave raft refusing every command (hashicorp/raft #696).
func (t *term) transfer(ctx context.Context, h handover) error {
	reason := h.reason
	to, ok := t.successor(time.Now(), h.to...)
	t.mu.Lock()
	again := t.transferred
	t.transferred = again || ok
	t.mu.Unlock()
	if again || !ok {
		t.n.log.Warn().Str(keyReason, reason).Msg("leadership stays here: no other watcher can take it now")
		return ErrNoSuccessor
	}
	bound, cancel := context.WithTimeout(ctx, 2*t.n.o.Timing.Election)
	defer cancel()
	f := t.n.raft.Load().LeadershipTransferToServer(raft.ServerID(to.Name), raft.ServerAddress(to.Address))
	err := t.n.await(bound, f)
	if err == nil || ctx.Err() != nil {
		t.n.log.Info().Str(keyPeer, to.Name).Str(keyReason, reason).Msg("leadership handed over")
		// Raft's word that it is over is on its way.
		_ = waitEither(bound, ctx.Done(), t.n.o.Timing.Election)
		return nil
	}
	t.n.log.Warn().Err(err).Str(keyPeer, to.Name).Str(keyReason, reason).Msg("leadership was not taken over")
	if !t.n.stopping.Load() {
		t.checkTransferring(ctx)
	}
	return err
}

// checkTransferring finds out whether a failed transfer has left raft usable.
func (t *term) checkTransferring(ctx context.Context) {
	for {
		err := t.n.await(ctx, t.n.raft.Load().Barrier(t.n.o.Timing.Heartbeat))
		if !errors.Is(err, raft.ErrLeadershipTransferInProgress) {
			t.mu.Lock()
			t.transferring = time.Time{}
			t.mu.Unlock()
			return
		}
		t.noteTransferring()
		if !pause(ctx, t.n.o.Timing.Election/4) {
			return
		}
	}
}

// noteTransferring ends the process if raft has refused commands for a transfer for longer than one can take: it does not
// recover from that by itself (hashicorp/raft #696). A transfer to a watcher that has just been frozen takes until the
// request to it runs out, and that is no reason to end.
func (t *term) noteTransferring() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.transferring.IsZero() {
		t.transferring = time.Now()
	}
	most := max(2*t.n.o.Timing.Election, t.n.o.Timing.Election+helloTimeout+transportTimeout)
	if took := time.Since(t.transferring); took > most {
		t.n.fail(fmt.Errorf("cannot go on as leader: raft has been stuck in a leadership transfer for %s; start the process again", took.Round(time.Millisecond)))
	}
}
