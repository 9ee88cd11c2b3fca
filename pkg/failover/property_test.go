package failover

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestProperties plays random logs: honest ones, in which watchers and a runner do their work, mixed with entries that
// no honest proposer would write. The invariants of watch_test.go are held after every entry; at the end the log is
// replayed, plainly and through snapshots, and a fair runner has to end whatever is open.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPlot(t)
		w := begin(t, p)
		r := &random{T: t, world: w, plot: p}
		r.prelude()
		for range rapid.IntRange(1, 60).Draw(t, "entries") {
			r.step()
		}
		at := rapid.IntRange(0, len(w.log)-1).Draw(t, "snapshot")
		if err := replays(w.log, w.s, func(i int) bool { return i == at }); err != nil {
			t.Fatal(err)
		}
		r.finish()
	})
}

func drawPlot(t *rapid.T) plot {
	p := defaultPlot()
	p.watchers = rapid.SampledFrom([]int{1, 3, 3, 5}).Draw(t, "watchers")
	p.groups = rapid.SampledFrom([][]string{{"shop"}, {"shop"}, {"a/b", "shop"}}).Draw(t, "groups")
	p.apps = rapid.SampledFrom([][]string{{"main", "standby"}, {"main", "standby"}, {"main", "b", "c"}, {"main", "b", "c", "d", "e"}}).Draw(t, "apps")
	p.database = rapid.Bool().Draw(t, "database")
	p.noMaintenance = rapid.SampledFrom([][]string{nil, nil, {"main"}, {"standby", "b"}, {"all"}}).Draw(t, "without maintenance")
	p.tries = rapid.IntRange(0, 2).Draw(t, "tries")
	p.pagers = rapid.SampledFrom([][]string{nil, {"a"}, {"a", "b"}}).Draw(t, "pagers")
	p.rules.Quorum = rapid.SampledFrom([]int{0, 0, 0, 1, 2, 4}).Draw(t, "quorum")
	p.rules.ConfirmFor = rapid.SampledFrom([]time.Duration{0, 0, time.Second}).Draw(t, "confirm")
	p.rules.Cooldown = rapid.SampledFrom([]time.Duration{0, time.Minute}).Draw(t, "cooldown")
	p.rules.Mode = rapid.SampledFrom([]Mode{ModeAutomatic, ModeAutomatic, ModeAutomatic, ModeManual, ModeObserve}).Draw(t, "mode")
	p.rules.RequireFence = rapid.SampledFrom([]Fence{FenceAuto, FenceAuto, FenceNever}).Draw(t, "fence")
	for _, step := range Plan {
		for _, when := range []string{":before", ":after"} {
			if rapid.IntRange(0, 9).Draw(t, "hook") == 0 {
				p.hooks = append(p.hooks, string(step)+when)
			}
		}
	}
	return p
}

// random makes entries.
type random struct {
	*rapid.T
	*world
	plot plot
}

func (r *random) Helper()                           { r.T.Helper() }
func (r *random) Fatal(args ...any)                 { r.T.Fatal(args...) }
func (r *random) Fatalf(format string, args ...any) { r.T.Fatalf(format, args...) }

func pick[E any](r *random, name string, list ...E) E {
	return rapid.SampledFrom(list).Draw(r.T, name)
}

func (r *random) some(name string, of int) bool {
	return rapid.IntRange(1, of).Draw(r.T, name) == 1
}

func (r *random) subset(name string, list []string) []string {
	out := []string{}
	for _, x := range list {
		if rapid.IntRange(0, 3).Draw(r.T, name) > 0 {
			out = append(out, x)
		}
	}
	return out
}

// prelude brings most logs to where it gets interesting: into a switchover that has done some of its steps.
func (r *random) prelude() {
	if r.some("from nothing", 6) {
		return
	}
	r.allUp()
	group := r.aGroup()
	if r.some("asked for", 3) {
		r.apply(Command{By: "uid:0", Request: &Request{Group: group, Force: r.some("force", 4)}})
	} else {
		v := r.saw(group, r.s.Groups[group].Active, VerdictDown)
		v.reason = "connection refused"
		r.apply(Command{Reports: &Reports{Reports: r.reports(memberNames(r.s.Members), group, r.s.Groups[group].Active, v)}})
		r.timer()
	}
	for range rapid.IntRange(0, 25).Draw(r.T, "honest") {
		r.work(group, pick(r, "outcome", OutcomeDone, OutcomeDone, OutcomeDone, OutcomeDone, OutcomeFailed))
		if len(r.s.Next(group)) == 0 {
			r.timer()
		}
	}
}

