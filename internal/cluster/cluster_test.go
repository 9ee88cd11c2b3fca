package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

func TestClusterBeginsAndAgrees(t *testing.T) {
	r := newRig(t, 3, nil)
	leader := r.up()
	s := leader.State()
	if s.ClusterID == "" || len(s.Members) != 3 || s.Policy == nil || s.Members[0].Address != r.peers[0].Address {
		t.Fatalf("the first entry is incomplete: %+v", s)
	}
	until(t, "versions of all", leader.knowsVersions)
	for i, n := range r.living() {
		reason := fmt.Sprintf("by %s", n.Name())
		result, err := n.Propose(seconds(t, 10), pauseCommand("", reason, 0))
		if err != nil || !result.Accepted {
			t.Fatalf("proposal %d through %s: %+v, %v", i, n.Name(), result, err)
		}
		if pauseReason(n) != reason {
			t.Errorf("%s does not show what it has just had committed", n.Name())
		}
	}
	until(t, "equal states", func() bool {
		all := r.living()
		return all[0].State().Hash() == all[1].State().Hash() && all[1].State().Hash() == all[2].State().Hash()
	})
	st := leader.Status()
	if st.Leader != leader.Name() || !st.HasQuorum || st.Term == 0 || st.CommitIndex == 0 || len(st.Peers) != 3 {
		t.Errorf("status: %+v", st)
	}
	for _, p := range st.Peers {
		if p.Silent || p.Version != "1.2.3" || p.Applied == 0 {
			t.Errorf("peer: %+v", p)
		}
	}
}

func TestIdleClusterWritesNothing(t *testing.T) {
	// Real timing: on a busy machine the tests' own makes watchers silent for a moment, which is an entry.
	r := newRig(t, 3, func(o *Options) { o.Timing = LAN })
	leader := r.up()
	leader.say(failover.VerdictUp)
	until(t, "versions of all", leader.knowsVersions)
	until(t, "the verdict", func() bool { return verdictOf(leader, leader.Name()) == failover.VerdictUp })
	var index uint64
	until(t, "no more entries of the start", func() bool {
		now := leader.raft.Load().LastIndex()
		same := now == index
		index = now
		<-time.After(300 * time.Millisecond)
		return same
	})
	<-time.After(2 * time.Second) // the absence of entries is the condition
	if now := leader.raft.Load().LastIndex(); now != index {
		t.Errorf("the log grew from %d to %d, term %d, fresh %v", index, now, leader.State().Term, leader.State().Fresh)
	}
}

func TestTakeover(t *testing.T) {
	r := newRig(t, 3, nil)
	leader := r.up()
	if _, err := leader.Propose(seconds(t, 10), pauseCommand("", "before", 0)); err != nil {
		t.Fatal(err)
	}
	follower := r.follower()
	r.kill(leader)
	result, err := follower.Propose(seconds(t, 15), pauseCommand("one", "after", 0))
	if err != nil || !result.Accepted {
		t.Fatalf("after the leader's death: %+v, %v", result, err)
	}
	next := r.leader()
	if next.State().Term <= leader.State().Term {
		t.Errorf("term %d is not above %d", next.State().Term, leader.State().Term)
	}
	until(t, "the dead one is silent", func() bool { return len(next.State().Fresh) == 2 })
	for _, p := range next.Status().Peers {
		if p.Silent != (p.Name == leader.Name()) {
			t.Errorf("peer: %+v", p)
		}
	}
	r.start(leader.Name())
	back := r.runs[leader.Name()]
	until(t, "the dead one is back", func() bool { return pauseReason(back) == "after" && len(next.State().Fresh) == 3 })
}

func TestStopHandsOver(t *testing.T) {
	var mu sync.Mutex
	led := map[string]int{}
	r := newRig(t, 3, func(o *Options) {
		slow(o)
		o.Lead = func(ctx context.Context, l Leadership) {
			<-ctx.Done()
			// Handing over, the term is still ours: the last outcome can be journaled.
			_, err := l.Propose(context.Background(), pauseCommand("", "last words of "+o.Name, 0))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				led[o.Name]++
			}
		}
	})
	leader := r.up()
	start := time.Now()
	r.quit(leader)
	if leader.err != nil {
		t.Fatalf("stop: %v", leader.err)
	}
	next := r.leader()
	// An election needs a whole heartbeat timeout without a leader first; a hand-over does not.
	t.Logf("stopped and handed over in %s", time.Since(start))
	mu.Lock()
	if led[leader.Name()] != 1 {
		t.Error("the leader could not journal its last outcome")
	}
	mu.Unlock()
	if got := pauseReason(next); got != "last words of "+leader.Name() {
		t.Errorf("the successor's state says %q", got)
	}
}

