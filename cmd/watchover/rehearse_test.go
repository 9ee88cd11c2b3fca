package main

import (
	"strings"
	"testing"

	"github.com/watchover-ha/watchover/internal/control/controltest"
	"github.com/watchover-ha/watchover/pkg/failover"
)

func TestRehearse(t *testing.T) {
	b := up()
	socket := serving(t, b)
	ok := failover.Finding{Watcher: "w1", App: "main", Check: "maintenance", OK: true, Detail: "it is off"}
	b.SetFindings(ok)
	code, stdout, stderr := run(t, socket, "", "rehearse", "shop")
	if code != exitDone || !strings.HasPrefix(stdout, "shop is ready: every check passed\n") || stderr != "" {
		t.Errorf("exit %d, %q %q", code, stdout, stderr)
	}
	b.SetFindings(ok, failover.Finding{Watcher: "w2", App: "standby", Check: "privileges", Detail: "may not promote", Certain: true})
	code, stdout, stderr = run(t, socket, "", "rehearse", "shop")
	if want := "shop is not ready, for every \"no\" below\nno   w2  privileges of standby\n     may not promote\n"; code != exitFailed || !strings.HasPrefix(stdout, want) || stderr != "" {
		t.Errorf("exit %d, %q %q", code, stdout, stderr)
	}
	code, stdout, _ = run(t, socket, "", "rehearse", "shop", "-o", "json")
	if code != exitFailed || !strings.Contains(stdout, `"ready":false`) || !strings.Contains(stdout, `"detail":"may not promote"`) {
		t.Errorf("exit %d, %q", code, stdout)
	}
}

// TestRehearsePlan: a plan that a rule would refuse is no readiness, though every check on the apps passed.
func TestRehearsePlan(t *testing.T) {
	b := up()
	b.Verdicts("shop", "standby", failover.VerdictDown, "connection refused")
	code, stdout, _ := run(t, serving(t, b), "", "rehearse", "shop")
	if code != exitFailed || !strings.Contains(stdout, "plan\n     no_ready_target: standby: probes: connection refused") {
		t.Errorf("exit %d, %q", code, stdout)
	}
}

// fenced is a group whose old primary is kept fenced after a planned switchover.
func fenced(t *testing.T) *controltest.Backend {
	t.Helper()
	b := up()
	b.Edit(func(s *failover.State) {
		p := &s.Policy.Groups[0]
		g := s.Groups["shop"]
		for i := range p.Apps {
			p.Apps[i].Database = &failover.Database{Kind: "postgres"}
		}
		g.Active, g.Writer, g.Settled = "standby", "standby", true
		g.Apps["main"].Mark = &failover.Mark{Index: 1}
		for _, r := range g.Apps["standby"].Reports {
			r.Database = &failover.Observation{Role: failover.RolePrimary}
		}
	})
	return b
}

func TestReprotect(t *testing.T) {
	b := fenced(t)
	socket := serving(t, b)
	code, stdout, stderr := run(t, socket, "", "reprotect", "shop", "--wait=false")
	if code != exitDone || stdout != "the old primary of shop is being made a replica\n" || stderr != "" {
		t.Errorf("exit %d, %q %q", code, stdout, stderr)
	}
	if m := b.State().Groups["shop"].Apps["main"].Mark; !m.Reprotect.Open() || !strings.HasPrefix(m.Reprotect.By, "uid:") {
		t.Errorf("ordered: %+v", m.Reprotect)
	}
	code, _, stderr = run(t, socket, "", "reprotect", "shop")
	if code != exitRefused || !strings.Contains(stderr, "main is being reprotected since") {
		t.Errorf("exit %d, %q", code, stderr)
	}
}

func TestReprotectIsFollowedToItsEnd(t *testing.T) {
	verified := func(a *failover.AppState) { a.Mark = nil }
	broken := func(a *failover.AppState) { a.Mark.Reprotect.Ended, a.Mark.Reprotect.Error = true, "main has 3 more" }
	for name, tc := range map[string]struct {
		end  func(*failover.AppState)
		json bool
		code int
		want string
	}{
		"verified":         {verified, false, exitDone, "main is a verified replica; shop is protected again\n"},
		"failed":           {broken, false, exitFailed, "watchover: cannot reprotect main: main has 3 more\n"},
		"verified in JSON": {verified, true, exitDone, "}\n"},
		"failed in JSON":   {broken, true, exitFailed, "watchover: cannot reprotect main: main has 3 more\n"},
	} {
		t.Run(name, func(t *testing.T) {
			b := fenced(t)
			socket := serving(t, b)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for {
					news := b.Watch()
					if b.State().Groups["shop"].Apps["main"].Mark.Reprotect.Open() {
						break
					}
					<-news
				}
				b.Edit(func(s *failover.State) { tc.end(s.Groups["shop"].Apps["main"]) })
			}()
			args := []string{"reprotect", "shop"}
			if tc.json {
				args = append(args, "-o", "json")
			}
			code, stdout, stderr := run(t, socket, "", args...)
			<-ended
			if code != tc.code || !strings.HasSuffix(stdout+stderr, tc.want) || tc.json && !strings.HasPrefix(stdout, "{") {
				t.Errorf("exit %d, %q %q", code, stdout, stderr)
			}
		})
	}
}
