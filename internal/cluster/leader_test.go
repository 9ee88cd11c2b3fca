package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// bareTerm is a term without raft, for what needs none.
func bareTerm(t *testing.T) *term {
	n := &Node{
		o: Options{Name: "w1", Timing: LAN, Peers: []Peer{{Name: "w1"}, {Name: "w2"}, {Name: "w3"}}}, log: zerolog.Nop(),
		opened: time.Now(), fatal: make(chan error, 1), limit: newLimiter(time.Hour),
	}
	n.setState(failover.NewState())
	ctx, end := context.WithCancel(context.Background())
	t.Cleanup(end)
	return &term{n: n, number: 3, ctx: ctx, end: end, heard: map[string]*hearing{}, change: make(chan struct{}, 1), slots: make(chan struct{}, 1)}
}

func TestWhoCounts(t *testing.T) {
	now := time.Now()
	ago := func(d time.Duration) *hearing { return &hearing{at: now.Add(-d), counted: now.Add(-d)} }
	late := ago(0)
	late.overdue = LAN.overdueLimit()
	unproposed := &hearing{at: now}
	for _, c := range []struct {
		name  string
		heard map[string]*hearing
		want  []string
	}{
		{"nobody", nil, []string{}},
		{"sorted", map[string]*hearing{"w3": ago(0), "w1": ago(time.Second), "w2": ago(0)}, []string{"w1", "w2", "w3"}},
		{"frozen", map[string]*hearing{"w1": ago(0), "w2": ago(LAN.freshFor())}, []string{"w1"}},
		{"probes overdue", map[string]*hearing{"w1": late, "w2": ago(0)}, []string{"w2"}},
		{"news not proposed", map[string]*hearing{"w1": unproposed, "w2": ago(0)}, []string{"w2"}},
	} {
		tm := bareTerm(t)
		tm.heard = c.heard
		if got := tm.fresh(now); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestTimingOfFreshness(t *testing.T) {
	// A heartbeat that is lost must not make a watcher silent, a frozen one must be noticed soon.
	if got := LAN.freshFor(); got < 1500*time.Millisecond || got > 3*time.Second || got < 3*LAN.interval() {
		t.Errorf("fresh for %s", got)
	}
}

func TestNewsIsProposedOnce(t *testing.T) {
	tm := bareTerm(t)
	tm.heard["w2"] = &hearing{proposed: map[reportKey]ordinal{}, counted: time.Now()}
	b := beat{Reports: []failover.Report{{Group: "shop", App: "main", Watcher: "someone else", Boot: 1, Seq: 2}}, About: &failover.About{Boot: 1, Seq: 1}}
	news, ok := tm.news("w2", b)
	if !ok || len(news.Reports) != 1 || news.Reports[0].Watcher != "w2" || len(news.About) != 1 {
		t.Fatalf("first: %+v, %v", news, ok)
	}
	if again, ok := tm.news("w2", b); !ok || len(again.Reports)+len(again.About) != 0 {
		t.Errorf("again: %+v, %v", again, ok)
	}
	tm.forget("w2", news)
	if len(tm.fresh(time.Now())) != 0 {
		t.Error("counted although its news did not reach the log")
	}
	if lost, _ := tm.news("w2", b); len(lost.Reports) != 1 || len(lost.About) != 1 {
		t.Errorf("after a loss: %+v", lost)
	}
	tm.heard["w2"].unproven = maxUnproven
	if _, ok := tm.news("w2", b); ok {
		t.Error("too many on their way")
	}
	tm.admit("w2", b)
	if len(tm.fresh(time.Now())) != 0 {
		t.Error("counted before its news was proposed")
	}
}

func TestNewsTheStateShowsIsNotProposed(t *testing.T) {
	tm := bareTerm(t)
	s := failover.NewState()
	s.Cluster, s.Members = "prod", []failover.Member{{Name: "w2", About: failover.About{Boot: 2, Seq: 5}}}
	s.Groups["shop"] = &failover.GroupState{Apps: map[string]*failover.AppState{"main": {Reports: map[string]*failover.Report{"w2": {Boot: 2, Seq: 4}}}}}
	tm.n.setState(s)
	for _, c := range []struct {
		boot, seq uint64
		reports   int
		abouts    int
	}{{1, 99, 0, 0}, {2, 3, 0, 0}, {2, 4, 0, 0}, {2, 5, 1, 0}, {2, 6, 1, 1}, {3, 1, 1, 1}} {
		tm.heard["w2"] = &hearing{proposed: map[reportKey]ordinal{}}
		news, _ := tm.news("w2", beat{
			Reports: []failover.Report{{Group: "shop", App: "main", Boot: c.boot, Seq: c.seq}},
			About:   &failover.About{Boot: c.boot, Seq: c.seq},
		})
		if len(news.Reports) != c.reports || len(news.About) != c.abouts {
			t.Errorf("boot %d seq %d: %+v", c.boot, c.seq, news)
		}
	}
}

func TestReasonsToGiveWay(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name, want string
		change     func(d *duties)
	}{
		{"all is well", "", func(*duties) {}},
		{"clock set back", "clock was moved by -6s", func(d *duties) { d.wall = d.wall.Add(6 * time.Second) }},
		{"clock set forward", "clock was moved by 6s", func(d *duties) { d.wall = d.wall.Add(-6 * time.Second) }},
		{"clock drifts a little", "", func(d *duties) { d.wall = d.wall.Add(4 * time.Second) }},
		{"alone", "fewer than a majority", func(d *duties) {
			delete(d.t.heard, "w2")
			d.quorum = now.Add(-11 * time.Second)
		}},
		{"alone for a moment", "", func(d *duties) {
			delete(d.t.heard, "w2")
			d.quorum = now.Add(-9 * time.Second)
		}},
	} {
		tm := bareTerm(t)
		for _, name := range []string{"w1", "w2"} {
			tm.heard[name] = &hearing{at: now, counted: now}
		}
		tm.end() // so that nothing is proposed to the raft that is not there
		d := newDuties(tm)
		c.change(d)
		if got := d.perform(time.Now()); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestSuccessor(t *testing.T) {
	now := time.Now()
	tm := bareTerm(t)
	if _, ok := tm.successor(now); ok {
		t.Error("found one among nobody")
	}
	tm.heard = map[string]*hearing{"w1": {at: now, applied: 9}, "w2": {at: now.Add(-3 * time.Second), applied: 9}}
	if p, ok := tm.successor(now); ok {
		t.Errorf("%s was not heard lately", p.Name)
	}
	tm.heard["w2"].at = now.Add(-100 * time.Millisecond)
	tm.heard["w3"] = &hearing{at: now, applied: 8}
	if p, _ := tm.successor(now); p.Name != "w2" {
		t.Errorf("%s, though w2 has applied more", p.Name)
	}
}

func TestStuckTransferEndsTheProcess(t *testing.T) {
	tm := bareTerm(t)
	tm.noteTransferring()
	select {
	case err := <-tm.n.fatal:
		t.Fatalf("too early: %v", err)
	default:
	}
	// Raft refuses commands until its request to a watcher that froze just now has run out.
	tm.transferring = time.Now().Add(-LAN.Election - transportTimeout)
	tm.noteTransferring()
	if len(tm.n.fatal) != 0 {
		t.Fatal("ended although the transfer may still come to an end")
	}
	tm.transferring = time.Now().Add(-10 * LAN.Election)
	tm.noteTransferring()
	select {
	case err := <-tm.n.fatal:
		if !strings.Contains(err.Error(), "leadership transfer") {
			t.Error(err)
		}
	default:
		t.Error("the process goes on")
	}
}

func TestHangingDiskOfALeader(t *testing.T) {
	tm := bareTerm(t)
	n := tm.n
	n.store = newStore(nil)
	n.store.writing[1] = time.Now().Add(-time.Minute)
	looks := 0
	for range 5 {
		looks = n.checkDisk(looks)
	}
	if len(n.store.fault) != 0 {
		t.Error("a follower was made to sit out")
	}
	n.term.Store(tm)
	looks = n.checkDisk(0)
	if len(n.store.fault) != 0 {
		t.Error("one look was enough, but the process may just have been thawed")
	}
	for range 2 {
		looks = n.checkDisk(looks)
	}
	if len(n.store.fault) != 1 {
		t.Error("a leader goes on with a hanging disk")
	}
	clear(n.store.writing)
	if n.checkDisk(looks) != 0 {
		t.Error("a finished write is held against the disk")
	}
}

// Giving way to nobody would only interrupt what the leader does, and use up the one transfer of its term.
func TestLeadershipStaysWhereNobodyCanTakeIt(t *testing.T) {
	tm := bareTerm(t)
	tm.n.limit = newLimiter(time.Hour)
	why := handover{reason: "the clock was moved"}
	if tm.canGiveWay(why) {
		t.Error("gives way to nobody")
	}
	tm.heard["w2"] = &hearing{at: time.Now()}
	if !tm.canGiveWay(why) {
		t.Error("does not give way to w2")
	}
	why.to = []string{"w3"}
	if tm.canGiveWay(why) {
		t.Error("gives way to w2, which is no better")
	}
	tm.heard["w3"] = &hearing{at: time.Now()}
	if to, _ := tm.successor(time.Now(), why.to...); to.Name != "w3" || !tm.canGiveWay(why) {
		t.Errorf("gives way to %q, want w3", to.Name)
	}
	tm.transferred = true
	if tm.canGiveWay(why) {
		t.Error("a second transfer in one term")
	}
}

func TestFullLogRefusesBeforeAnythingIsDone(t *testing.T) {
	tm := bareTerm(t)
	tm.n.o.Timing.Heartbeat = time.Millisecond
	tm.slots <- struct{}{}
	if _, err := tm.enqueue(failover.Command{}, nil); !errors.Is(err, ErrNoLeader) {
		t.Errorf("got %v", err)
	}
}

func TestReportsAreHeldUntilTheStateIsReady(t *testing.T) {
	r := newReports("w1", 7, "1.0")
	s := failover.NewState()
	report := failover.Report{Group: "shop", App: "main", Revision: 5, Verdict: failover.VerdictUp}
	r.set([]failover.Report{report}, failover.About{}, "1.0", s)
	if list, about, held := r.pending(s); len(list) != 0 || about != nil || !held {
		t.Errorf("before the cluster: %v, %v, %v", list, about, held)
	}
	s = failover.NewState()
	s.Cluster, s.Members = "prod", []failover.Member{{Name: "w1"}}
	app := &failover.AppState{Revision: 4, Reports: map[string]*failover.Report{}}
	s.Groups["shop"] = &failover.GroupState{Apps: map[string]*failover.AppState{"main": app}}
	if list, about, held := r.pending(s); len(list) != 0 || about == nil || about.Version != "1.0" || !held {
		t.Errorf("another revision: %v, %v, %v", list, about, held)
	}
	app.Revision = 5
	list, _, held := r.pending(s)
	if len(list) != 1 || held || list[0].Watcher != "w1" || list[0].Boot != 7 || list[0].Seq == 0 {
		t.Fatalf("ready: %+v, %v", list, held)
	}
	app.Reports["w1"] = &list[0]
	if list, _, _ := r.pending(s); len(list) != 0 {
		t.Errorf("shown already: %v", list)
	}
	if changed, _ := r.set([]failover.Report{report}, failover.About{}, "1.0", s); changed {
		t.Error("the same report is no change")
	}
	if changed, _ := r.set(nil, failover.About{Served: 3}, "1.0", s); !changed {
		t.Error("news of itself was lost")
	}
}

func TestReportsAreBounded(t *testing.T) {
	r := newReports("w1", 1, "")
	s := failover.NewState()
	s.Groups["shop"] = &failover.GroupState{Apps: map[string]*failover.AppState{}}
	for i := range maxReports {
		s.Groups["shop"].Apps[fmt.Sprint(i)] = &failover.AppState{}
		r.set([]failover.Report{{Group: "shop", App: fmt.Sprint(i)}}, failover.About{}, "", s)
	}
	if _, dropped := r.set([]failover.Report{{Group: "shop", App: "one more"}}, failover.About{}, "", s); dropped != 1 {
		t.Error("there is no bound")
	}
	delete(s.Groups["shop"].Apps, "17")
	if _, dropped := r.set([]failover.Report{{Group: "shop", App: "one more"}}, failover.About{}, "", s); dropped != 0 {
		t.Error("apps that are gone keep their place")
	}
}

func TestPokesAreBounded(t *testing.T) {
	p, now := newPokes(), time.Now()
	key := pokeKey{failure{"shop", "main"}, false}
	if !p.allow(key, now) || p.allow(key, now.Add(pokeEvery-1)) || !p.allow(key, now.Add(pokeEvery)) {
		t.Error("one app is not kept to its rate")
	}
	for i := range 2 * maxPoked {
		p.allow(pokeKey{failure{"shop", fmt.Sprint(i)}, false}, now)
	}
	if len(p.last) > maxPoked {
		t.Errorf("%d apps are remembered", len(p.last))
	}
	for range 2 * maxPokes {
		p.put(outgoing{})
	}
}

func TestStandingBehind(t *testing.T) {
	r := newRig(t, 1, nil)
	n := r.up()
	if isolated, since := n.Isolation(); isolated {
		t.Fatalf("isolated for %s", since)
	}
	n.behind.Store(&commitMark{index: n.raft.Load().AppliedIndex() + 1, since: time.Now().Add(-time.Minute)})
	if isolated, since := n.Isolation(); !isolated || since < time.Minute {
		t.Errorf("behind: %v, %s", isolated, since)
	}
	if _, err := n.Propose(seconds(t, 5), pauseCommand("", "catches up", 0)); err != nil {
		t.Fatal(err)
	}
	// Raft notes an entry as applied only after it has answered the proposer.
	until(t, "no isolation after catching up", func() bool { isolated, _ := n.Isolation(); return !isolated })
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	r := newRig(t, 1, func(o *Options) { o.Registerer = registry })
	n := r.up()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		got[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
	}
	want := []string{"has_quorum", "is_leader", "raft_term", "raft_commit_index", "raft_applied_index", "raft_last_contact_seconds", "watcher_silent", "disk_free_bytes"}
	for _, name := range want {
		if _, ok := got["watchover_"+name]; !ok {
			t.Errorf("%s is missing", name)
		}
	}
	if len(got) != len(want) || got["watchover_has_quorum"] != 1 || got["watchover_is_leader"] != 1 || got["watchover_disk_free_bytes"] == 0 || got["watchover_watcher_silent"] != 0 {
		t.Errorf("metrics: %v", got)
	}
	r.quit(n)
	if families, _ := registry.Gather(); len(families) != 0 {
		t.Error("a stopped watcher is still measured")
	}
}

// TestNoSuccessorUsesUpNoTransfer tells of a leader that wanted to give way when nobody was heard: it must still be able to
// when somebody is.
func TestNoSuccessorUsesUpNoTransfer(t *testing.T) {
	tm := bareTerm(t)
	tm.transfer(t.Context(), handover{reason: "a reason"})
	tm.heard["w2"] = &hearing{at: time.Now()}
	if !tm.canGiveWay(handover{reason: "another"}) {
		t.Error("the one transfer of the term is gone and was none")
	}
}

// TestNewsThatDidNotFitIsNotForgotten: when the log takes no more, the later parts of a beat have not been proposed either.
func TestNewsThatDidNotFitIsNotForgotten(t *testing.T) {
	tm := bareTerm(t)
	tm.end() // every command is refused
	tm.heard["w2"] = &hearing{proposed: map[reportKey]ordinal{}, counted: time.Now()}
	b := beat{}
	for i := range reportsPerCommand + 2 {
		b.Reports = append(b.Reports, failover.Report{Group: "shop", App: fmt.Sprint(i), Boot: 1, Seq: 2})
	}
	if tm.proposeNews("w2", b) {
		t.Fatal("proposed in a term that is over")
	}
	if news, _ := tm.news("w2", b); len(news.Reports) != len(b.Reports) {
		t.Errorf("%d of %d reports are proposed again", len(news.Reports), len(b.Reports))
	}
}

// TestVerdictsAreNotForwarded: one watcher must not speak for the others, nor begin an attempt in the leader's place.
func TestVerdictsAreNotForwarded(t *testing.T) {
	n := bareTerm(t).n
	n.proposal = make(chan struct{}, 1)
	for name, c := range map[string]failover.Command{
		"reports": {Reports: &failover.Reports{Reports: []failover.Report{{Watcher: "w3", Verdict: failover.VerdictDown}}}},
		"tick":    {Tick: &failover.Tick{}},
		"due":     {Due: &failover.Due{Key: "cooldown/shop/4"}},
		"init":    {Init: &failover.Init{}},
		"start":   {Journal: &failover.Journal{Start: &failover.Start{}}},
	} {
		text, err := failover.EncodeCommand(c)
		if err != nil {
			t.Fatal(err)
		}
		if a := n.takeProposal(t.Context(), proposal{Command: text}); a.Kind != errorInvalid {
			t.Errorf("%s: %+v", name, a)
		}
	}
	text, err := failover.EncodeCommand(failover.Command{Pause: &failover.PauseOrder{}})
	if err != nil {
		t.Fatal(err)
	}
	if a := n.takeProposal(t.Context(), proposal{Command: text}); a.Kind != errorNoLeader { // it does not lead
		t.Errorf("an order: %+v", a)
	}
}