func TestGiveWay(t *testing.T) {
	var asked sync.Once
	r := newRig(t, 3, func(o *Options) {
		o.Lead = func(ctx context.Context, l Leadership) {
			asked.Do(func() { l.GiveWay("this watcher cannot reach the target") })
			<-ctx.Done()
		}
	})
	r.start(r.names()...)
	first := uint64(0)
	until(t, "a second term", func() bool {
		for _, n := range r.living() {
			if st := n.Status(); st.Leads && first == 0 {
				first = st.Term
			} else if st.Leads && st.Term > first {
				return true
			}
		}
		return false
	})
}

func TestDuplicateIsAppliedOnce(t *testing.T) {
	r := newRig(t, 3, nil)
	leader, follower := r.up(), r.follower()
	a, err := leader.Propose(seconds(t, 10), pauseCommand("same", "first", 0))
	if err != nil {
		t.Fatal(err)
	}
	b, err := follower.Propose(seconds(t, 10), pauseCommand("same", "second", 0))
	if err != nil {
		t.Fatal(err)
	}
	if a.Index != b.Index || pauseReason(leader) != "first" {
		t.Errorf("applied twice: %+v, %+v, reason %q", a, b, pauseReason(leader))
	}
}

func TestCommandOfAnotherTermIsNotDone(t *testing.T) {
	r := newRig(t, 3, nil)
	leader := r.up()
	// A leader that lost and regained leadership between filling a command in and logging it.
	late := leader.term.Load()
	stale := &term{n: late.n, number: late.number - 1, ctx: late.ctx, heard: map[string]*hearing{}, slots: make(chan struct{}, 1)}
	_, err := stale.proposeAsync(pauseCommand("", "stale", 0))(seconds(t, 10))
	if !errors.Is(err, ErrNoLeader) {
		t.Errorf("got %v, want ErrNoLeader", err)
	}
	if pauseReason(leader) != "" {
		t.Error("the command was done")
	}
}

func TestNoLeader(t *testing.T) {
	r := newRig(t, 3, nil)
	leader := r.up()
	var rest []*run
	for _, n := range r.living() {
		if n != leader {
			rest = append(rest, n)
		}
	}
	r.kill(rest[0])
	r.kill(leader)
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	_, err := rest[1].Propose(ctx, pauseCommand("id", "alone", 0))
	if !errors.Is(err, ErrNoLeader) && !errors.Is(err, ErrUnknown) {
		t.Errorf("got %v", err)
	}
	if _, err := rest[1].ProposeAsync(pauseCommand("", "", 0))(ctx); !errors.Is(err, ErrNoLeader) {
		t.Errorf("got %v, want ErrNoLeader", err)
	}
	until(t, "isolation", func() bool {
		isolated, since := rest[1].Isolation()
		return isolated && since > 2*testTiming.Heartbeat
	})
	if rest[1].Status().HasQuorum {
		t.Error("a lonely watcher claims a quorum")
	}
}

func TestLonelyLeaderIsIsolated(t *testing.T) {
	r := newRig(t, 3, nil)
	leader := r.up()
	if isolated, since := leader.Isolation(); isolated {
		t.Fatalf("isolated for %s at the start", since)
	}
	for _, n := range r.living() {
		if n != leader {
			r.kill(n)
		}
	}
	until(t, "isolation", func() bool { isolated, _ := leader.Isolation(); return isolated })
}

func TestTooLargeCommandIsRefused(t *testing.T) {
	r := newRig(t, 1, nil)
	n := r.up()
	_, err := n.Propose(seconds(t, 5), pauseCommand("", strings.Repeat("x", failover.MaxCommand), 0))
	if err == nil || errors.Is(err, ErrUnknown) || errors.Is(err, ErrNoLeader) {
		t.Errorf("got %v", err)
	}
}