// work is one move of an honest runner, which looks at the databases before it acts.
func (r *random) work(group string, outcome Outcome) {
	if open := openAttempts(r.s, group); len(open) > 0 {
		e := open[0]
		e.Outcome, e.Error = outcome, "no"
		r.apply(Command{Journal: &Journal{Ended: []Ended{e}}})
	} else if tasks := r.s.Next(group); len(tasks) > 0 {
		start := &Start{Task: pick(r, "task", tasks...)}
		if r.some("looks", 3) {
			start.From, start.To = r.observation(), r.observation()
			start.Unseen, start.FromOpen = start.To == nil, r.some("open", 2)
		}
		r.apply(Command{Journal: &Journal{Start: start}})
	}
}

func (r *random) step() {
	kinds := []func(){r.report, r.report, r.report, r.runner, r.runner, r.runner, r.runner, r.timer, r.timer, r.about, r.heard, r.order, r.order, r.policy, r.tell, r.hostile, r.outage, r.outage, r.members}
	kinds[rapid.IntRange(0, len(kinds)-1).Draw(r.T, "kind")]()
}

func (r *random) aGroup() string { return pick(r, "group", r.s.GroupNames()...) }

func (r *random) anApp(group string) string {
	var names []string
	for _, app := range r.s.Policy.Group(group).Apps {
		names = append(names, app.Name)
	}
	return pick(r, "app", names...)
}

// outage lets all watchers agree on an app, as they mostly do.
func (r *random) outage() {
	group := r.aGroup()
	app := r.s.Groups[group].Active
	if r.some("another", 3) {
		app = r.anApp(group)
	}
	v := r.saw(group, app, pick(r, "verdict", VerdictUp, VerdictDown))
	r.apply(Command{Reports: &Reports{Reports: r.reports(memberNames(r.s.Members), group, app, v)}})
}

func (r *random) report() {
	group := r.aGroup()
	var list []Report
	for range rapid.IntRange(1, 3).Draw(r.T, "reports") {
		app := r.anApp(group)
		v := r.saw(group, app, pick(r, "verdict", VerdictUp, VerdictUp, VerdictDown, VerdictDown, VerdictUnknown))
		v.old = r.some("old", 10)
		if r.some("other revision", 10) {
			v.revision = rapid.Uint64Range(0, 50).Draw(r.T, "revision")
		}
		if r.some("other database", 4) {
			v.database = r.observation()
		}
		list = append(list, r.reports(r.subset("watcher", append(memberNames(r.s.Members), "w9")), group, app, v)...)
	}
	r.apply(Command{Reports: &Reports{Reports: list}})
}

func (r *random) observation() *Observation {
	if r.some("unseen", 4) {
		return nil
	}
	o := &Observation{Role: pick(r, "role", RolePrimary, RoleReplica, RoleUnknown), Frozen: rapid.Bool().Draw(r.T, "frozen"),
		Streaming: rapid.Bool().Draw(r.T, "streaming"), UntilOutage: rapid.Bool().Draw(r.T, "until outage"),
		ID: pick(r, "id", "", "db1", "db1", "db2"), Timeline: pick(r, "timeline", uint64(0), 1, 1, 2)}
	if rapid.Bool().Draw(r.T, "told") {
		o.LagBytes = pick(r, "bytes", pointer(int64(-1)), pointer(int64(0)), pointer(int64(1)<<60))
		o.LagSeconds = pick(r, "lag", nil, pointer(0.0), pointer(1e300))
		o.RiskSeconds = pick(r, "risk", nil, pointer(0.5), pointer(1e300))
	}
	return o
}

func pointer[T any](x T) *T { return &x }

// runner begins what is to be done, or ends what was begun, well or badly, or both with one entry.
func (r *random) runner() {
	group := r.aGroup()
	j := &Journal{}
	if open := openAttempts(r.s, group); len(open) > 0 && !r.some("none ends", 3) {
		e := pick(r, "ended", open...)
		e.Outcome = pick(r, "outcome", OutcomeDone, OutcomeDone, OutcomeFailed, OutcomeInterrupted)
		e.Error, e.Output = strings.Repeat("é", rapid.IntRange(0, 600).Draw(r.T, "error")), "output"
		j.Ended = append(j.Ended, e)
	}
	tasks := append(r.s.Next(group), r.s.Keep(group)...)
	if len(j.Ended) > 0 && r.some("and begins", 2) {
		after, _ := r.s.Apply(Entry{Index: r.index + 1, Term: r.term, Command: Command{Term: r.term, Time: r.clock, Fresh: r.fresh, Journal: j}})
		tasks = after.Next(group)
	} else if len(j.Ended) > 0 {
		tasks = nil
	}
	if len(tasks) > 0 {
		j.Start = &Start{Task: pick(r, "task", tasks...), Prior: "as it was"}
		if r.some("looks", 2) {
			j.Start.From, j.Start.To = r.observation(), r.observation()
			j.Start.Unseen, j.Start.FromOpen = j.Start.To == nil, r.some("open", 2)
		}
	}
	r.apply(Command{Journal: j})
}

