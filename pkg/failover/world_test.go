package failover

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// dawn is the clock of a world's first entry. It is not Unix time zero, so that serials look like those of real zones.
var dawn = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// world is a log with one state machine at its end: what a script or a property plays with. Every entry goes through
// the encoding that the log uses, and every one is checked against the rules that hold for all entries.
// tb is what a world needs of a test; rapid's T has it too.
type tb interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

type world struct {
	t     tb
	s     *State
	index uint64
	term  uint64
	clock time.Time
	fresh []string
	seq   uint64
	log   []Entry
	watch watch // what the invariants remember of the past
	quick bool  // leaves the checks of every entry out, for very long logs
	// What the next start tells besides the sights: that the old app is open, that the target did not answer, and what was before.
	open, unseen bool
	prior        string
}

func newWorld(t tb) *world {
	return &world{t: t, s: NewState(), term: 1, clock: dawn}
}

// apply appends one command to the log, in the present term with the watchers now heard, unless the command says
// otherwise, and returns what the proposer learns.
func (w *world) apply(c Command) Result {
	w.t.Helper()
	if c.Term == 0 {
		c.Term = w.term
	}
	if c.Time.IsZero() {
		w.clock = w.clock.Add(time.Second)
		c.Time = w.clock
	}
	if c.Fresh == nil {
		c.Fresh = w.fresh
	}
	return w.append(Entry{Index: w.index + 1, Term: w.term, Command: c})
}

// append applies one entry as it stands and checks what must hold after every entry.
func (w *world) append(e Entry) Result {
	w.t.Helper()
	text, err := EncodeCommand(e.Command)
	if err != nil {
		w.t.Fatalf("entry %d: %v", e.Index, err)
	}
	if e.Command, err = DecodeCommand(text); err != nil {
		w.t.Fatalf("entry %d: %v", e.Index, err)
	}
	if w.quick {
		var r Result
		w.s, r = w.s.Apply(e)
		w.index = e.Index
		return r
	}
	before, hash := w.s, w.s.Hash()
	after, r := before.Apply(e)
	if before.Hash() != hash {
		w.t.Fatalf("entry %d changed the state that it was applied to: %s", e.Index, text)
	}
	w.s, w.index = after, e.Index
	w.log = append(w.log, e)
	w.watch.check(w.t, before, e, after, r)
	return r
}

// must is apply for a command that has to be accepted.
func (w *world) must(c Command) Result {
	w.t.Helper()
	r := w.apply(c)
	if !r.Accepted {
		w.t.Fatalf("entry %d was refused: %+v", w.index, r)
	}
	return r
}

func (w *world) group(name string) *GroupState {
	w.t.Helper()
	g := w.s.Groups[name]
	if g == nil {
		w.t.Fatalf("there is no group %q", name)
	}
	return g
}

// watchersNamed makes members w1, w2 and so on.
func watchersNamed(n int) []Member {
	var members []Member
	for i := 1; i <= n; i++ {
		members = append(members, Member{Name: fmt.Sprintf("w%d", i), Address: fmt.Sprintf("w%d.example.net:7653", i)})
	}
	return members
}

func memberNames(members []Member) []string {
	var names []string
	for _, m := range members {
		names = append(names, m.Name)
	}
	return names
}

// plot is what a test says of a policy; everything else is as in the contract's defaults.
type plot struct {
	watchers      int
	groups        []string
	apps          []string
	database      bool
	shared        bool     // all groups name the same databases
	noMaintenance []string // apps without a switch
	probeURL      string
	rules         Rules
	ttl           time.Duration
	tries         int
	hooks         []string // "STEP:before" or "STEP:after"
	address       string   // of the first app
	pagers        []string // targets of notifications
}

func defaultPlot() plot {
	return plot{watchers: 3, groups: []string{"shop"}, apps: []string{"main", "standby"}, ttl: 5 * time.Minute, tries: 3, probeURL: "healthz", address: "192.0.2.10",
		rules: Rules{Mode: ModeAutomatic, ConfirmFor: 10 * time.Second, Cooldown: 10 * time.Minute, RequireFence: FenceAuto,
			MaxLag: MaxLag{Bytes: 16 << 20, Time: 30 * time.Second}}}
}

func (p plot) policy() Policy {
	policy := Policy{Zone: Zone{Name: "ha.example.com.", TTL: p.ttl}}
	for _, name := range p.groups {
		policy.Groups = append(policy.Groups, p.group(name))
	}
	return policy
}

