package switchover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// fakeServer is a database with a driver: the programs of the world, and a memory of what was there before and a position.
type fakeServer struct {
	*execDatabase
	s   *servers
	app string
}

// servers is what the fakes of a test share, in the test's bubble: attempts touch one at a time.
type servers struct {
	w        *world
	opened   int
	fresh    int   // of those opened, with a login of their own
	blind    error // of Found
	position string
	writer   error // of Position
	did      []string
}

func onServers(w *world) *servers {
	s := &servers{w: w, position: "0/100"}
	policy := shop().Groups[0]
	w.runner.out.databases = func(o Opening) (Database, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		s.opened++
		if o.Fresh {
			s.fresh++
		}
		exec := policy.App(o.Policy.DSN).Database
		return &fakeServer{newExecDatabase(w.runner.out, exec, identity{app: o.Policy.DSN, deadline: o.Deadline}), s, o.Policy.DSN}, nil
	}
	return s
}

// served makes every app's database one with a driver; its DSN is the app's name.
func served(g *failover.Group) {
	for i := range g.Apps {
		g.Apps[i].Database = &failover.Database{Kind: "postgres", DSN: g.Apps[i].Name}
	}
}

func (d *fakeServer) note(format string, args ...any) {
	d.s.w.mu.Lock()
	defer d.s.w.mu.Unlock()
	d.s.did = append(d.s.did, d.app+" "+fmt.Sprintf(format, args...))
}

func (d *fakeServer) Found(_ context.Context, step failover.StepName) (string, error) {
	return "before " + string(step), d.s.blind
}
func (d *fakeServer) Position(context.Context) (string, error) {
	if d.id.token == 0 {
		return "", errors.New("not begun") // it writes a record of its own
	}
	return d.s.position, d.s.writer
}
func (d *fakeServer) TellsFrozen() bool { return true }
func (d *fakeServer) Freeze(ctx context.Context) (string, error) {
	d.note("freeze")
	return d.execDatabase.Freeze(ctx)
}
func (d *fakeServer) Unfreeze(ctx context.Context, found string) (string, error) {
	d.note("unfreeze to %q", found)
	return d.execDatabase.Unfreeze(ctx, found)
}
func (d *fakeServer) CatchUp(ctx context.Context, position string) (string, error) {
	d.note("catch up to %s", position)
	return d.execDatabase.CatchUp(ctx, position)
}
func (d *fakeServer) ResumeReplication(ctx context.Context, found string) (string, error) {
	d.note("resume to %q", found)
	return d.execDatabase.ResumeReplication(ctx, found)
}

func told(w *world) {
	for _, name := range []string{"main", "standby"} {
		w.app(name, func(a *fakeApp) { a.tells = true })
	}
}

// What a step found goes into the journal with its start and comes back to whoever undoes it; the position goes from the
// freeze to the catch-up.
func TestFoundAndPositionAreJournaled(t *testing.T) {
	play(t, served, func(w *world) {
		s := onServers(w)
		told(w)
		w.app("standby", func(a *fakeApp) { a.broken = map[string]bool{"promote": true} })
		defer w.lead()()
		w.request()
		g := w.until("promotion", func(g *failover.GroupState) bool { return g.Switchover.Open() && g.Switchover.PastNoReturn() })
		for step, want := range map[failover.StepName][2]string{
			failover.StepFreeze: {"before freeze", "0/100"}, failover.StepCatchUp: {}, failover.StepStopReplication: {"before stop-replication", ""}} {
			if got := g.Switchover.Step(step); got.Found != want[0] || got.Position != want[1] {
				t.Errorf("%s: found %q, position %q", step, got.Found, got.Position)
			}
		}
		if want := []string{"main freeze", "standby catch up to 0/100"}; !slices.Equal(s.did, want) {
			t.Errorf("did %q, want %q", s.did, want)
		}
	})
}

func TestUndoGetsWhatWasFound(t *testing.T) {
	play(t, served, func(w *world) {
		s := onServers(w)
		told(w)
		w.app("standby", func(a *fakeApp) { a.deaf = map[string]bool{"stop": true} })
		defer w.lead()()
		w.request()
		if o := w.ended(); o.Result != failover.ResultUndone {
			t.Fatalf("%s: %s", o.Result, states(o))
		}
		for _, want := range []string{`standby resume to "before stop-replication"`, `main unfreeze to "before freeze"`} {
			if !slices.Contains(s.did, want) {
				t.Errorf("not done: %s; done: %q", want, s.did)
			}
		}
	})
}

