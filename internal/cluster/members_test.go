package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/watchover-ha/watchover/pkg/failover"
)

var orders atomic.Uint64

// another names a watcher that the first start did not have, with a port of its own.
func (r *rig) another(name string) Peer {
	r.t.Helper()
	ln, err := net.Listen("tcp", ownLoopback()+":0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.first[name] = ln
	r.added[name] = Peer{Name: name, Address: ln.Addr().String(), DNS: []string{"127.0.0.1"}}
	return r.added[name]
}

// order proposes a command that must be accepted, whoever leads by then: on a loaded machine leadership moves by itself.
func (r *rig) order(c failover.Command) {
	r.t.Helper()
	c.ID = fmt.Sprint("order ", orders.Add(1))
	result, err := r.leader().Propose(seconds(r.t, 10), c)
	for tries := 1; tries < 5 && (errors.Is(err, ErrNoLeader) || errors.Is(err, ErrUnknown)); tries++ {
		result, err = r.leader().Propose(seconds(r.t, 10), c)
	}
	if err != nil || !result.Accepted {
		r.t.Fatalf("%+v: %+v, %v", c, result, err)
	}
}

func (r *rig) add(p Peer) {
	r.t.Helper()
	r.order(failover.Command{AddMember: &failover.AddMember{Name: p.Name, Address: p.Address, DNS: p.DNS}})
}

func (r *rig) remove(name string) {
	r.t.Helper()
	r.order(failover.Command{RemoveMember: &failover.MemberOrder{Name: name}})
}

// settled waits until everybody that lives knows that no change is under way and that so many watchers count.
func (r *rig) settled(voters int) {
	r.t.Helper()
	until(r.t, "the change is complete", func() bool {
		for _, n := range r.living() {
			if s := n.State(); s.Change != nil || s.Voters() != voters {
				return false
			}
		}
		return len(configurationOf(r.leader())) == voters
	})
}

// handTo has leadership handed to a watcher; on a busy machine the leader may just not have heard it.
func (r *rig) handTo(name string) {
	r.t.Helper()
	until(r.t, name+" leads", func() bool {
		for _, n := range r.living() {
			if n.Status().Leads && n.Name() == name {
				return true
			}
		}
		_ = r.runs[name].Transfer(seconds(r.t, 10), name)
		return false
	})
}

func configurationOf(n *run) map[string]raft.Server {
	servers := map[string]raft.Server{}
	for _, s := range n.raft.Load().GetConfiguration().Configuration().Servers {
		servers[string(s.ID)] = s
	}
	return servers
}

// gone waits until a watcher has ended with a reason.
func gone(t *testing.T, n *run, why string) {
	t.Helper()
	until(t, n.Name()+" ends", func() bool {
		select {
		case <-n.done:
			return true
		default:
			return false
		}
	})
	if n.err == nil || !strings.Contains(n.err.Error(), why) {
		t.Fatalf("%s ended with %v, want something with %q", n.Name(), n.err, why)
	}
	n.err = context.Canceled // as the test wanted it
}

func TestAddedWatcherCatchesUpBeforeItCounts(t *testing.T) {
	r := newRig(t, 3, nil)
	leader := r.up()
	p := r.another("w4")
	r.start("w4")
	waitsFor(t, r.runs["w4"], "members add w4 "+p.Address)
	if r.runs["w4"].raft.Load() != nil {
		t.Fatal("raft runs on a watcher that nobody has added")
	}
	r.quit(r.runs["w4"])
	r.add(p)
	until(t, "the leader says what it waits for", func() bool { return strings.Contains(leader.Status().MembersWait, "w4 has not been started yet") })
	if s := leader.State(); s.Voters() != 3 || len(configurationOf(leader)) != 3 {
		t.Fatalf("it counts before it was started: %d voters", s.Voters())
	}
	r.start("w4")
	r.settled(4)
	w4 := r.runs["w4"]
	until(t, "w4 is heard", func() bool { return leader.State().IsFresh("w4") })
	if w4.identity().Stage != stageStarted || leader.State().Member("w4").Node != w4.identity().Node {
		t.Errorf("identity %+v, member %+v", w4.identity(), leader.State().Member("w4"))
	}
	if _, err := w4.Propose(seconds(t, 10), pauseCommand("", "by w4", 0)); err != nil {
		t.Fatal(err)
	}
	// It is a full watcher: with it, one of the first three can be lost and the next leader goes on.
	r.kill(leader)
	if _, err := w4.Propose(seconds(t, 15), pauseCommand("", "without "+leader.Name(), 0)); err != nil {
		t.Fatal(err)
	}
	r.quit(w4)
	r.start("w4")
	until(t, "w4 is back", func() bool { return pauseReason(r.runs["w4"]) == "without "+leader.Name() })
}

// The file of a watcher that was there from the start does not name those that were added; its log does.
func TestRestartedWatcherFindsAddedLeader(t *testing.T) {
	r := newRig(t, 3, func(o *Options) { o.Timing = LAN })
	r.up()
	r.add(r.another("w4"))
	r.start("w4")
	r.settled(4)
	r.handTo("w4")
	r.quit(r.runs["w2"])
	r.order(pauseCommand("", "while w2 was away", 0))
	r.start("w2")
	until(t, "w2 follows w4", func() bool { return pauseReason(r.runs["w2"]) == "while w2 was away" })
}

func TestRemovedFollowerEnds(t *testing.T) {
	r := newRig(t, 3, nil)
	r.up()
	follower := r.follower()
	r.remove(follower.Name())
	gone(t, follower, "was removed")
	r.settled(2)
	if _, err := Open(r.options(follower.Name())); err == nil || !strings.Contains(err.Error(), "takes part no more") || !strings.Contains(err.Error(), "members add") {
		t.Errorf("opened again: %v", err)
	}
	r.order(pauseCommand("", "two are left", 0))
}

func TestRemovedLeaderHandsOverFirst(t *testing.T) {
	r := newRig(t, 3, nil)
	leader := r.up()
	r.remove(leader.Name())
	gone(t, leader, "was removed")
	r.settled(2)
	if next := r.leader(); next == leader {
		t.Error("the removed one still leads")
	}
}

func TestRemovalDownToOne(t *testing.T) {
	r := newRig(t, 2, nil)
	leader := r.up()
	follower := r.follower()
	r.remove(follower.Name())
	gone(t, follower, "was removed")
	r.settled(1)
	r.order(pauseCommand("", "alone", 0))
	if r.leader() != leader {
		t.Error("the last watcher does not lead")
	}
}

// One that was removed while it was down does not disturb anybody when it comes back, and ends with a reason.
func TestRemovedWhileDown(t *testing.T) {
	r := newRig(t, 3, nil)
	leader := r.up()
	follower := r.follower()
	r.kill(follower)
	until(t, "it is not heard", func() bool { return !leader.State().IsFresh(follower.Name()) })
	r.remove(follower.Name())
	r.settled(2)
	term := leader.raft.Load().CurrentTerm()
	r.start(follower.Name())
	gone(t, r.runs[follower.Name()], "was removed")
	if r.leader() != leader || leader.raft.Load().CurrentTerm() != term {
		t.Error("it disturbed the others")
	}
	if _, err := Open(r.options(follower.Name())); err == nil {
		t.Error("its directory can be opened again")
	}
}

// A leader is killed after the state has changed and before raft's configuration has: the next one goes on.
func TestLeaderKilledHalfway(t *testing.T) {
	for _, kind := range []string{"add", "remove"} {
		t.Run(kind, func(t *testing.T) {
			r := newRig(t, 5, nil)
			leader := r.up()
			leader.o.haltMembers.Store(true)
			want := 6
			if kind == "add" {
				r.add(r.another("w6"))
				r.start("w6")
				until(t, "w6 is bound", func() bool { return leader.State().Member("w6").Node != "" })
			} else {
				want = 4
				r.remove(r.follower().Name())
			}
			if n := len(configurationOf(leader)); n != 5 {
				t.Fatalf("raft has %d servers already", n)
			}
			r.kill(leader)
			r.settled(want)
			if kind == "remove" {
				for name, n := range r.runs {
					if leader.State().Member(name) == nil {
						gone(t, n, "was removed")
					}
				}
			}
		})
	}
}

// A wiped watcher is let in again once its old directory was removed, under the same name.
func TestWipedWatcherIsReplaced(t *testing.T) {
	r := newRig(t, 3, nil)
	r.up()
	follower := r.follower()
	name := follower.Name()
	r.kill(follower)
	if err := os.Rename(follower.o.DataDir, follower.o.DataDir+".lost"); err != nil {
		t.Fatal(err)
	}
	r.start(name)
	wiped := r.runs[name]
	waitsFor(t, wiped, "members remove "+name)
	r.remove(name)
	waitsFor(t, wiped, "members add "+name+" "+ownLoopback())
	until(t, "the removal is complete", func() bool { return r.leader().State().Change == nil })
	var p Peer
	for _, peer := range r.peers {
		if peer.Name == name {
			p = peer
		}
	}
	p.DNS = []string{"127.0.0.1"}
	r.add(p)
	r.settled(3)
	until(t, "it is heard", func() bool { return r.leader().State().IsFresh(name) })
	// The lost directory turns up again.
	r.quit(wiped)
	if err := os.Rename(follower.o.DataDir, follower.o.DataDir+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(follower.o.DataDir+".lost", follower.o.DataDir); err != nil {
		t.Fatal(err)
	}
	r.start(name)
	gone(t, r.runs[name], "was removed")
}

// Two empty directories want to be the same new watcher: the first one is, the other is told so.
func TestSecondEmptyDirectoryIsRefused(t *testing.T) {
	r := newRig(t, 3, nil)
	r.up()
	p := r.another("w4")
	r.add(p)
	r.start("w4")
	r.settled(4)
	r.quit(r.runs["w4"])
	r.each = func(o *Options) {
		if o.Name == "w4" {
			o.DataDir = filepath.Join(r.base, "second")
		}
	}
	r.start("w4")
	waitsFor(t, r.runs["w4"], "another data directory")
	if r.runs["w4"].raft.Load() != nil {
		t.Error("raft runs on it")
	}
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// A copy that runs beside its original, at another address, is found out by whoever it calls, and stays so.
func TestCopyBesideItsOriginal(t *testing.T) {
	r := newRig(t, 3, slow)
	leader := r.up()
	follower := r.follower()
	r.quit(follower)
	copyDir(t, follower.o.DataDir, filepath.Join(r.base, "copy"))
	r.start(follower.Name())
	original := r.runs[follower.Name()]
	until(t, "the original is back", func() bool {
		m := leader.State().Member(original.Name())
		return m.About.Life == original.dir.word && leader.State().IsFresh(original.Name())
	})
	o := r.options(follower.Name())
	o.DataDir, o.Listen = filepath.Join(r.base, "copy"), "127.0.0.1:0"
	n, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	second := &run{Node: n, stop: func() {}, done: make(chan struct{})}
	go func() {
		second.err = n.Run(context.Background())
		close(second.done)
	}()
	gone(t, second, "runs already with another copy of")
	if _, err := Open(o); err == nil || !strings.Contains(err.Error(), "takes part no more") {
		t.Errorf("the copy can be opened again: %v", err)
	}
	if r.leader() != leader {
		t.Error("the leader was disturbed")
	}
	until(t, "the original is heard", func() bool { return leader.State().IsFresh(original.Name()) })
}

// An old copy is started where its original was: it has forgotten what that voted and wrote.
func TestOldCopyInPlaceOfItsOriginal(t *testing.T) {
	r := newRig(t, 3, nil)
	leader := r.up()
	follower := r.follower()
	name := follower.Name()
	r.quit(follower)
	copyDir(t, follower.o.DataDir, filepath.Join(r.base, "copy"))
	r.start(name)
	original := r.runs[name]
	until(t, "the original is back", func() bool { return leader.State().Member(name).About.Life == original.dir.word })
	r.quit(original)
	r.each = func(o *Options) {
		if o.Name == name {
			o.DataDir = filepath.Join(r.base, "copy")
		}
	}
	r.start(name) // with the same number of starts as the original
	gone(t, r.runs[name], "old copy")
}

// A watcher whose address has moved is reached there, and its vote counts there.
func TestMovedAddress(t *testing.T) {
	r := newRig(t, 3, nil)
	leader := r.up()
	follower := r.follower()
	name := follower.Name()
	r.quit(follower)
	p := r.another("elsewhere")
	r.first[name] = r.first["elsewhere"]
	delete(r.first, "elsewhere")
	delete(r.added, "elsewhere")
	r.each = func(o *Options) {
		if o.Name == name {
			o.Listen = p.Address
			o.Peers = append([]Peer(nil), o.Peers...)
			for i := range o.Peers {
				if o.Peers[i].Name == name {
					o.Peers[i].Address = p.Address
				}
			}
		}
	}
	r.start(name)
	waitsFor(t, r.runs[name], "looks for this watcher at "+follower.o.Listen)
	r.add(Peer{Name: name, Address: p.Address})
	r.settled(3)
	until(t, "it is heard from its new address", func() bool { return leader.State().IsFresh(name) })
	until(t, "nothing is waited for", func() bool { return r.runs[name].Status().Waiting == "" })
	if got := configurationOf(leader)[name].Address; string(got) != p.Address {
		t.Errorf("raft reaches it at %s, it is at %s", got, p.Address)
	}
	r.kill(leader)
	r.order(pauseCommand("", "with the moved one's vote", 0))
}

// The directory of a watcher of the same name in another cluster of the same name.
func TestForeignDirectory(t *testing.T) {
	r := newRig(t, 3, slow)
	r.up()
	for _, n := range r.living() {
		until(t, "the directory knows its cluster", func() bool { return n.identity().Lineage.ClusterID != "" })
		r.quit(n)
	}
	foreign := r.base
	r.base = t.TempDir()
	leader := r.up() // another cluster at the same addresses
	follower := r.follower()
	name := follower.Name()
	r.quit(follower)
	until(t, "it is not heard", func() bool { return !leader.State().IsFresh(name) })
	term := leader.raft.Load().CurrentTerm()
	r.each = func(o *Options) {
		slow(o)
		if o.Name == name {
			o.DataDir = filepath.Join(foreign, name)
		}
	}
	r.start(name)
	waitsFor(t, r.runs[name], "belongs to another cluster that is also called")
	if r.leader() != leader || leader.State().IsFresh(name) || leader.raft.Load().CurrentTerm() != term || r.runs[name].State().ClusterID == leader.State().ClusterID {
		t.Error("it takes part")
	}
}

func TestMovedLeaderHandsOverFirst(t *testing.T) {
	r := newRig(t, 3, nil)
	leader := r.up()
	r.add(Peer{Name: leader.Name(), Address: "127.0.0.1:1"})
	until(t, "another one leads", func() bool { return r.leader() != leader })
}

func TestTransfer(t *testing.T) {
	r := newRig(t, 3, func(o *Options) { o.Timing = LAN }) // a transfer that is too slow uses up the term's only one
	leader := r.up()
	var to *run
	for _, n := range r.living() {
		if n != leader {
			to = n
		}
	}
	r.handTo(to.Name()) // asked for at the one that does not lead
	if err := to.Transfer(seconds(t, 10), to.Name()); err != nil {
		t.Errorf("to the one that leads: %v", err)
	}
	if err := to.Transfer(seconds(t, 10), "w9"); err == nil {
		t.Error("to nobody")
	}
}

func TestNextStep(t *testing.T) {
	state := func(members ...failover.Member) *failover.State {
		s := failover.NewState()
		s.Cluster, s.Members = "prod", members
		return s
	}
	member := func(name, address, node string, joining bool) failover.Member {
		return failover.Member{Name: name, Address: address, Node: node, Joining: joining}
	}
	config := func(servers ...raft.Server) raft.Configuration { return raft.Configuration{Servers: servers} }
	server := func(name, address string, s raft.ServerSuffrage) raft.Server {
		return raft.Server{ID: raft.ServerID(name), Address: raft.ServerAddress(address), Suffrage: s}
	}
	w1, s1 := member("w1", "a:1", "d1", false), server("w1", "a:1", raft.Voter)
	moving := state(w1)
	moving.Change = &failover.MemberChange{Index: 7, Kind: failover.ChangeMove, Name: "w1"}
	adding := state(w1, member("w2", "b:1", "d2", false))
	adding.Change = &failover.MemberChange{Index: 7, Kind: failover.ChangeAdd, Name: "w2"}
	for _, c := range []struct {
		name   string
		state  *failover.State
		config raft.Configuration
		behind uint64
		silent bool
		want   stepKind
		why    string
	}{
		{name: "nothing to do", state: state(w1), config: config(s1), want: stepNone},
		{name: "not started", state: state(w1, member("w2", "b:1", "", true)), config: config(s1), want: stepWait, why: "not been started"},
		{name: "started", state: state(w1, member("w2", "b:1", "d2", true)), config: config(s1), want: stepAddNonvoter},
		{name: "not heard", state: state(w1, member("w2", "b:1", "d2", true)), config: config(s1, server("w2", "b:1", raft.Nonvoter)), silent: true, want: stepWait, why: "not heard"},
		{name: "far behind", state: state(w1, member("w2", "b:1", "d2", true)), config: config(s1, server("w2", "b:1", raft.Nonvoter)), behind: caughtUp + 1, want: stepWait, why: "33 entries to go"},
		{name: "caught up", state: state(w1, member("w2", "b:1", "d2", true)), config: config(s1, server("w2", "b:1", raft.Nonvoter)), behind: caughtUp, want: stepAddVoter},
		{name: "votes", state: state(w1, member("w2", "b:1", "d2", true)), config: config(s1, server("w2", "b:1", raft.Voter)), want: stepAdmit},
		{name: "put right while it joins", state: state(w1, member("w2", "c:1", "d2", true)), config: config(s1, server("w2", "b:1", raft.Nonvoter)), want: stepMove},
		{name: "moved", state: state(w1, member("w2", "c:1", "d2", false)), config: config(s1, server("w2", "b:1", raft.Voter)), want: stepMove},
		{name: "removed", state: state(w1), config: config(s1, server("w2", "b:1", raft.Voter)), want: stepRemove},
		{name: "lost by raft", state: state(w1, member("w2", "b:1", "d2", false)), config: config(s1), want: stepWait, why: "raft does not know it"},
		{name: "followed", state: moving, config: config(s1), want: stepSettle},
		{name: "an addition ends with its admission", state: adding, config: config(s1, server("w2", "b:1", raft.Voter)), want: stepNone},
	} {
		step := nextStep(c.state, c.config, func(string) (uint64, bool) { return c.behind, !c.silent })
		if step.kind != c.want || !strings.Contains(step.why, c.why) {
			t.Errorf("%s: step %d, %q; want %d, %q", c.name, step.kind, step.why, c.want, c.why)
		}
	}
}

// A leader that is removed, or whose address has moved, hands over before it touches raft's configuration.
func TestOwnStepHandsOverFirst(t *testing.T) {
	for _, kind := range []stepKind{stepRemove, stepMove} {
		tm := bareTerm(t)
		tm.give = make(chan handover, 1)
		tm.heard["w2"] = &hearing{at: time.Now()}
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		_ = tm.perform(ended, memberStep{kind: kind, peer: Peer{Name: tm.n.o.Name}})
		select {
		case h := <-tm.give:
			if h.reason == "" {
				t.Error("no reason is given")
			}
		default:
			t.Errorf("step %d: leadership is not handed over", kind)
		}
	}
}
