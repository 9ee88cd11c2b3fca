package switchover

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// rehearsal is what an observer of the world finds, one line each, sorted.
func rehearsal(w *world) []string {
	o := NewObserver(w.runner.opts, func(Sight) {})
	o.out.databases = w.runner.out.databases
	var lines []string
	for _, f := range o.Rehearse(context.Background(), w.journal.State(), group) {
		lines = append(lines, fmt.Sprintf("%s %s ok=%t certain=%t: %s", f.App, f.Check, f.OK, f.Certain, f.Detail))
	}
	slices.Sort(lines)
	return lines
}

func TestRehearsalOfAHealthyGroupFindsNoFaultAndChangesNothing(t *testing.T) {
	play(t, nil, func(w *world) {
		wantCalls(t, rehearsal(w),
			"main database ok=true certain=false: it is the primary and takes writes",
			"main maintenance ok=true certain=false: it is off",
			"standby database ok=true certain=false: it is a replica and receives",
			"standby maintenance ok=true certain=false: it is on")
		wantCalls(t, w.called(0))
	})
}

// What is not as it should be just now is told, and is no certain fault: the rules judge roles, streams and silence by themselves.
func TestRehearsalTellsWhatIsNotAsItShouldBe(t *testing.T) {
	play(t, func(g *failover.Group) { g.Apps[0].Maintenance.Check = nil }, func(w *world) {
		w.app("main", func(a *fakeApp) { a.frozen = true })
		w.app("standby", func(a *fakeApp) { a.streaming = false; a.broken["check"] = true })
		wantCalls(t, rehearsal(w),
			"main database ok=false certain=false: it is the primary and frozen",
			"main maintenance ok=true certain=false: has no check; on and off are not tried, since that would change something",
			"standby database ok=false certain=false: it is a replica and does not receive",
			"standby maintenance ok=false certain=false: /bin/ctl exited 3: neither yes nor no")
		w.app("main", func(a *fakeApp) { a.role = failover.RoleReplica })
		w.app("standby", func(a *fakeApp) { a.role = failover.RolePrimary; a.broken["check"] = false })
		wantCalls(t, rehearsal(w),
			"main database ok=false certain=false: it should be the primary, it is replica",
			"main maintenance ok=true certain=false: has no check; on and off are not tried, since that would change something",
			"standby database ok=false certain=false: it should be a replica, it is primary",
			"standby maintenance ok=true certain=false: it is on")
	})
}

// An app that answers and does not let us in will not do so in the switchover either.
func TestRehearsalIsCertainOfADeniedCheck(t *testing.T) {
	for code, certain := range map[int]bool{401: true, 403: true, 500: false} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }))
		o := NewObserver(Options{Watcher: "w1", Dir: "/", Log: zerolog.Nop()}, func(Sight) {})
		app := &failover.App{Name: "main", Maintenance: &failover.Maintenance{Check: &failover.Action{HTTP: &failover.HTTP{URL: server.URL}}}}
		list := o.rehearseMaintenance(t.Context(), app, identity{})
		server.Close()
		if len(list) != 1 || list[0].OK || list[0].Certain != certain {
			t.Errorf("%d: %+v", code, list)
		}
	}
}

// rehearsedServer is a driver that has something to say.
type rehearsedServer struct{ *fakeServer }

func (d *rehearsedServer) Rehearse(_ context.Context, writer bool) []failover.Finding {
	return []failover.Finding{{Check: "privileges", Detail: fmt.Sprintf("writer %t", writer), Certain: true}}
}

// A driver is asked with a login of its own, and told which part its database plays.
func TestRehearsalLogsInAnewAndAsksTheDriver(t *testing.T) {
	play(t, served, func(w *world) {
		s := onServers(w)
		open := w.runner.out.databases
		w.runner.out.databases = func(o Opening) (Database, error) {
			db, err := open(o)
			return &rehearsedServer{db.(*fakeServer)}, err
		}
		got := rehearsal(w)
		for _, line := range []string{"main privileges ok=false certain=true: writer true", "standby privileges ok=false certain=true: writer false"} {
			if !slices.Contains(got, line) {
				t.Errorf("not found: %s; found %q", line, got)
			}
		}
		if s.opened != 2 || s.fresh != 2 {
			t.Errorf("%d opened, %d with a login of their own", s.opened, s.fresh)
		}
	})
}
