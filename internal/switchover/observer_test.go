package switchover

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// watched is an observer on the world's apps and the news it has told.
type watched struct {
	*world
	o *Observer

	mu   sync.Mutex // guards news
	news []Sight
}

func observe(t *testing.T, change func(*failover.Group), script func(*watched)) {
	t.Helper()
	play(t, change, func(w *world) {
		v := &watched{world: w}
		v.o = NewObserver(Options{Watcher: "w1", Dir: "/", Run: w.run, Log: zerolog.Nop()}, func(s Sight) {
			v.mu.Lock()
			defer v.mu.Unlock()
			v.news = append(v.news, s)
		})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			v.o.Follow(ctx, w.journal)
		}()
		defer func() { cancel(); <-done }()
		synctest.Wait()
		script(v)
	})
}

func (v *watched) told() []Sight {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.news)
}

func (v *watched) sight(app string) Sight {
	s, _ := v.o.Sight(group, app)
	return s
}

func TestObserverLooksAtOnce(t *testing.T) {
	observe(t, nil, func(v *watched) {
		main, standby := v.sight("main"), v.sight("standby")
		want(t, "main", main.Maintenance, failover.SwitchOff)
		want(t, "main's database", main.Database.Role, failover.RolePrimary)
		want(t, "standby", standby.Maintenance, failover.SwitchOn)
		want(t, "standby's database", standby.Database.Streaming, true)
		want(t, "news", len(v.told()), 2)
		if _, ok := v.o.Sight(group, "other"); ok {
			t.Error("an app that nobody knows is seen")
		}
	})
}

func TestObserverTellsOnlyNews(t *testing.T) {
	observe(t, nil, func(v *watched) {
		v.rest(time.Minute)
		want(t, "news of a quiet minute", len(v.told()), 2)
		if n := len(v.runs("main role")); n < 28 || n > 32 {
			t.Errorf("%d looks in a minute, want one each two seconds", n)
		}
		v.app("standby", func(a *fakeApp) { a.streaming = false })
		v.rest(3 * time.Second)
		want(t, "news", len(v.told()), 3)
		want(t, "streaming", v.sight("standby").Database.Streaming, false)
	})
}

// An undo is done on main: what was seen before says nothing of how it is now, so it is looked at anew and told, though
// it looks the same. A look that was under way then does not count as one that came after.
func TestAnUndoIsLookedAtAnew(t *testing.T) {
	observe(t, nil, func(v *watched) {
		v.rest(time.Minute)
		stop := v.lead()
		defer func() { stop() }()
		v.app("standby", func(a *fakeApp) { a.broken["catch_up"] = true })
		v.request()
		v.ended()
		index := v.journal.State().Groups[group].Apps["main"].Undone
		if index == 0 {
			t.Fatal("no undo was noted")
		}
		v.rest(time.Second)
		want(t, "seen since", v.sight("main").Undone, index)
		last := v.told()
		at := slices.IndexFunc(last, func(s Sight) bool { return s.App == "main" && s.Undone == index })
		if at < 0 || last[at].Maintenance != failover.SwitchOff || last[at].Database.Frozen {
			t.Errorf("told: %+v", last)
		}
	})
}

func TestObserverBoundsALook(t *testing.T) {
	observe(t, nil, func(v *watched) {
		v.app("main", func(a *fakeApp) { a.hangs = true })
		v.rest(10 * time.Second)
		main := v.sight("main")
		want(t, "maintenance", main.Maintenance, failover.SwitchUnknown)
		want(t, "role", main.Database.Role, failover.RoleUnknown)
		want(t, "id is remembered", main.Database.ID, "db1")
		if n := len(v.runs("standby role")); n < 5 {
			t.Errorf("%d looks at standby meanwhile", n)
		}
	})
}

func TestOutageMakesEvidence(t *testing.T) {
	observe(t, nil, func(v *watched) {
		v.rest(20 * time.Second)
		v.app("main", func(a *fakeApp) { a.dead = true })
		v.o.Failing(group, time.Now())
		standby := v.sight("standby")
		want(t, "until outage", standby.Database.UntilOutage, true)
		n := len(v.told())
		v.o.Failing(group, time.Now())
		want(t, "telling it again is no news", len(v.told()), n)
		v.app("standby", func(a *fakeApp) { a.streaming = false })
		v.rest(20 * time.Second)
		want(t, "until outage, later", v.sight("standby").Database.UntilOutage, true)
		v.o.Failing(group, time.Time{})
		want(t, "after the outage", v.sight("standby").Database.UntilOutage, false)
	})
}