func (p plot) group(name string) Group {
	g := Group{Name: name, Record: name, Failover: p.rules, Steps: p.steps(),
		Probing: Probing{Interval: 2 * time.Second, RetryInterval: 500 * time.Millisecond, Timeout: time.Second, Fall: 3, Rise: 2}}
	for i, app := range p.apps {
		a := App{Name: app, Address: []string{fmt.Sprintf("198.51.100.%d", 10+i)},
			Probes: []Probe{{Kind: "http", Name: "http", HTTP: HTTP{URL: "http://" + app + "." + name + ".example.com/" + p.probeURL}}}}
		if i == 0 {
			a.Address = []string{p.address}
		}
		if !slices.Contains(p.noMaintenance, app) && !slices.Contains(p.noMaintenance, "all") {
			a.Maintenance = &Maintenance{On: Action{Exec: []string{"maintenance", "on"}}, Off: Action{Exec: []string{"maintenance", "off"}}}
		}
		if p.database {
			owner := name
			if p.shared {
				owner = "both"
			}
			a.Database = &Database{Kind: "exec", Exec: &DatabaseExec{Role: []string{"role", owner, app}}}
		}
		g.Apps = append(g.Apps, a)
	}
	for _, name := range p.pagers {
		g.Notify = append(g.Notify, pager(name))
	}
	return g
}

func (p plot) steps() StepSettings {
	settings := StepSettings{}
	for _, name := range Plan {
		s := StepSetting{Timeout: 10 * time.Second, Tries: p.tries, Backoff: time.Second}
		switch name {
		case StepCatchUp:
			s.Timeout, s.Tries = 30*time.Second, 1
		case StepPromote:
			s.Timeout = 60 * time.Second
		case StepVerify:
			s.Timeout, s.Tries = 30*time.Second, 1
		}
		hook := []Action{{Exec: []string{"announce"}}}
		if slices.Contains(p.hooks, string(name)+":before") {
			s.Before = hook
		}
		if slices.Contains(p.hooks, string(name)+":after") {
			s.After = hook
		}
		settings[name] = s
	}
	return settings
}

// begin makes a world whose cluster has the plot's policy and hears all its watchers.
func begin(t tb, p plot) *world {
	t.Helper()
	w := newWorld(t)
	w.init(p)
	return w
}

func (w *world) init(p plot) Result {
	w.t.Helper()
	members := watchersNamed(p.watchers)
	w.fresh = memberNames(members)
	return w.apply(Command{Init: &Init{Cluster: "prod", ClusterID: "c1", Members: members, Policy: p.policy()}})
}

// sight is what a test lets watchers see of an app.
type sight struct {
	verdict     Verdict
	reason      string
	maintenance Switch
	undone      uint64
	database    *Observation
	old         bool // numbered older than what the watcher said before
	untrusted   bool // the reason is the certificate
	revision    uint64
}

// saw makes the usual sight: an app that is up has its maintenance as its role wants it and a database that fits.
func (w *world) saw(group, app string, verdict Verdict) sight {
	g, p := w.s.Groups[group], w.s.Policy.Group(group)
	if g == nil || g.Apps[app] == nil {
		return sight{verdict: verdict}
	}
	v := sight{verdict: verdict, maintenance: SwitchUnknown, revision: g.Apps[app].Revision, undone: g.Apps[app].Undone}
	if p.HasDatabase() {
		v.database = &Observation{Role: RoleUnknown}
	}
	if verdict != VerdictUp {
		return v
	}
	v.maintenance = map[bool]Switch{true: SwitchOff, false: SwitchOn}[app == g.Active]
	if p.HasDatabase() && app == g.Writer {
		v.database = &Observation{Role: RolePrimary, ID: "db1", Timeline: 1}
	} else if p.HasDatabase() {
		v.database = replica()
	}
	return v
}

func replica() *Observation {
	bytes, secs := int64(0), 0.0
	return &Observation{Role: RoleReplica, Streaming: true, UntilOutage: true, ID: "db1", Timeline: 1, LagBytes: &bytes, LagSeconds: &secs}
}

