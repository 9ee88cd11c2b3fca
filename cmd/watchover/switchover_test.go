package main

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/internal/control"
	"github.com/watchover-ha/watchover/internal/control/controltest"
	"github.com/watchover-ha/watchover/pkg/client"
	"github.com/watchover-ha/watchover/pkg/failover"
)

func TestDryRun(t *testing.T) {
	b := up()
	socket := serving(t, b)
	code, stdout, _ := run(t, socket, "", "switchover", "shop", "--dry-run")
	if code != exitDone || !strings.HasPrefix(stdout, "planned switchover of shop to standby:\n  1  maintenance-on    main\n") {
		t.Errorf("exit %d, %q", code, stdout)
	}
	if code, stdout, _ := run(t, socket, "", "switchover", "shop", "--to", "main", "--dry-run"); code != exitDone || stdout != "main is already active: there is nothing to do\n" {
		t.Errorf("to the active app: exit %d, %q", code, stdout)
	}
	if code, _, stderr := run(t, socket, "", "switchover", "shop", "--to", "mars", "--dry-run"); code != exitUsage || !strings.Contains(stderr, `"mars"`) {
		t.Errorf("to an unknown app: exit %d, %q", code, stderr)
	}
	b.Verdicts("shop", "standby", failover.VerdictDown, "timeout")
	code, stdout, stderr := run(t, socket, "", "switchover", "shop", "--dry-run")
	if code != exitRefused || stdout != "" || !strings.Contains(stderr, "refused by no_ready_target: ") {
		t.Errorf("no ready target: exit %d, %q, %q", code, stdout, stderr)
	}
	code, stdout, _ = run(t, socket, "", "switchover", "shop", "--dry-run", "-o", "json")
	var plan client.DryRun
	if err := json.Unmarshal([]byte(stdout), &plan); err != nil || code != exitRefused || plan.Refused == "" {
		t.Errorf("as JSON: exit %d, %q", code, stdout)
	}
	if code, stdout, _ := run(t, socket, "", "switchover", "shop", "--dry-run", "--force"); code != exitDone || !strings.HasPrefix(stdout, "forced switchover") {
		t.Errorf("forced: exit %d, %q", code, stdout)
	}
	if n := len(b.Proposed()); n != 0 {
		t.Errorf("%d commands were proposed", n)
	}
}

// What force may lose is said before it is done, also to who wants the answer in JSON, which is the answer alone.
func TestForceShowsTheRiskInJSONToo(t *testing.T) {
	socket := serving(t, up())
	code, stdout, stderr := run(t, socket, "", "switchover", "shop", "--force", "--yes", "--wait=false", "-o", "json")
	if code != exitDone || !json.Valid([]byte(stdout)) || !strings.HasPrefix(stderr, "planned switchover of shop to standby:\n") {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
}

func TestRiskIsShown(t *testing.T) {
	bytes, seconds := int64(4096), 1.5
	plan := client.DryRun{Kind: "forced", To: "standby", Steps: []client.Step{{Name: "promote", App: "standby"}}, AtRisk: client.AtRisk{Bytes: &bytes, Seconds: &seconds}}
	if text := (&ui{}).planText("shop", &plan); !strings.Contains(text, "at risk: at least 4.0 KiB, up to 1.5 s of writes") {
		t.Errorf("got %q", text)
	}
	plan.AtRisk = client.AtRisk{}
	if text := (&ui{}).planText("shop", &plan); !strings.Contains(text, "at risk: unknown") {
		t.Errorf("got %q", text)
	}
	plan.Kind = "planned"
	if text := (&ui{}).planText("shop", &plan); strings.Contains(text, "at risk") {
		t.Errorf("a planned one with nothing known: %q", text)
	}
}

func TestPlanTellsWhatIsLeftOut(t *testing.T) {
	plan := client.DryRun{Kind: "planned", To: "standby", Steps: []client.Step{
		{Name: "maintenance-on", App: "main", State: "skipped"}, {Name: "promote", App: "standby", State: "pending"},
	}}
	want := "  1  maintenance-on    main (left out)\n  2  promote           standby\n"
	if text := (&ui{}).planText("shop", &plan); !strings.HasSuffix(text, want) {
		t.Errorf("got %q", text)
	}
}

func TestConfirm(t *testing.T) {
	for _, test := range []struct {
		answer string
		want   int
		opened int
	}{
		{"y\n", exitDone, 1}, {"YES\n", exitDone, 1}, {"n\n", exitFailed, 0}, {"\n", exitFailed, 0}, {" ", exitFailed, 0}, {"yep\n", exitFailed, 0},
	} {
		b := up()
		code, _, stderr := run(t, serving(t, b), test.answer, "switchover", "shop", "--wait=false")
		if code != test.want || len(b.Proposed()) != test.opened || !strings.Contains(stderr, "planned switchover of shop to standby") {
			t.Errorf("%q: exit %d, %d proposed, %q", test.answer, code, len(b.Proposed()), stderr)
		}
		if test.opened == 1 && b.Proposed()[0].Request.To != "standby" {
			t.Errorf("what was shown is not what was asked for: %+v", b.Proposed()[0].Request)
		}
	}
	t.Run("refused before asking", func(t *testing.T) {
		b := up()
		b.Verdicts("shop", "standby", failover.VerdictDown, "timeout")
		if code, _, stderr := run(t, serving(t, b), "y\n", "switchover", "shop"); code != exitRefused || strings.Contains(stderr, "[y/N]") {
			t.Errorf("exit %d, %q", code, stderr)
		}
	})
	t.Run("already active", func(t *testing.T) {
		b := up()
		for _, args := range [][]string{{"--yes"}, {"--yes", "-o", "json"}} {
			if code, stdout, stderr := run(t, serving(t, b), "", append([]string{"switchover", "shop", "--to", "main"}, args...)...); code != exitDone || !strings.Contains(stdout, "already") {
				t.Errorf("exit %d, %q, %q", code, stdout, stderr)
			}
		}
		if code, _, stderr := run(t, serving(t, b), "y\n", "switchover", "shop", "--to", "main"); code != exitDone || strings.Contains(stderr, "[y/N]") {
			t.Errorf("on a terminal: exit %d, %q", code, stderr)
		}
	})
}

// following starts a switchover that is waited for and returns when the order was given.
func following(t *testing.T, b *controltest.Backend, args ...string) (s *session, cancel context.CancelFunc, code chan int) {
	t.Helper()
	s = newSession(serving(t, b), "")
	ctx, cancel := context.WithCancel(t.Context())
	code = make(chan int, 1)
	go func() { code <- execute(ctx, append([]string{"switchover", "shop", "--yes"}, args...), &s.ui) }()
	waitFor(t, func() bool { return b.State().Groups["shop"].Switchover != nil })
	return s, cancel, code
}

func waitFor(t *testing.T, what func() bool) {
	t.Helper()
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !what() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatal("it did not happen")
		}
	}
}

