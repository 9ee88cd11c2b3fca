package switchover

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// world is a cluster of three watchers in memory, seen from the one that leads, with apps that are programs. Its time is
// a synctest bubble's. What the cluster does by itself (timers, reports, served answers) is played by its audience.
type world struct {
	t       *testing.T
	journal *fakeJournal
	runner  *Runner

	mu    sync.Mutex // guards what follows
	apps  map[string]*fakeApp
	hooks map[string]func(context.Context) (int, error) // by name; nil: exit 0 at once
	calls []call
	up    map[string]time.Time
	seq   uint64 // of reports
	quiet bool   // the audience does not confirm the switch

	busy, most map[string]int // hands on an app's switch or database that change something: now, and the most at a time
}

// fakeApp is one app with its database.
type fakeApp struct {
	maintenance, frozen, streaming bool
	role                           failover.Role
	tells                          bool                     // role says frozen when it is
	near                           bool                     // role says that it is not behind while it is streaming
	dead                           bool                     // refuses everything
	hangs                          bool                     // answers nothing
	slow                           map[string]time.Duration // by verb
	broken                         map[string]bool          // verbs that exit 1 and do nothing
	deaf                           map[string]bool          // verbs that exit 0 and do nothing
	half                           map[string]bool          // verbs that take effect and then never end
}

// call is one run of a program.
type call struct {
	at   time.Duration // since the bubble's beginning
	what string        // "APP VERB" or "hook NAME"
	env  map[string]string
}

const group = "shop"

// play runs a test in a bubble on a world that has begun, with everything up.
func play(t *testing.T, change func(*failover.Group), script func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, change)
		defer w.close()
		script(w)
	})
}

func newWorld(t *testing.T, change func(*failover.Group)) *world {
	w := &world{t: t, apps: map[string]*fakeApp{}, hooks: map[string]func(context.Context) (int, error){}, up: map[string]time.Time{},
		busy: map[string]int{}, most: map[string]int{}}
	w.apps["main"] = &fakeApp{role: failover.RolePrimary, tells: true, slow: map[string]time.Duration{}, broken: map[string]bool{}, half: map[string]bool{}}
	w.apps["standby"] = &fakeApp{role: failover.RoleReplica, streaming: true, maintenance: true, slow: map[string]time.Duration{}, broken: map[string]bool{}, half: map[string]bool{}}
	p := shop()
	if change != nil {
		change(&p.Groups[0])
	}
	w.journal = newFakeJournal()
	w.runner = New(Options{Watcher: "w1", Dir: "/etc/watchover", Run: w.run, Log: zerolog.Nop(), UpSince: w.upSince})
	members := []failover.Member{{Name: "w1"}, {Name: "w2"}, {Name: "w3"}}
	w.must(failover.Command{Init: &failover.Init{Cluster: "prod", ClusterID: "c1", Members: members, Policy: p}})
	for range 2 { // the first round may settle who is active
		w.see("main", failover.VerdictUp)
		w.see("standby", failover.VerdictUp)
	}
	go w.journal.audience(w.react)
	return w
}

func (w *world) close() { w.journal.close() }

func shop() failover.Policy {
	ctl := func(app, verb string) []string { return []string{"/bin/ctl", app, verb} }
	g := failover.Group{
		Name: group, Record: "shop", Steps: failover.StepSettings{},
		Probing:  failover.Probing{Interval: 2 * time.Second, RetryInterval: 500 * time.Millisecond, Timeout: time.Second, Fall: 3, Rise: 2},
		Failover: failover.Rules{Mode: failover.ModeAutomatic, Cooldown: 10 * time.Minute, RequireFence: failover.FenceAuto, MaxLag: failover.MaxLag{Bytes: 16 << 20, Time: 30 * time.Second}},
	}
	for i, app := range []string{"main", "standby"} {
		check := failover.Action{Exec: ctl(app, "check")}
		g.Apps = append(g.Apps, failover.App{
			Name: app, Address: []string{fmt.Sprintf("192.0.2.%d", 10+i)}, Probes: []failover.Probe{{Kind: "tcp", Name: "tcp", Address: "192.0.2.1:1"}},
			Maintenance: &failover.Maintenance{On: failover.Action{Exec: ctl(app, "on")}, Off: failover.Action{Exec: ctl(app, "off")}, Check: &check},
			Database: &failover.Database{Kind: "exec", Exec: &failover.DatabaseExec{
				Role: ctl(app, "role"), Freeze: ctl(app, "freeze"), Unfreeze: ctl(app, "unfreeze"), CatchUp: ctl(app, "catch_up"),
				StopReplication: ctl(app, "stop"), ResumeReplication: ctl(app, "resume"), Promote: ctl(app, "promote")}},
		})
	}
	for _, name := range failover.Plan {
		s := failover.StepSetting{Timeout: 10 * time.Second, Tries: 3, Backoff: time.Second}
		switch name {
		case failover.StepCatchUp, failover.StepVerify:
			s.Timeout, s.Tries = 30*time.Second, 1
		case failover.StepPromote:
			s.Timeout = time.Minute
		}
		g.Steps[name] = s
	}
	return failover.Policy{Zone: failover.Zone{Name: "ha.example.com.", TTL: 5 * time.Minute}, Groups: []failover.Group{g}}
}