// openAttempts are the ends that the open attempts of a group could have.
func openAttempts(s *State, group string) []Ended {
	var list []Ended
	g := s.Groups[group]
	if w := g.Switchover; w.Open() {
		for i := range w.Steps {
			if step := &w.Steps[i]; step.Open != "" {
				list = append(list, Ended{Task: w.task(step, step.Open), Token: step.Token})
			}
		}
	}
	for _, p := range s.Policy.Group(group).Apps {
		a := g.Apps[p.Name]
		for _, release := range []bool{false, true} {
			if m := a.obligation(release); m != nil && m.Open != nil {
				list = append(list, Ended{Task: Task{Group: group, App: p.Name, Part: m.Open.Part, Release: release}, Token: m.Open.Token})
			}
		}
	}
	return list
}

func (r *random) timer() {
	timers := r.s.Timers()
	if len(timers) == 0 {
		return
	}
	r.apply(Command{Due: &Due{Key: pick(r, "timer", timers...).Key}})
}

func (r *random) about() {
	about := map[string]About{}
	for _, name := range r.subset("about", memberNames(r.s.Members)) {
		r.seq++
		said := About{Boot: 1, Seq: r.seq, Served: pick(r, "served", r.s.ZoneIndex(), r.s.ZoneIndex(), 0)}
		if r.some("missing", 6) {
			said.Missing = []MissingFile{{Group: r.aGroup(), File: "main.headers"}}
		}
		about[name] = said
	}
	r.apply(Command{Reports: &Reports{About: about}})
}

func (r *random) heard() {
	if rapid.Bool().Draw(r.T, "new term") {
		r.term += rapid.Uint64Range(1, 3).Draw(r.T, "terms")
	}
	r.fresh = r.subset("fresh", append(memberNames(r.s.Members), "w9"))
	if r.some("all", 2) {
		r.fresh = memberNames(r.s.Members)
	}
	r.apply(Command{Tick: &Tick{}})
}

func (r *random) order() {
	group := pick(r, "group", append(r.s.GroupNames(), "", "nobody")...)
	c := Command{By: pick(r, "by", "uid:0", "uid:1000", "signal:w1"), ID: pick(r, "id", "", "", "x", "y")}
	switch rapid.IntRange(0, 6).Draw(r.T, "order") {
	case 0, 1:
		c.Request = &Request{Group: group, To: pick(r, "to", "", "", "main", "standby", "b", "c", "nobody"), Force: rapid.Bool().Draw(r.T, "force"), Signal: rapid.Bool().Draw(r.T, "signal")}
	case 2:
		c.Abort = &GroupOrder{Group: group}
	case 3:
		c.Retry = &RetryOrder{Group: group, Skip: rapid.Bool().Draw(r.T, "skip")}
	case 4:
		c.Ack = &GroupOrder{Group: group}
	case 5:
		c.Pause = &PauseOrder{Group: group, For: pick(r, "for", 0, time.Hour, -1)}
	case 6:
		c.Resume = &GroupOrder{Group: group}
	}
	r.apply(c)
}

// policy proposes a changed policy, mostly to the revision in force.
func (r *random) policy() {
	p := r.plot
	switch rapid.IntRange(0, 7).Draw(r.T, "change") {
	case 0:
		p.probeURL = pick(r, "url", "healthz", "live")
	case 1:
		p.apps = pick(r, "apps", []string{"main", "standby"}, []string{"main", "b", "c"}, []string{"c", "main"}, []string{"main"})
	case 2:
		p.database = !p.database
	case 3:
		p.rules.Mode = pick(r, "mode", ModeAutomatic, ModeManual, ModeObserve)
	case 4:
		p.groups = pick(r, "groups", []string{"shop"}, []string{"a/b", "shop"}, []string{"a/b"})
	case 5:
		p.noMaintenance = pick(r, "without maintenance", nil, []string{"all"}, []string{"main"})
	case 6:
		p.rules.ConfirmFor = pick(r, "confirm", 0, time.Second)
	case 7:
		p.pagers = pick(r, "pagers", nil, []string{"a"}, []string{"b", "c"}, []string{"a", "a"})
	}
	revision := pick(r, "revision", r.s.PolicyRevision, r.s.PolicyRevision, r.s.PolicyRevision, 0)
	if r.apply(Command{SetPolicy: &SetPolicy{Revision: revision, Policy: p.policy()}}).Accepted {
		r.plot = p
	}
}

