package failover

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// pager is a target of notifications.
func pager(name string) Action { return Action{Exec: []string{"/bin/" + name}} }

// paged is a cluster of one group with these targets.
func paged(t *testing.T, targets ...Action) *State {
	t.Helper()
	app := func(name string) App { return App{Name: name, Address: []string{"192.0.2.1"}} }
	s, r := NewState().Apply(Entry{Index: 1, Term: 1, Command: Command{Term: 1, Time: time.Unix(1767268800, 0).UTC(), Init: &Init{Cluster: "prod", ClusterID: "c1",
		Members: []Member{{Name: "w1"}}, Policy: Policy{Zone: Zone{Name: "ha.example.com.", TTL: time.Minute},
			Groups: []Group{{Name: "shop", Record: "shop", Apps: []App{app("main"), app("standby")}, Notify: targets}}}}}})
	if !r.Accepted {
		t.Fatalf("refused: %+v", r)
	}
	return s
}

// next applies one command; refused: the rule or code that refused it.
func next(s *State, c Command) (*State, Result) {
	c.Term, c.Time = s.Term, s.Time.Add(time.Second)
	return s.Apply(Entry{Index: s.Index + 1, Term: s.Term, Command: c})
}

func pausing(reason string) Command {
	return Command{By: "uid:0", Pause: &PauseOrder{Group: "shop", Reason: reason}}
}

func telling(target string, n Notice) Command {
	return Command{Told: &Told{Group: "shop", Target: target, Seq: n.Seq, Lost: n.Lost}}
}

func TestCursorMovesByWhatIsTold(t *testing.T) {
	a := pager("a")
	s := paged(t, a, pager("b"))
	key := a.Key()
	if n, ok := s.NextNotice("shop", key); ok {
		t.Errorf("told of its own beginning: %+v", n)
	}
	before := s
	s, _ = next(s, pausing("one"))
	s, _ = next(s, pausing("two"))
	if _, ok := before.NextNotice("shop", key); ok {
		t.Error("an older state was changed")
	}
	n, ok := s.NextNotice("shop", key)
	if !ok || n.Data["reason"] != "one" || n.ID != fmt.Sprintf("c1-0-%d", n.Seq) {
		t.Fatalf("next: %+v", n)
	}
	told, r := next(s, telling(key, n))
	if !r.Accepted || told.EventSeq != s.EventSeq {
		t.Errorf("telling is refused or an event itself: %+v", r)
	}
	if n2, _ := told.NextNotice("shop", key); n2.Data["reason"] != "two" {
		t.Errorf("after the first: %+v", n2)
	}
	if n2, _ := s.NextNotice("shop", key); n2.Seq != n.Seq {
		t.Error("an older state's cursor was moved")
	}
	if other, _ := told.NextNotice("shop", s.Policy.Groups[0].Notify[1].Key()); other.Seq != n.Seq {
		t.Error("another target's cursor was moved")
	}
	again, r := next(told, telling(key, n))
	if !r.Accepted || again.Groups["shop"].Notified[key] != told.Groups["shop"].Notified[key] {
		t.Errorf("a repeat changed something: %+v", r)
	}
	for _, tc := range []struct {
		name string
		c    Told
	}{
		{"no group", Told{Group: "blog", Target: key, Seq: 1}},
		{"no target", Told{Group: "shop", Target: "x", Seq: 1}},
		{"an event to come", Told{Group: "shop", Target: key, Seq: s.EventSeq + 1}},
	} {
		if after, r := next(s, Command{Told: &tc.c}); r.Accepted || !reflect.DeepEqual(after.Groups["shop"].Notified, s.Groups["shop"].Notified) {
			t.Errorf("%s: accepted", tc.name)
		}
	}
}