// hook adds a hook to a step.
func hook(g *failover.Group, step failover.StepName, when, name string) {
	s := g.Steps[step]
	a := failover.Action{Exec: []string{"/bin/hook", name}}
	if when == "before" {
		s.Before = append(s.Before, a)
	} else {
		s.After = append(s.After, a)
	}
	g.Steps[step] = s
}

// ---- apps

var changing = []string{"on", "off", "freeze", "unfreeze", "stop", "resume", "promote", "catch_up", "reprotect"}

func (w *world) run(ctx context.Context, p Process) ([]byte, int, error) {
	c := call{at: w.now(), what: strings.Join(append([]string{filepath.Base(p.Argv[0])}, p.Argv[1:]...), " "), env: map[string]string{}}
	for _, pair := range p.Env {
		name, value, _ := strings.Cut(pair, "=")
		c.env[name] = value
	}
	c.what = strings.TrimPrefix(c.what, "ctl ")
	w.mu.Lock()
	w.calls = append(w.calls, c)
	run := w.hooks[strings.TrimPrefix(c.what, "hook ")]
	w.mu.Unlock()
	if strings.HasPrefix(c.what, "hook ") {
		if run == nil {
			return []byte(c.what + " ran"), 0, ctx.Err()
		}
		code, err := run(ctx)
		return []byte(c.what + " ran"), code, err
	}
	return w.control(ctx, p.Argv[1], p.Argv[2])
}

func (w *world) control(ctx context.Context, name, verb string) ([]byte, int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.apps[name]
	if slices.Contains(changing, verb) {
		w.busy[name]++
		w.most[name] = max(w.most[name], w.busy[name])
		defer func() { w.busy[name]-- }()
	}
	wait := a.slow[verb]
	if a.half[verb] {
		a.take(verb)
	}
	if a.hangs || a.half[verb] {
		wait = time.Hour
	}
	w.mu.Unlock()
	ok := ctx.Err() == nil && (wait == 0 || waitFor(ctx, wait))
	w.mu.Lock()
	switch {
	case !ok:
		return nil, -1, ctx.Err()
	case a.dead:
		return []byte("connection refused\n"), 2, nil
	case a.broken[verb]:
		return []byte("broken\n"), 3, nil
	case verb == "check" && !a.maintenance:
		return nil, 1, nil
	case verb == "role":
		return []byte(a.says()), 0, nil
	}
	if !a.deaf[verb] {
		a.take(verb)
	}
	return []byte(name + " " + verb + " done"), 0, nil
}

func (a *fakeApp) says() string {
	text := string(a.role) + " id=db1"
	if a.frozen && a.tells {
		text += " frozen"
	}
	if a.role == failover.RoleReplica && a.streaming {
		text += " streaming"
		if a.near {
			text += " lag_bytes=0"
		}
	}
	return text
}

func (a *fakeApp) take(verb string) {
	switch verb {
	case "on":
		a.maintenance = true
	case "off":
		a.maintenance = false
	case "freeze":
		a.frozen = true
	case "unfreeze":
		a.frozen = false
	case "stop":
		a.streaming = false
	case "resume":
		a.streaming = true
	case "reprotect":
		a.role, a.streaming = failover.RoleReplica, true
	case "promote":
		a.role, a.streaming = failover.RolePrimary, false
	}
}

// ---- what a test does and asks

var bubbleStart = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // of every synctest bubble

func (w *world) now() time.Duration { return time.Since(bubbleStart) }

func (w *world) app(name string, change func(*fakeApp)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(w.apps[name])
}

func (w *world) is(name string) fakeApp {
	w.mu.Lock()
	defer w.mu.Unlock()
	return *w.apps[name]
}

func (w *world) upSince(_, app string) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.up[app]
}

func (w *world) setUp(app string, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.up[app] = at
}

func (w *world) onHook(name string, run func(context.Context) (int, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hooks[name] = run
}

// called lists the calls that change something or are hooks, from the nth such call on.
func (w *world) called(from int) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []string
	for _, c := range w.calls {
		verb := c.what[strings.LastIndexByte(c.what, ' ')+1:]
		if strings.HasPrefix(c.what, "hook ") || slices.Contains(changing, verb) {
			list = append(list, c.what)
		}
	}
	return list[min(from, len(list)):]
}