func (w *world) reports(watchers []string, group, app string, v sight) []Report {
	var list []Report
	for _, name := range watchers {
		w.seq++
		r := Report{Group: group, App: app, Watcher: name, Boot: 1, Seq: w.seq, Revision: v.revision, Undone: v.undone, Verdict: v.verdict, Reason: v.reason, Untrusted: v.untrusted,
			Since: w.clock, Maintenance: v.maintenance, Database: v.database}
		if v.old {
			r.Boot, r.Seq = 0, 1
		}
		list = append(list, r)
	}
	return list
}

// allUp lets every watcher find every app of every group up. The first round may settle who is active; the second is
// on the roles as they are then.
func (w *world) allUp() {
	w.t.Helper()
	for range 2 {
		var list []Report
		for _, group := range w.s.GroupNames() {
			for _, app := range w.s.Policy.Group(group).Apps {
				list = append(list, w.reports(memberNames(w.s.Members), group, app.Name, w.saw(group, app.Name, VerdictUp))...)
			}
		}
		w.must(Command{Reports: &Reports{Reports: list}})
	}
}

// say lets watchers report one app of the group shop.
func (w *world) say(watchers []string, app string, v sight) Result {
	w.t.Helper()
	return w.apply(Command{Reports: &Reports{Reports: w.reports(watchers, "shop", app, v)}})
}

// down lets all members find an app of the group shop down.
func (w *world) down(app string) {
	w.t.Helper()
	v := w.saw("shop", app, VerdictDown)
	v.reason = "connection refused"
	w.say(memberNames(w.s.Members), app, v)
}

// due lets the timer run out whose key begins so.
func (w *world) due(prefix string) Result {
	w.t.Helper()
	return w.apply(Command{Due: &Due{Key: w.key(prefix)}})
}

// key finds the one timer whose key begins so; a prefix that fits none is taken as it stands.
func (w *world) key(prefix string) string {
	for _, timer := range w.s.Timers() {
		if strings.HasPrefix(timer.Key, prefix) {
			return timer.Key
		}
	}
	return prefix
}

// start begins what Next offers for a step, with the given sights of the two databases.
func (w *world) start(step StepName, from, to *Observation) Result {
	w.t.Helper()
	for _, task := range w.s.Next("shop") {
		if task.Step == step {
			return w.apply(Command{Journal: &Journal{Start: &Start{Task: task, From: from, To: to, Unseen: w.unseen, FromOpen: w.open, Prior: w.prior}}})
		}
	}
	return Result{Code: "test", Detail: fmt.Sprintf("next does not offer %s", step)}
}

// end closes the open attempt of a step.
func (w *world) end(step StepName, outcome Outcome, text string) Result {
	w.t.Helper()
	return w.apply(Command{Journal: &Journal{Ended: []Ended{w.ended(step, outcome, text)}}})
}

func (w *world) ended(name StepName, outcome Outcome, text string) Ended {
	o := w.s.Groups["shop"].Switchover
	if !o.Open() || o.Step(name) == nil {
		return Ended{Task: Task{Group: "shop", Switchover: 1, Step: name}, Outcome: outcome, Error: text}
	}
	step := o.Step(name)
	return Ended{Task: o.task(step, step.Open), Token: step.Token, Outcome: outcome, Error: text}
}

// did starts a step and ends it well. The old database does not answer.
func (w *world) did(steps ...StepName) {
	w.t.Helper()
	for _, step := range steps {
		if r := w.start(step, nil, nil); r.Token == 0 {
			w.t.Fatalf("%s was not begun: %+v", step, r)
		}
		if r := w.end(step, OutcomeDone, ""); !r.Accepted {
			w.t.Fatalf("%s was not ended: %+v", step, r)
		}
	}
}

// failed starts a step and ends it badly.
func (w *world) failed(step StepName, text string) {
	w.t.Helper()
	if r := w.start(step, nil, nil); r.Token == 0 {
		w.t.Fatalf("%s was not begun: %+v", step, r)
	}
	if r := w.end(step, OutcomeFailed, text); !r.Accepted {
		w.t.Fatalf("%s was not ended: %+v", step, r)
	}
}

// served lets watchers say that their name servers answer the newest record.
func (w *world) served(watchers ...string) {
	w.t.Helper()
	about := map[string]About{}
	for _, name := range watchers {
		w.seq++
		about[name] = About{Boot: 1, Seq: w.seq, Served: w.s.ZoneIndex()}
	}
	w.must(Command{Reports: &Reports{About: about}})
}