// end closes the open switchover with a result.
func end(b *controltest.Backend, result failover.SwitchoverResult, change func(*failover.Switchover)) {
	b.Edit(func(s *failover.State) {
		g := s.Groups["shop"]
		w, at := g.Switchover, controltest.Start.Add(time.Minute)
		w.Result, w.EndedAt = result, &at
		if change != nil {
			change(w)
		}
		g.History, g.Switchover = append(g.History, w), nil
	})
}

func TestFollow(t *testing.T) {
	for _, test := range []struct {
		name   string
		end    func(*controltest.Backend)
		code   int
		out    []string // in this order
		stderr string
	}{
		{"done", func(b *controltest.Backend) { end(b, failover.ResultDone, nil) }, exitDone, []string{"standby is active: switchover 4 done in"}, ""},
		{"with exceptions", func(b *controltest.Backend) {
			end(b, failover.ResultDoneWithExceptions, func(w *failover.Switchover) { w.Exceptions = []string{"w3 does not answer"} })
		}, exitFailed, nil, "done_with_exceptions; w3 does not answer"},
		{"undone", func(b *controltest.Backend) {
			end(b, failover.ResultUndone, func(w *failover.Switchover) { w.Undoing = "promote failed" })
		}, exitFailed, []string{"undoing: promote failed"}, "undone: promote failed"},
		{"aborted", func(b *controltest.Backend) { end(b, failover.ResultAborted, nil) }, exitFailed, nil, "aborted"},
		{"halted", func(b *controltest.Backend) {
			b.Edit(func(s *failover.State) {
				w := s.Groups["shop"].Switchover
				w.Result = failover.ResultHalted
				w.Steps[1].State, w.Steps[1].Error = failover.StepFailed, "exit status 3"
			})
		}, exitFailed, []string{"maintenance-off", "failed", "exit status 3"}, "halted at maintenance-off on standby: exit status 3"},
		{"overtaken by another", func(b *controltest.Backend) {
			end(b, failover.ResultDone, nil)
			b.Edit(func(s *failover.State) {
				g := s.Groups["shop"]
				later := *g.History[0]
				later.ID += 100
				g.History = append(g.History, &later)
			})
		}, exitDone, []string{"switchover 4 done in"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := up()
			s, cancel, code := following(t, b)
			defer cancel()
			b.Edit(func(s *failover.State) {
				step := &s.Groups["shop"].Switchover.Steps[0]
				at := controltest.Start
				step.State, step.StartedAt, step.Attempts = failover.StepRunning, &at, 1
			})
			waitFor(t, func() bool { return strings.Contains(s.stdout.String(), "running") })
			b.Edit(func(s *failover.State) {
				step := &s.Groups["shop"].Switchover.Steps[0]
				at := controltest.Start.Add(250 * time.Millisecond)
				step.State, step.EndedAt = failover.StepDone, &at
			})
			waitFor(t, func() bool { return strings.Contains(s.stdout.String(), "0.250 s") })
			test.end(b)
			if got := <-code; got != test.code {
				t.Errorf("exit %d, want %d; %s", got, test.code, s.stderr.String())
			}
			rest := s.stdout.String()
			for _, want := range append([]string{"planned 4 of shop: main -> standby\n", "  maintenance-on    main             running", "  maintenance-on    main             done      0.250 s\n"}, test.out...) {
				_, after, ok := strings.Cut(rest, want)
				if !ok {
					t.Fatalf("missing %q in %q", want, s.stdout.String())
				}
				rest = after
			}
			if !strings.Contains(s.stderr.String(), test.stderr) {
				t.Errorf("got %q, want %q", s.stderr.String(), test.stderr)
			}
		})
	}
}