// An app that fails while its database lives on and takes writes from others is no outage for its replica: one whose stream
// breaks then is behind, also when the database dies at last.
func TestDatabaseThatOutlivesItsApp(t *testing.T) {
	for name, breaks := range map[string]bool{"stream breaks long before the database dies": true, "stream breaks as the database dies": false} {
		t.Run(name, func(t *testing.T) {
			observe(t, nil, func(v *watched) {
				v.app("standby", func(a *fakeApp) { a.near = true })
				v.rest(20 * time.Second)
				v.o.Failing(group, time.Now())
				want(t, "until outage, before the database was looked at again", v.sight("standby").Database.UntilOutage, true)
				v.rest(time.Minute)
				want(t, "until outage, while the database lives", v.sight("standby").Database.UntilOutage, false)
				if breaks {
					v.app("standby", func(a *fakeApp) { a.streaming = false })
				}
				v.rest(8 * time.Minute)
				v.app("main", func(a *fakeApp) { a.hangs = true })
				v.app("standby", func(a *fakeApp) { a.streaming = false })
				v.rest(4 * time.Second)
				d := v.sight("standby").Database
				want(t, "until outage", d.UntilOutage, !breaks)
				if few := *d.RiskSeconds < 6; few == breaks {
					t.Errorf("%.1f seconds at risk", *d.RiskSeconds)
				}
				v.app("main", func(a *fakeApp) { a.hangs = false })
				v.rest(4 * time.Second)
				want(t, "until outage, when the database answers again", v.sight("standby").Database.UntilOutage, false)
			})
		})
	}
}

// A machine that shuts down ends its app first. That the stream is gone then makes the writer's database be looked at at once,
// so that the replica is ready again without waiting for that look's turn.
func TestBrokenStreamHasTheWriterLookedAt(t *testing.T) {
	slowly := func(g *failover.Group) { g.Probing.Interval = 20 * time.Second }
	observe(t, slowly, func(v *watched) {
		v.rest(time.Minute)
		v.o.Failing(group, time.Now())
		v.rest(30 * time.Second) // the database answers meanwhile
		v.app("main", func(a *fakeApp) { a.dead = true })
		v.app("standby", func(a *fakeApp) { a.streaming = false })
		for v.sight("standby").Database.Streaming {
			v.rest(100 * time.Millisecond)
		}
		v.rest(200 * time.Millisecond)
		want(t, "until outage", v.sight("standby").Database.UntilOutage, true)
		n := len(v.runs("main role"))
		v.rest(time.Minute)
		if looks := len(v.runs("main role")) - n; looks > 4 {
			t.Errorf("%d looks in a minute after that, want one each twenty seconds", looks)
		}
	})
}

func TestChangedPolicyIsObserved(t *testing.T) {
	observe(t, nil, func(v *watched) {
		v.app("main", func(a *fakeApp) { a.hangs = true }) // a look is running while its app is changed
		for len(v.runs("main role")) < 2 {
			v.rest(50 * time.Millisecond)
		}
		n := len(v.told())
		policy := *v.journal.State().Policy
		policy.Groups = slices.Clone(policy.Groups)
		policy.Groups[0].Probing.Interval = 5 * time.Second
		policy.Groups[0].Apps = slices.Clone(policy.Groups[0].Apps)
		policy.Groups[0].Apps[1].Maintenance = nil
		v.must(failover.Command{SetPolicy: &failover.SetPolicy{Revision: v.journal.State().PolicyRevision, Policy: policy}})
		synctest.Wait()
		for _, s := range v.told()[n:] {
			if s.App == "main" {
				t.Errorf("a look that was called off is news: %+v", s)
			}
		}
		v.app("main", func(a *fakeApp) { a.hangs = false })
		v.rest(12 * time.Second)
		want(t, "standby's switch", v.sight("standby").Maintenance, failover.SwitchUnknown)
		want(t, "main's switch", v.sight("main").Maintenance, failover.SwitchOff)
		policy.Groups = nil
		v.must(failover.Command{SetPolicy: &failover.SetPolicy{Revision: v.journal.State().PolicyRevision, Policy: policy}})
		synctest.Wait()
		looks := len(v.runs("main role"))
		v.rest(time.Minute)
		want(t, "looks at an app that is gone", len(v.runs("main role")), looks)
	})
}