// runs lists the calls of that name.
func (w *world) runs(what string) []call {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []call
	for _, c := range w.calls {
		if c.what == what {
			list = append(list, c)
		}
	}
	return list
}

func (w *world) must(c failover.Command) failover.Result {
	w.t.Helper()
	r, err := w.journal.Propose(context.Background(), c)
	if err != nil || !r.Accepted {
		w.t.Fatalf("refused: %+v %v", r, err)
	}
	return r
}

// see lets all watchers report an app.
func (w *world) see(app string, v failover.Verdict) {
	s := w.journal.State()
	g := s.Groups[group]
	o := &failover.Observation{Role: failover.RoleUnknown}
	if v == failover.VerdictUp && app == g.Writer {
		o = &failover.Observation{Role: failover.RolePrimary, ID: "db1"}
	} else if v == failover.VerdictUp {
		lag := int64(0)
		live := w.is(app).streaming
		o = &failover.Observation{Role: failover.RoleReplica, Streaming: live, UntilOutage: live, ID: "db1", LagBytes: &lag}
	}
	if !s.Policy.Group(group).HasDatabase() {
		o = nil
	}
	var list []failover.Report
	for _, m := range s.Members {
		list = append(list, failover.Report{Group: group, App: app, Watcher: m.Name, Boot: 1, Seq: w.number(), Revision: g.Apps[app].Revision, Undone: g.Apps[app].Undone,
			Verdict: v, Reason: "connection refused", Maintenance: failover.SwitchUnknown, Database: o})
	}
	w.must(failover.Command{Reports: &failover.Reports{Reports: list}})
}

// number numbers a report.
func (w *world) number() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seq++
	return w.seq
}

// react plays the watchers' part of the verification: the new app is up and every name server answers the new record.
func (w *world) react(s *failover.State) (failover.Command, bool) {
	if s.Groups[group] == nil {
		return failover.Command{}, false
	}
	o := s.Groups[group].Switchover
	w.mu.Lock()
	quiet := w.quiet
	w.mu.Unlock()
	if quiet || !o.Open() || o.Step(failover.StepVerify).State != failover.StepRunning || s.Groups[group].Apps[o.To].Health == failover.HealthUp {
		return failover.Command{}, false
	}
	r := &failover.Reports{About: map[string]failover.About{}}
	for _, m := range s.Members {
		r.About[m.Name] = failover.About{Boot: 1, Seq: w.number(), Served: s.ZoneIndex()}
		r.Reports = append(r.Reports, failover.Report{Group: group, App: o.To, Watcher: m.Name, Boot: 1, Seq: w.number(),
			Revision: s.Groups[group].Apps[o.To].Revision, Verdict: failover.VerdictUp})
	}
	return failover.Command{Reports: r}, true
}

// lead lets the runner lead until the returned func is called, which waits for its hands.
func (w *world) lead() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	w.journal.deposed(false)
	go func() {
		defer close(done)
		w.runner.Lead(ctx, w.journal)
	}()
	return func() { cancel(); <-done }
}

// kill makes main dead and lets all watchers find it so: a failover is open when it returns.
func (w *world) kill() {
	w.app("main", func(a *fakeApp) { a.dead = true })
	w.app("standby", func(a *fakeApp) { a.streaming = false })
	w.see("main", failover.VerdictDown)
}

func (w *world) request() uint64 {
	return w.must(failover.Command{By: "uid:0", Request: &failover.Request{Group: group}}).Switchover
}

// until waits for a condition on the state, at most five fake minutes, and then until all hands are where that state puts
// them: an attempt that is journaled is one whose program runs.
func (w *world) until(what string, ok func(*failover.GroupState) bool) *failover.GroupState {
	w.t.Helper()
	late := time.After(5 * time.Minute)
	for {
		changed := w.journal.Watch()
		if g := w.journal.State().Groups[group]; ok(g) {
			synctest.Wait()
			return g
		}
		select {
		case <-changed:
		case <-late:
			w.t.Fatalf("not within five minutes: %s; %s", what, w.story())
		}
	}
}

// ended waits for the end of the switchover that is open or about to open.
func (w *world) ended() *failover.Switchover {
	w.t.Helper()
	n := len(w.journal.State().Groups[group].History)
	g := w.until("end of the switchover", func(g *failover.GroupState) bool { return len(g.History) > n && !g.Switchover.Open() })
	return g.History[n]
}

// rest lets fake time pass.
func (w *world) rest(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (w *world) story() string {
	var b strings.Builder
	for _, e := range w.journal.State().Events {
		fmt.Fprintf(&b, "\n  %s %s", e.Type, e.Text)
	}
	return b.String()
}

func states(o *failover.Switchover) string {
	var list []string
	for _, s := range o.Steps {
		list = append(list, fmt.Sprintf("%s=%s", s.Name, s.State))
	}
	return strings.Join(list, " ")
}
