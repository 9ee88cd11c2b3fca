package control_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/internal/control"
	"github.com/watchover-ha/watchover/internal/control/controltest"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// scrape returns the metrics' lines without comments.
func scrape(t *testing.T, b *controltest.Backend) func() []string {
	t.Helper()
	ask := startWeb(t, b)
	return func() []string {
		t.Helper()
		response, text := ask("GET", "/metrics")
		if response.StatusCode != 200 {
			t.Fatalf("%d %s", response.StatusCode, text)
		}
		return slices.DeleteFunc(strings.Split(text, "\n"), func(line string) bool { return line == "" || line[0] == '#' })
	}
}

func wantLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("missing %s\nin\n%s", line, strings.Join(got, "\n"))
		}
	}
}

func TestMetrics(t *testing.T) {
	b := up()
	b.Verdicts("shop", "standby", failover.VerdictDown, "x")
	b.Commit(failover.Command{By: "uid:0", Pause: &failover.PauseOrder{}})
	lag, seconds, expires := int64(7), 0.5, time.Unix(2000, 0)
	b.EditLocal(func(l *control.Local) {
		l.FileDiffers = true
		l.Certificates = []control.Certificate{{Name: "node", Expires: time.Unix(1000, 0)}, {Name: "node", Expires: time.Unix(1, 0)}}
		l.Databases = map[string]map[string]failover.Observation{"shop": {"standby": {Role: failover.RoleReplica, LagBytes: &lag, LagSeconds: &seconds}}}
	})
	b.Edit(func(s *failover.State) {
		s.Policy.Groups[0].Apps[1].Database = &failover.Database{Kind: "exec"}
		s.Groups["shop"].Apps["main"].Reports["w2"].Expires = &expires
		s.Groups["shop"].Apps["main"].Reports["w3"].Verdict = failover.VerdictUnknown
	})
	wantLines(t, scrape(t, b)(),
		`watchover_build_info{version="0.1.0"} 1`,
		`watchover_config_differs 1`,
		`watchover_verdict{app="main",group="shop",watcher="w1"} 1`,
		`watchover_verdict{app="main",group="shop",watcher="w3"} -1`,
		`watchover_verdict{app="standby",group="shop",watcher="w1"} 0`,
		`watchover_app_health{app="main",group="shop"} 1`,
		`watchover_app_health{app="standby",group="shop"} 0`,
		`watchover_app_ready{app="main",group="shop"} 1`,
		`watchover_app_ready{app="standby",group="shop"} 0`,
		`watchover_group_active{app="main",group="shop"} 1`,
		`watchover_group_active{app="standby",group="shop"} 0`,
		`watchover_group_phase{group="shop",phase="steady"} 1`,
		`watchover_group_phase{group="shop",phase="halted"} 0`,
		`watchover_group_armed{group="shop"} 0`,
		`watchover_group_paused{group="shop"} 1`,
		`watchover_switchovers_total{group="shop",kind="failover",result="done"} 0`,
		`watchover_replication_lag_bytes{app="standby",group="shop"} 7`,
		`watchover_replication_lag_seconds{app="standby",group="shop"} 0.5`,
		`watchover_certificate_expiry_timestamp_seconds{name="node"} 1000`,
		`watchover_certificate_expiry_timestamp_seconds{name="shop/main"} 2000`,
	)
}

// TestSwitchoverMetrics shows that counts come from the state, that steps are observed once, and that switchovers from
// before the start are not observed again at every start.
func TestSwitchoverMetrics(t *testing.T) {
	ended := func(id uint64, at time.Time) *failover.Switchover {
		begun := at.Add(-200 * time.Millisecond)
		return &failover.Switchover{
			ID: id, Group: "shop", EndedAt: &at, Result: failover.ResultDone,
			Steps: []failover.Step{
				{Name: failover.StepPromote, State: failover.StepDone, StartedAt: &begun, EndedAt: &at},
				{Name: failover.StepFreeze, State: failover.StepSkipped},
			},
		}
	}
	b := up()
	now := time.Now()
	b.Edit(func(s *failover.State) {
		s.Groups["shop"].History = []*failover.Switchover{ended(5, now.Add(-time.Hour))}
	})
	read := scrape(t, b)
	for _, line := range read() {
		if strings.HasPrefix(line, "watchover_switchover_step_seconds") {
			t.Errorf("an old switchover was observed: %s", line)
		}
	}
	end := time.Unix(now.Add(time.Hour).Unix(), 0)
	b.Edit(func(s *failover.State) {
		g := s.Groups["shop"]
		g.History = append(g.History, ended(9, end))
		g.Counts = map[string]uint64{"failover/done": 41}
	})
	for range 2 {
		wantLines(t, read(),
			`watchover_switchover_step_seconds_count{result="done",step="promote"} 1`,
			`watchover_switchover_step_seconds_bucket{result="done",step="promote",le="0.25"} 1`,
			`watchover_switchover_step_seconds_bucket{result="done",step="promote",le="0.1"} 0`,
			`watchover_switchovers_total{group="shop",kind="failover",result="done"} 41`,
		)
	}
	for _, line := range read() {
		if strings.Contains(line, "freeze") {
			t.Errorf("a step that never ran was observed: %s", line)
		}
	}
}