// A change of rules or rhythm in the middle of an outage does not take away what was seen before it; another database does.
func TestEvidenceOutlivesAChangeOfRules(t *testing.T) {
	observe(t, nil, func(v *watched) {
		v.rest(20 * time.Second)
		v.app("main", func(a *fakeApp) { a.dead = true })
		v.app("standby", func(a *fakeApp) { a.streaming = false })
		v.o.Failing(group, time.Now())
		v.rest(5 * time.Second)
		n := len(v.told())
		change := func(f func(*failover.Group)) {
			policy := *v.journal.State().Policy
			policy.Groups = slices.Clone(policy.Groups)
			policy.Groups[0].Apps = slices.Clone(policy.Groups[0].Apps)
			f(&policy.Groups[0])
			v.must(failover.Command{SetPolicy: &failover.SetPolicy{Revision: v.journal.State().PolicyRevision, Policy: policy}})
			synctest.Wait()
			v.rest(10 * time.Second)
		}
		change(func(g *failover.Group) { g.Failover.Cooldown, g.Probing.Interval = time.Hour, 3*time.Second })
		want(t, "news of other rules", len(v.told()), n)
		want(t, "until outage, with other rules", v.sight("standby").Database.UntilOutage, true)
		want(t, "main's id", v.sight("main").Database.ID, "db1")
		change(func(g *failover.Group) {
			d := *g.Apps[1].Database.Exec
			d.Role = append(slices.Clone(d.Role), "-v")
			g.Apps[1].Database = &failover.Database{Kind: "exec", Exec: &d}
		})
		want(t, "until outage, of another database", v.sight("standby").Database.UntilOutage, false)
	})
}

func TestTenseGroupIsLookedAtInTheProbesRhythm(t *testing.T) {
	without := func(g *failover.Group) {
		for i := range g.Apps {
			g.Apps[i].Database = nil
		}
		g.Failover.Mode = failover.ModeManual
	}
	observe(t, without, func(v *watched) {
		v.rest(time.Minute)
		calm := len(v.runs("standby check"))
		if calm < 11 || calm > 14 {
			t.Errorf("%d looks in a calm minute, want one each five seconds", calm)
		}
		v.see("main", failover.VerdictDown)
		synctest.Wait()
		want(t, "look at once", len(v.runs("standby check")), calm+1)
		v.rest(20 * time.Second)
		if n := len(v.runs("standby check")) - calm; n < 10 || n > 12 {
			t.Errorf("%d looks in twenty tense seconds, want one each two seconds", n)
		}
	})
}

// A look that was begun before an app's role changed does not count, and the next one does not wait for its turn.
func TestChangedRoleIsLookedAtAnew(t *testing.T) {
	observe(t, nil, func(v *watched) {
		v.app("standby", func(a *fakeApp) { a.slow["role"] = 500 * time.Millisecond })
		for n := len(v.runs("standby role")); len(v.runs("standby role")) == n; {
			v.rest(10 * time.Millisecond)
		}
		v.app("standby", func(a *fakeApp) { a.maintenance = false })
		v.o.Anew(group, "standby") // in the middle of a look
		if s := v.sight("standby"); s.Database != nil || s.Maintenance != failover.SwitchUnknown {
			t.Errorf("an old sight is kept: %+v", s)
		}
		v.o.Anew(group, "other") // nobody knows it
		v.rest(600 * time.Millisecond)
		if s := v.sight("standby"); s.Database != nil {
			t.Errorf("a look from before counts: %+v", s)
		}
		v.rest(500 * time.Millisecond)
		if s := v.sight("standby"); s.Database == nil || s.Maintenance != failover.SwitchOff {
			t.Errorf("not looked at again at once: %+v", s)
		}
	})
}