// tell is a notifier's entry, sometimes one that is late, early or for nobody.
func (r *random) tell() {
	group := r.aGroup()
	a := pager(pick(r, "pager", "a", "b", "c"))
	n, _ := r.s.NextNotice(group, a.Key())
	told := Told{Group: group, Target: a.Key(), Seq: n.Seq, Lost: n.Lost}
	if r.some("odd", 4) {
		told.Seq, told.Lost = rapid.Uint64Range(0, r.s.EventSeq+2).Draw(r.T, "seq"), rapid.Uint64Range(0, 9).Draw(r.T, "lost")
	}
	r.apply(Command{Told: &told})
}

// members changes who takes part, in and out of order.
func (r *random) members() {
	name := pick(r, "watcher", append(memberNames(r.s.Members), "w7", "w8")...)
	address := pick(r, "address", name+".example.net:7653", "10.0.0.9:7653")
	c := Command{By: "uid:0"}
	switch rapid.IntRange(0, 5).Draw(r.T, "members") {
	case 0:
		c.AddMember = &AddMember{Name: name, Address: address, DNS: pick(r, "dns", nil, []string{"192.0.2.9"})}
	case 1:
		c.JoinMember = &JoinMember{Name: name, Node: pick(r, "node", "d1", "d2", "")}
	case 2:
		c.AdmitMember = &MemberOrder{Name: name}
	case 3:
		c.RemoveMember = &MemberOrder{Name: name}
	case 4:
		c.SettleMembers = &Settle{}
		if r.s.Change != nil {
			c.SettleMembers.Change = r.s.Change.Index
		}
	case 5:
		c.Transfer = &MemberOrder{Name: name}
	}
	before := r.s
	if r.apply(c); r.s.Voters() < before.Voters() && before.Cluster != "" {
		if heard := before.heardBut(c.RemoveMember.Name); heard < r.s.Majority() && len(r.fresh) < r.s.Majority() {
			r.Fatalf("a watcher was removed though only %d of the rest are heard", heard)
		}
	}
	r.membersAreSound()
}

func (r *random) membersAreSound() {
	if err := checkMembers(r.s.Members); err != nil {
		r.Fatal(err)
	}
	for _, name := range r.s.Fresh {
		if m := r.s.Member(name); m == nil || !m.Voter() {
			r.Fatalf("%s is counted and does not vote", name)
		}
	}
	for _, g := range r.s.Groups {
		for _, a := range g.Apps {
			for watcher := range a.Reports {
				if r.s.Member(watcher) == nil {
					r.Fatalf("%s is no member and its report is kept", watcher)
				}
			}
		}
	}
}

// hostile writes what no honest proposer would.
func (r *random) hostile() {
	task := Task{Group: pick(r, "group", append(r.s.GroupNames(), "nobody")...), App: pick(r, "app", "main", "standby", "nobody"),
		Switchover: rapid.Uint64Range(0, r.index).Draw(r.T, "switchover"), Step: pick(r, "step", append(slices.Clone(Plan), "dance")...),
		Work: pick(r, "work", WorkAct, WorkUndo, WorkAfter, "play"), Part: pick(r, "part", PartDatabase, PartMaintenance, ""), Release: rapid.Bool().Draw(r.T, "release")}
	if g := r.s.Groups[task.Group]; g != nil && g.Switchover.Open() && r.some("this one", 2) {
		task.Switchover = g.Switchover.ID
	}
	switch rapid.IntRange(0, 7).Draw(r.T, "trick") {
	case 0:
		r.apply(Command{Journal: &Journal{Start: &Start{Task: task}}})
	case 1:
		r.apply(Command{Journal: &Journal{Ended: []Ended{{Task: task, Token: rapid.Uint64Range(0, r.index).Draw(r.T, "token"), Outcome: pick(r, "outcome", OutcomeDone, OutcomeFailed, "maybe")}}}})
	case 2:
		r.apply(Command{Term: r.term + pick(r, "term", uint64(1), 7), Request: &Request{Group: "shop", Force: true}})
	case 3:
		r.apply(Command{Due: &Due{Key: pick(r, "key", "", "/", "confirm", "confirm/shop", "confirm/shop/1", "verify/nobody/1")}})
	case 4:
		r.apply(Command{})
	case 5:
		r.apply(Command{Init: &Init{Cluster: "other", Members: watchersNamed(1), Policy: defaultPlot().policy()}})
	case 6:
		last := r.log[len(r.log)-1].Command
		r.append(Entry{Index: r.index + 1, Term: r.term, Command: last})
	case 7:
		r.apply(Command{Time: time.Date(pick(r, "year", 1, 1969, 2300, 9999), 1, 1, 0, 0, 0, 0, time.UTC), Tick: &Tick{}})
	}
}