// The list of what is told is documented, so it is held to here.
func TestWhatIsWorthTelling(t *testing.T) {
	health := func(now, was string) map[string]string {
		d := map[string]string{"health": now}
		if was != "" {
			d["was"] = was
		}
		return d
	}
	for _, tc := range []struct {
		e    Event
		want bool
	}{
		{Event{Type: "switchover_opened", Group: "shop"}, true},
		{Event{Type: "switchover_opened", Group: "blog"}, false},
		{Event{Type: "halted", Group: "shop"}, true},
		{Event{Type: "verdict", Group: "shop"}, false},
		{Event{Type: "step_done", Group: "shop"}, false},
		{Event{Type: "policy"}, false},
		{Event{Type: "low_disk"}, true},
		{Event{Type: "health", Group: "shop", Data: health("down", "")}, true},
		{Event{Type: "health", Group: "shop", Data: health("unknown", "down")}, false},
		{Event{Type: "health", Group: "shop", Data: health("down", "down")}, false},
		{Event{Type: "health", Group: "shop", Data: health("up", "down")}, true},
		{Event{Type: "health", Group: "shop", Data: health("up", "")}, false},
	} {
		if got := tc.e.concerns("shop"); got != tc.want {
			t.Errorf("%s %v of group %q: %t", tc.e.Type, tc.e.Data, tc.e.Group, got)
		}
	}
}

// Down is told once, and then up once, whatever an app seems to be in between.
func TestHealthIsToldOnceEachWay(t *testing.T) {
	a := pager("a")
	s := paged(t, a)
	seq := uint64(0)
	for _, v := range []Verdict{VerdictUp, VerdictDown, VerdictUnknown, VerdictDown, VerdictUnknown, VerdictUp, VerdictUnknown, VerdictUp, VerdictDown} {
		seq++
		c := Command{Reports: &Reports{Reports: []Report{{Group: "shop", App: "standby", Watcher: "w1", Boot: 1, Seq: seq,
			Revision: s.Groups["shop"].Apps["standby"].Revision, Verdict: v}}}}
		c.Fresh = []string{"w1"}
		s, _ = next(s, c)
	}
	var told []string
	for {
		n, ok := s.NextNotice("shop", a.Key())
		if !ok {
			break
		}
		told = append(told, n.Text)
		s, _ = next(s, telling(a.Key(), n))
	}
	if got, want := strings.Join(told, "; "), "standby is down by quorum; standby is up by quorum; standby is down by quorum"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
}

// What is dropped untold is counted, for each target what it has missed.
func TestEventsDroppedUntoldAreCounted(t *testing.T) {
	a, b := pager("a"), pager("b")
	s := paged(t, a, b)
	for i := range eventsKept {
		s, _ = next(s, pausing(fmt.Sprint(i)))
	}
	n, _ := s.NextNotice("shop", a.Key())
	s, _ = next(s, telling(a.Key(), n)) // "0", which is still kept
	for range 10 {
		s, _ = next(s, pausing("more"))
	}
	// The cluster's first event and "0" to "8" are gone.
	for target, lost := range map[string]uint64{a.Key(): 9 - 1, b.Key(): 9} {
		n, ok := s.NextNotice("shop", target)
		if !ok || n.Lost != lost+1 || n.Data["reason"] != "10" {
			t.Errorf("%+v, want %d lost", n, lost+1)
		}
	}
	n, _ = s.NextNotice("shop", b.Key())
	later, _ := next(s, pausing("while it is being told"))
	later, _ = next(later, telling(b.Key(), n))
	if n, _ := later.NextNotice("shop", b.Key()); n.Lost != 0 && n.Lost != 1 {
		t.Errorf("told of %d lost ones twice", n.Lost)
	}
}

func TestTargetsOfAChangedPolicy(t *testing.T) {
	a, b := pager("a"), pager("b")
	s := paged(t, a)
	s, _ = next(s, pausing("one"))
	p := *s.Policy
	p.Groups = []Group{p.Groups[0]}
	p.Groups[0].Notify = []Action{b, a}
	s, r := next(s, Command{SetPolicy: &SetPolicy{Revision: s.PolicyRevision, Policy: p}})
	if !r.Accepted {
		t.Fatalf("refused: %+v", r)
	}
	if n, _ := s.NextNotice("shop", a.Key()); n.Data["reason"] != "one" {
		t.Error("a target that stays has lost its place")
	}
	if n, ok := s.NextNotice("shop", b.Key()); ok {
		t.Errorf("a new target is told what was before it: %+v", n)
	}
	p.Groups = []Group{p.Groups[0]}
	p.Groups[0].Notify = nil
	s, _ = next(s, Command{SetPolicy: &SetPolicy{Revision: s.PolicyRevision, Policy: p}})
	if s.Groups["shop"].Notified != nil {
		t.Error("cursors of targets that are gone are kept")
	}
}

