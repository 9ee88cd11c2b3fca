package failover

import (
	"io"
	"slices"
	"testing"
)

// after is the state of the group shop after a script's commands.
func after(t *testing.T, lines ...string) (*script, *GroupState) {
	t.Helper()
	s := &script{world: newWorld(t), plot: defaultPlot()}
	for _, line := range slices.Concat([]string{"init database tries=1 confirm=0s", "all-up"}, lines) {
		s.run(io.Discard, line)
	}
	return s, s.group("shop")
}

// mainIsLost fails over from a main that is out of reach.
var mainIsLost = []string{`report all main down "connection refused"`, "start maintenance-on", "start freeze",
	`fail maintenance-on "connection refused"`, `fail freeze "connection refused"`}

// What was begun may have been done, until it is lifted; a promotion and an undo lift it.
func TestMayBeFrozen(t *testing.T) {
	planned := []string{"request", "did maintenance-on", "start freeze"}
	promoted := slices.Concat(mainIsLost, []string{"did stop-replication promote maintenance-off"})
	for name, test := range map[string]struct {
		lines []string
		app   string
		want  bool
	}{
		"nothing yet":          {nil, "main", false},
		"begun":                {planned, "main", true},
		"failed":               {mainIsLost, "main", true},
		"undone":               {slices.Concat(planned, []string{"done-untold freeze", "abort", "did freeze maintenance-on"}), "main", false},
		"marked":               {promoted, "main", true},
		"promoted":             {promoted, "standby", false},
		"released":             {slices.Concat(planned, []string{"done-untold freeze", "abort", "start freeze", "fail freeze no", "did maintenance-on", "keep start main database", "keep done main database"}), "main", false},
		"an undo that failed":  {slices.Concat(planned, []string{"done-untold freeze", "abort", "start freeze", "fail freeze no", "did maintenance-on"}), "main", true},
		"and then its promise": {slices.Concat(planned, []string{"done-untold freeze", "abort", "start freeze", "fail freeze no", "did maintenance-on", "keep start main database"}), "main", true},
	} {
		if _, g := after(t, test.lines...); g.Apps[test.app].MayBeFrozen != test.want {
			t.Errorf("%s: %t", name, !test.want)
		}
	}
	// A keeper's freeze counts by itself, and a promotion of the app ends it.
	s, g := after(t, promoted...)
	g.Apps["main"].MayBeFrozen, g.Apps["standby"].MayBeFrozen = false, true
	s.run(io.Discard, "keep start main database")
	if !s.group("shop").Apps["main"].MayBeFrozen {
		t.Error("a keeper's freeze is not remembered")
	}
	s, g = after(t, slices.Concat(mainIsLost, []string{"did stop-replication"})...)
	g.Apps["standby"].MayBeFrozen = true
	s.run(io.Discard, "did promote")
	if s.group("shop").Apps["standby"].MayBeFrozen {
		t.Error("a promotion ends nothing")
	}
}

// A freeze that failed is made again by the keeper, unless the step itself makes it whole.
func TestRefreeze(t *testing.T) {
	_, g := after(t, mainIsLost...)
	if !g.Apps["main"].Mark.Refreeze {
		t.Error("a freeze that failed is not doubted")
	}
	s, _ := after(t, slices.Concat(mainIsLost, []string{"start stop-replication from=primary"})...)
	s.run(io.Discard, "start freeze")
	s.run(io.Discard, "done freeze")
	if g := s.group("shop"); g.Apps["main"].Mark.Refreeze || g.Switchover.Step(StepFreeze).State != StepDone {
		t.Errorf("the step has made it whole: %+v", g.Apps["main"].Mark)
	}
}

// Hands that open what an undo left closed hold a restore up like those that fence.
func TestRestoreWaitsForARelease(t *testing.T) {
	s, _ := after(t, "request", "did maintenance-on", "start freeze", "done freeze", "abort", "start freeze", "fail freeze no", "did maintenance-on")
	if app := s.s.keptNow(); app != "" {
		t.Errorf("hands on %s", app)
	}
	s.run(io.Discard, "keep start main database")
	if app := s.s.keptNow(); app != "main" {
		t.Errorf("hands on %q", app)
	}
}

// The next writer begins a timeline of its own, and another database has nothing to do with the one before.
func TestWriterIdentityIsOfOneWriter(t *testing.T) {
	s, g := after(t, "report all main up role=primary timeline=3")
	if g.WriterID != "db1" || g.WriterTimeline != 3 {
		t.Fatalf("%q on %d", g.WriterID, g.WriterTimeline)
	}
	p := s.plot.policy()
	p.Groups[0].Apps[0].Database.Exec.Role = []string{"/bin/other"}
	if r := s.apply(Command{SetPolicy: &SetPolicy{Revision: s.s.PolicyRevision, Policy: p}}); !r.Accepted {
		t.Fatal(r)
	}
	if g := s.group("shop"); g.WriterID != "" || g.WriterTimeline != 0 {
		t.Errorf("another database: %q on %d", g.WriterID, g.WriterTimeline)
	}
	if _, g = after(t, mainIsLost...); g.WriterTimeline != 1 {
		t.Errorf("forgotten in the outage: on %d", g.WriterTimeline)
	}
	_, g = after(t, slices.Concat(mainIsLost, []string{"did stop-replication", "start promote"})...)
	if g.Writer != "standby" || g.WriterID != "db1" || g.WriterTimeline != 0 {
		t.Errorf("%s: %q on %d", g.Writer, g.WriterID, g.WriterTimeline)
	}
}