func TestReportsReachTheState(t *testing.T) {
	r := newRig(t, 3, nil)
	leader, follower := r.up(), r.follower()
	follower.say(failover.VerdictUp)
	leader.say(failover.VerdictUp)
	until(t, "both verdicts", func() bool {
		return verdictOf(leader, follower.Name()) == failover.VerdictUp && verdictOf(follower, leader.Name()) == failover.VerdictUp
	})
	first := *leader.State().Groups["shop"].Apps["main"].Reports[follower.Name()]
	index := leader.State().Index
	follower.say(failover.VerdictUp) // no change, no entry
	follower.say(failover.VerdictDown)
	until(t, "the change", func() bool { return verdictOf(leader, follower.Name()) == failover.VerdictDown })
	second := leader.State().Groups["shop"].Apps["main"].Reports[follower.Name()]
	if second.Seq <= first.Seq || second.Boot != first.Boot || second.Watcher != follower.Name() {
		t.Errorf("numbers: %+v after %+v", second, first)
	}
	if got := leader.State().Index; got > index+1 {
		t.Errorf("one change took %d entries", got-index)
	}
}

func TestReportsOutliveTheLeader(t *testing.T) {
	r := newRig(t, 3, nil)
	leader, follower := r.up(), r.follower()
	r.kill(leader)
	follower.say(failover.VerdictDown) // nobody leads now
	next := r.leader()
	until(t, "the verdict", func() bool { return verdictOf(next, follower.Name()) == failover.VerdictDown })
	boot := next.State().Groups["shop"].Apps["main"].Reports[follower.Name()].Boot
	r.kill(follower)
	r.start(follower.Name(), leader.Name())
	back := r.runs[follower.Name()]
	until(t, "the state", func() bool { return back.State().Groups["shop"] != nil && back.Status().Leader != "" })
	back.say(failover.VerdictUp)
	until(t, "the newer boot's verdict", func() bool { return verdictOf(back, back.Name()) == failover.VerdictUp })
	if got := back.State().Groups["shop"].Apps["main"].Reports[back.Name()]; got.Boot <= boot {
		t.Errorf("boot %d is not above %d", got.Boot, boot)
	}
}

func TestOverdueWatcherDoesNotCount(t *testing.T) {
	var overdue switchable
	r := newRig(t, 3, func(o *Options) {
		if o.Name == "w1" {
			o.Overdue = overdue.duration
		}
	})
	r.up()
	overdue.v.Store(int64(time.Minute))
	any := r.runs["w2"]
	until(t, "w1 is not fresh", func() bool { return !any.State().IsFresh("w1") && len(any.State().Fresh) == 2 })
	overdue.v.Store(0)
	until(t, "w1 is fresh again", func() bool { return any.State().IsFresh("w1") })
}

func TestTimerAcrossLeaders(t *testing.T) {
	r := newRig(t, 3, nil)
	leader := r.up()
	if _, err := leader.Propose(seconds(t, 10), pauseCommand("", "short", 700*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	r.kill(leader)
	next := r.leader()
	took := time.Now()
	until(t, "the pause's end", func() bool { return next.State().Groups["shop"].Pause == nil })
	if early := time.Since(start); early < 700*time.Millisecond {
		t.Errorf("the pause ended after %s", early)
	}
	if counted := time.Since(took); counted > 5*time.Second {
		t.Errorf("the new leader took %s", counted)
	}
}

func TestFirstFailurePokesTheOthers(t *testing.T) {
	poked := make(chan string, 100)
	r := newRig(t, 3, func(o *Options) {
		o.OnPoke = func(group, app string) { poked <- o.Name + " " + group + "/" + app }
	})
	r.up()
	follower := r.follower()
	for range 5 { // four of them within 100 ms are too many
		follower.FirstFailure("shop", "main")
	}
	got := map[string]int{}
	for range 2 {
		select {
		case p := <-poked:
			got[p]++
		case <-time.After(5 * time.Second):
			t.Fatalf("poked only %v", got)
		}
	}
	select {
	case p := <-poked:
		t.Errorf("poked once more: %s after %v", p, got)
	case <-time.After(50 * time.Millisecond):
	}
	if got[follower.Name()+" shop/main"] != 0 || len(got) != 2 {
		t.Errorf("poked %v", got)
	}
}

func TestWatchMissesNothing(t *testing.T) {
	n := &Node{}
	n.setState(failover.NewState())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := uint64(1); i <= 10000; i++ {
			n.setState(&failover.State{Index: i})
		}
	}()
	for {
		next := n.Watch()
		if n.State().Index == 10000 {
			break
		}
		<-next
	}
	<-done
}