func TestCursorsInASnapshot(t *testing.T) {
	a := pager("a")
	s := paged(t, a)
	text, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := DecodeState(text)
	if err != nil || back.Hash() != s.Hash() {
		t.Fatalf("restored: %v", err)
	}
	for name, change := range map[string]func(*GroupState){
		"missing": func(g *GroupState) { g.Notified = nil },
		"foreign": func(g *GroupState) { g.Notified = map[string]Cursor{a.Key(): {}, "x": {}} },
		"ahead":   func(g *GroupState) { g.Notified = map[string]Cursor{a.Key(): {Seq: s.EventSeq + 1}} },
	} {
		damaged := s.clone()
		change(damaged.Groups["shop"])
		text, err := damaged.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeState(text); err == nil || !strings.Contains(err.Error(), "cursor") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Keys are in the log: they must not depend on anything but what the target is.
func TestKeyOfATarget(t *testing.T) {
	keys := map[string]string{}
	for _, a := range []Action{pager("a"), pager("b"), {Exec: []string{"/bin/a", "x"}}, {Webhook: &Webhook{URLFile: "/bin/a"}}, {Webhook: &Webhook{URLFile: "slack.url"}}} {
		if other, twice := keys[a.Key()]; twice {
			t.Errorf("%v has the key of %s", a, other)
		}
		keys[a.Key()] = fmt.Sprint(a)
	}
	a := pager("a")
	if got := a.Key(); got != "7583e5b7eaa41f55" {
		t.Errorf("the key of a target has become %s: cursors in existing logs are lost", got)
	}
}

func TestLowDiskIsAnnouncedOnceEachWay(t *testing.T) {
	s := paged(t, pager("a"))
	for i, low := range []bool{false, true, true, false} {
		s, _ = next(s, Command{Reports: &Reports{About: map[string]About{"w1": {Boot: 1, Seq: uint64(i + 1), LowDisk: low}}}})
	}
	var got []string
	for _, e := range s.Events {
		if e.Type == "low_disk" {
			got = append(got, e.Text)
		}
	}
	if want := "w1 is running out of disk space; w1 has enough disk space again"; strings.Join(got, "; ") != want {
		t.Errorf("announced %q", got)
	}
}

func TestBetterPlaced(t *testing.T) {
	report := func(v Verdict, revision uint64) *Report { return &Report{Verdict: v, Revision: revision} }
	for _, tc := range []struct {
		name    string
		health  Health
		reports map[string]*Report
		want    string
	}{
		{"others see it", HealthUp, map[string]*Report{"w1": report(VerdictDown, 5), "w2": report(VerdictUp, 5), "w3": report(VerdictUp, 5)}, "w2,w3"},
		{"one of them is silent", HealthUp, map[string]*Report{"w1": report(VerdictDown, 5), "w2": report(VerdictUp, 5), "w4": report(VerdictUp, 5)}, "w2"},
		{"one has an old verdict", HealthUp, map[string]*Report{"w1": report(VerdictDown, 5), "w2": report(VerdictUp, 4), "w3": report(VerdictUp, 5)}, "w3"},
		{"its own is old", HealthUp, map[string]*Report{"w1": report(VerdictDown, 4), "w2": report(VerdictUp, 5), "w3": report(VerdictUp, 5)}, ""},
		{"it does not know", HealthUp, map[string]*Report{"w1": report(VerdictUnknown, 5), "w2": report(VerdictUp, 5), "w3": report(VerdictUp, 5)}, ""},
		{"nobody is sure", HealthUnknown, map[string]*Report{"w1": report(VerdictDown, 5), "w2": report(VerdictUp, 5)}, ""},
	} {
		s := &State{Members: []Member{{Name: "w1"}, {Name: "w2"}, {Name: "w3"}, {Name: "w4"}}, Fresh: []string{"w1", "w2", "w3"},
			Groups: map[string]*GroupState{"shop": {Apps: map[string]*AppState{"main": {Revision: 5, Health: tc.health, Reports: tc.reports}}}}}
		if got := strings.Join(s.BetterPlaced("w1", "shop", "main"), ","); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
	if NewState().BetterPlaced("w1", "shop", "main") != nil {
		t.Error("a group that is not there")
	}
}