// A step that could not see what its undo would need does not touch anything.
func TestNothingIsTouchedBlindly(t *testing.T) {
	play(t, served, func(w *world) {
		s := onServers(w)
		told(w)
		s.blind = errors.New("permission denied")
		defer w.lead()()
		w.request()
		o := w.ended()
		if o.Result != failover.ResultUndone || o.Step(failover.StepFreeze).State != failover.StepUndone {
			t.Errorf("%s: %s", o.Result, states(o))
		}
		if slices.Contains(s.did, "main freeze") {
			t.Errorf("done blindly: %q", s.did)
		}
	})
}

// Who wrote past the freeze is waited for too, as long as the old database answers; and one that still writes is not left.
func TestCatchUpAsksForThePositionAgain(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*servers, *world)
		want   string
		result failover.SwitchoverResult
	}{
		{"moved on", func(s *servers, _ *world) { s.position = "0/200" }, "standby catch up to 0/200", failover.ResultDone},
		{"dead since", func(s *servers, w *world) {
			s.position = "0/200"
			w.app("main", func(a *fakeApp) { a.dead = true })
		}, "standby catch up to 0/100", failover.ResultDone},
		{"still written", func(s *servers, _ *world) { s.writer = errors.New("a session is writing") }, "", failover.ResultUndone},
	} {
		t.Run(tc.name, func(t *testing.T) {
			play(t, func(g *failover.Group) {
				served(g)
				hook(g, failover.StepCatchUp, "before", "between")
			}, func(w *world) {
				s := onServers(w)
				told(w)
				w.onHook("between", func(context.Context) (int, error) { tc.change(s, w); return 0, nil })
				defer w.lead()()
				w.request()
				o := w.ended()
				if o.Result != tc.result || tc.want != "" && !slices.Contains(s.did, tc.want) {
					t.Errorf("%s: %s; done: %q", o.Result, states(o), s.did)
				}
			})
		})
	}
}

// An attempt looks and acts through one connection.
func TestOneConnectionForAnAttempt(t *testing.T) {
	play(t, served, func(w *world) {
		s := onServers(w)
		told(w)
		stop := w.lead()
		w.request()
		w.ended()
		stop()
		// freeze: its own; catch-up: its own and one to ask the old database again; stop and promote: their own and one to look
		// at the old database; and the keeper's first look at that, which is marked from then on.
		if s.opened != 8 {
			t.Errorf("%d connections were opened, want 8", s.opened)
		}
	})
}

// A release carries what is to be put back, for the keeper who does it later.
func TestReleaseGetsWhatWasFound(t *testing.T) {
	play(t, served, func(w *world) {
		s := onServers(w)
		told(w)
		w.app("main", func(a *fakeApp) { a.deaf = map[string]bool{"unfreeze": true} })
		w.app("standby", func(a *fakeApp) { a.deaf = map[string]bool{"stop": true} })
		defer w.lead()()
		w.request()
		w.until("release owed", func(g *failover.GroupState) bool { return g.Apps["main"].Release != nil })
		before := len(s.did)
		w.app("main", func(a *fakeApp) { a.deaf = nil })
		w.until("release done", func(g *failover.GroupState) bool { return g.Apps["main"].Release == nil })
		if !slices.Contains(s.did[before:], `main unfreeze to "before freeze"`) {
			t.Errorf("done: %q", s.did[before:])
		}
		w.rest(time.Second)
	})
}

// A freeze whose setting took and that was cut short before it ended the sessions is not done, whatever the database tells.
func TestFreezeThatWasCutShortIsMadeAgain(t *testing.T) {
	play(t, served, func(w *world) {
		onServers(w)
		told(w)
		stop := w.lead()
		w.app("main", func(a *fakeApp) { a.half["freeze"] = true })
		w.request()
		w.until("freeze begins", func(g *failover.GroupState) bool { return g.Switchover.Step(failover.StepFreeze).Open != "" })
		w.crash(stop)
		want(t, "tells that it is frozen", w.is("main").frozen, true)
		w.app("main", func(a *fakeApp) { a.half["freeze"] = false })
		defer w.lead()()
		want(t, "result", w.ended().Result, failover.ResultDone)
		want(t, "freezes", len(w.runs("main freeze")), 2)
	})
}