func TestFollowAsJSON(t *testing.T) {
	b := up()
	s, cancel, code := following(t, b, "-o", "json")
	defer cancel()
	end(b, failover.ResultDone, nil)
	var w client.Switchover
	if got := <-code; got != exitDone {
		t.Errorf("exit %d, %s", got, s.stderr.String())
	}
	if err := json.Unmarshal([]byte(s.stdout.String()), &w); err != nil || w.Result != "done" {
		t.Errorf("got %q", s.stdout.String())
	}
}

// TestStopWatching shows that Ctrl-C ends the watching alone and says so.
func TestStopWatching(t *testing.T) {
	b := up()
	s, cancel, code := following(t, b)
	waitFor(t, func() bool { return s.stdout.String() != "" })
	cancel()
	if got := <-code; got != exitFailed || !strings.Contains(s.stderr.String(), "goes on") {
		t.Errorf("exit %d, %q", got, s.stderr.String())
	}
	if len(b.Proposed()) != 1 || !b.State().Groups["shop"].Switchover.Open() {
		t.Error("the switchover was touched")
	}
}

func TestNoLeader(t *testing.T) {
	b := up()
	b.FailWith(errors.Join(control.ErrNoLeader))
	if code, _, stderr := run(t, serving(t, b), "", "switchover", "shop", "--yes"); code != exitNoLeader || !strings.Contains(stderr, "no leader") {
		t.Errorf("exit %d, %q", code, stderr)
	}
	b.FailWith(control.ErrUnknown)
	if code, _, stderr := run(t, serving(t, b), "", "switchover", "shop", "--yes"); code != exitFailed || !strings.Contains(stderr, "look at") {
		t.Errorf("exit %d, %q", code, stderr)
	}
}

func TestWatchStatus(t *testing.T) {
	b := up()
	s := newSession(serving(t, b), "")
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int, 1)
	go func() { code <- execute(ctx, []string{"status", "shop", "--watch"}, &s.ui) }()
	waitFor(t, func() bool { return strings.Contains(s.stdout.String(), "STEADY") })
	b.Verdicts("shop", "standby", failover.VerdictDown, "timeout")
	waitFor(t, func() bool { return strings.Contains(s.stdout.String(), "no_ready_target") })
	shown := strings.Count(s.stdout.String(), "seen by")
	b.EditLocal(func(l *control.Local) { l.Leader = "" }) // the state's index stays
	waitFor(t, func() bool { return strings.Contains(s.stdout.String(), "no leader") })
	if again := strings.Count(s.stdout.String(), "seen by"); shown != 2 || again != 3 {
		t.Errorf("shown %d times, then %d", shown, again)
	}
	cancel()
	if got := <-code; got != exitDone {
		t.Errorf("exit %d, %q", got, s.stderr.String())
	}
}

func TestCheck(t *testing.T) {
	socket := serving(t, up())
	for _, test := range []struct {
		args string
		code int
		want string
	}{
		{"check", checkOK, "OK - shop: main is up, armed|watchers=3 heard=3 'shop_armed'=1 'shop_ready'=1\n"},
		{"check shop", checkOK, "OK - shop: "},
		{"check shap", checkUnknown, "UNKNOWN - cannot find group \"shap\""},
		{"check -o json", checkOK, `{"watcher":"w1"`},
	} {
		if code, stdout, stderr := run(t, socket, "", strings.Fields(test.args)...); code != test.code || !strings.HasPrefix(stdout, test.want) || stderr != "" {
			t.Errorf("%s: exit %d, %q, %q", test.args, code, stdout, stderr)
		}
	}
	for _, args := range []string{"check --colour", "check a b"} {
		if code, _, stderr := run(t, socket, "", strings.Fields(args)...); code != checkUnknown || stderr == "" {
			t.Errorf("%s: exit %d, %q", args, code, stderr)
		}
	}
}

// TestCheckLineIsSafe shows that a reason cannot forge perfdata or further lines.
func TestCheckLineIsSafe(t *testing.T) {
	b := up()
	b.Verdicts("shop", "main", failover.VerdictDown, "a|b=1\nOK - c "+strings.Repeat("é", 2000))
	c := client.New(serving(t, b))
	defer c.Close()
	status, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	level, line := judge(status)
	if level != checkCritical || strings.Count(line, "|") != 1 || strings.Contains(line, "\n") || len(line) > checkLine+200 {
		t.Errorf("level %d, %d bytes, %q", level, len(line), line)
	}
}
