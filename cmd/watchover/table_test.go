package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/watchover-ha/watchover/internal/control"
	"github.com/watchover-ha/watchover/internal/control/controltest"
	"github.com/watchover-ha/watchover/pkg/client"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// scenes are clusters as a person may find them.
var scenes = []struct {
	name  string
	check int // exit code of check
	make  func() *controltest.Backend
}{
	{"steady", checkOK, up},
	{"minor", checkOK, func() *controltest.Backend { // armed and ready: nothing to be woken for
		b := up()
		b.Edit(func(s *failover.State) {
			s.Members[2].About.Differs = true
			for _, r := range s.Groups["shop"].Apps["standby"].Reports {
				r.Maintenance = failover.SwitchOff
			}
		})
		return b
	}},
	{"empty", checkWarning, func() *controltest.Backend { return controltest.New(controltest.Policy()) }},
	{"never-up", checkWarning, func() *controltest.Backend { return controltest.New(controltest.Policy("shop")) }},
	{"paused", checkWarning, func() *controltest.Backend {
		b := up()
		b.Commit(failover.Command{By: "uid:1000", Pause: &failover.PauseOrder{For: 2 * time.Hour, Reason: "database upgrade"}})
		return b
	}},
	{"no-quorum", checkCritical, func() *controltest.Backend {
		b := up()
		b.EditLocal(func(l *control.Local) {
			l.Leader, l.HasQuorum = "", false
			for _, name := range []string{"w2", "w3"} {
				l.Watchers[name] = control.WatcherLocal{Silent: true, Version: "0.1.0"}
			}
		})
		return b
	}},
	{"standby-down", checkWarning, func() *controltest.Backend {
		b := up()
		b.Verdicts("shop", "standby", failover.VerdictDown, "http: Get \"https://198.51.100.10/healthz\": dial tcp 198.51.100.10:443: connect: connection refused")
		return b
	}},
	{"failover", checkCritical, func() *controltest.Backend {
		b := up()
		b.Verdicts("shop", "main", failover.VerdictDown, "connection refused")
		b.Edit(func(s *failover.State) {
			lag, bytes, seconds := int64(20480), int64(0), 0.4
			s.Policy.Groups[0].Apps[1].Database = &failover.Database{Kind: "exec"}
			s.Groups["shop"].Apps["standby"].Reports["w1"].Database = &failover.Observation{Role: failover.RoleReplica, LagBytes: &lag, Streaming: true}
			w := s.Groups["shop"].Switchover
			w.AtRisk = failover.AtRisk{Bytes: &bytes, Seconds: &seconds}
			first, second := controltest.Start.Add(3*time.Second), controltest.Start.Add(3004*time.Millisecond)
			w.Steps = append(w.Steps, failover.Step{Name: failover.StepPromote, App: "standby", State: failover.StepPending})
			w.Steps[0].State, w.Steps[0].Error, w.Steps[0].Attempts = failover.StepMarked, "exit status 1: cannot reach \x1b[31mhost\x1b[0m", 2
			w.Steps[0].StartedAt, w.Steps[0].EndedAt = &first, &second
			s.Groups["shop"].Apps["main"].Mark = &failover.Mark{Switchover: w.ID}
		})
		return b
	}},
	{"halted", checkCritical, func() *controltest.Backend {
		b := up()
		b.Commit(failover.Command{By: "uid:0", Request: &failover.Request{Group: "shop"}})
		b.Edit(func(s *failover.State) {
			w := s.Groups["shop"].Switchover
			w.Result = failover.ResultHalted
			w.Steps[1].State, w.Steps[1].Error, w.Steps[1].Attempts = failover.StepFailed, "exit status 1", 3
			s.Groups["shop"].Blockers = []failover.Blocker{{Code: "halted", Detail: "switchover 4 is halted at maintenance-off on standby after 3 attempts: exit status 1", Since: s.Time}}
		})
		return b
	}},
	{"after", checkWarning, func() *controltest.Backend {
		b := up()
		b.Edit(func(s *failover.State) {
			end := controltest.Start.Add(2 * time.Second)
			g := s.Groups["shop"]
			g.History = []*failover.Switchover{{
				ID: 2, Group: "shop", Kind: failover.KindFailover, From: "standby", To: "main", By: "quorum", Cause: "3 of 3 watchers: timeout",
				StartedAt: controltest.Start.Add(time.Second), EndedAt: &end, Result: failover.ResultDoneWithExceptions,
				Exceptions: []string{"verify: w3 did not answer the new record"},
				Steps:      []failover.Step{{Name: failover.StepSwitchDNS, App: "main", State: failover.StepDone, Attempts: 1, StartedAt: &end, EndedAt: &end}},
			}}
			caches := controltest.Start.Add(time.Hour)
			g.Switched = &failover.Switched{CachesExpireAt: &caches}
			g.Blockers = []failover.Blocker{{Code: "cooldown", Detail: "the last switchover ended less than 10m0s ago", Since: end}}
			s.Members[2].About.Differs = true
		})
		return b
	}},
}

// TestTables compares what a person sees with the golden files, and holds it to 80 columns.
func TestTables(t *testing.T) {
	now := controltest.Start.Add(5 * time.Second)
	for _, scene := range scenes {
		t.Run(scene.name, func(t *testing.T) {
			c := client.New(serving(t, scene.make()))
			defer c.Close()
			status, err := c.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			status.Time.Time = now
			p := &page{}
			p.status(status)
			level, line := judge(status)
			if level != scene.check {
				t.Errorf("check exits %d, want %d: %s", level, scene.check, line)
			}
			p.line("\n$ watchover check\n%s", line)
			if len(status.Groups) > 0 {
				explanation, err := c.Explain(t.Context(), "shop")
				if err != nil {
					t.Fatal(err)
				}
				p.line("\n$ watchover explain shop")
				p.explanation("shop", explanation, now)
			}
			history, err := c.History(t.Context(), "", 0)
			if err != nil {
				t.Fatal(err)
			}
			p.line("\n$ watchover history")
			p.history(history, now)
			golden(t, scene.name, p.String())
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil { //nolint:gosec // a test's data
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (-update rewrites it); got\n%s", path, got)
	}
	for _, line := range strings.Split(got, "\n") {
		if utf8.RuneCountInString(line) > width && !strings.Contains(line, " - ") { // check's one line may be long
			t.Errorf("wider than %d columns: %s", width, line)
		}
	}
	if strings.Contains(got, "\x1b") {
		t.Error("an escape sequence went through")
	}
}

func TestColours(t *testing.T) {
	c := client.New(serving(t, up()))
	defer c.Close()
	status, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	with, without := &page{color: true}, &page{}
	with.status(status)
	without.status(status)
	if !strings.Contains(with.String(), "\x1b[32mup\x1b[0m") {
		t.Error("up is not green")
	}
	plain := with.String()
	for _, code := range []string{"\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[33m", "\x1b[1;31m"} {
		plain = strings.ReplaceAll(plain, code, "")
	}
	trim := func(text string) string {
		lines := strings.Split(text, "\n")
		for i := range lines {
			lines[i] = strings.TrimRight(lines[i], " ")
		}
		return strings.Join(lines, "\n")
	}
	if trim(plain) != without.String() {
		t.Errorf("colours move the columns:\n%s\n%s", plain, without)
	}
}

func TestWords(t *testing.T) {
	for want, got := range map[string]string{
		"0 B":          size(0),
		"1023 B":       size(1023),
		"1.0 KiB":      size(1024),
		"1.5 MiB":      size(3 << 19),
		"2.0 GiB":      size(2 << 30),
		"0.0 s":        span(-time.Second),
		"59.9 s":       span(59900 * time.Millisecond),
		"1 min":        span(time.Minute),
		"2 h 5 min":    span(125 * time.Minute),
		"2 d":          span(48 * time.Hour),
		"a?b c":        clean("a\x1bb\nc"),
		"abcdefghi…":   short("abcdefghijkl", 10),
		"abcdefghij":   short("abcdefghij", 10),
		"unknown":      first(risk(client.AtRisk{})),
		"at least 5 B": first(risk(client.AtRisk{Bytes: new64(5)})),
		"exactly 5 B":  first(risk(client.AtRisk{Bytes: new64(5), BytesExact: true})),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func first(text string, _ bool) string { return text }
func new64(n int64) *int64             { return &n }

// TestClockIsNoNews shows that a watched status is not shown again because time passes.
func TestClockIsNoNews(t *testing.T) {
	one, two := client.Status{Watcher: "w1", Index: 7}, client.Status{Watcher: "w1", Index: 7}
	two.Time.Time = controltest.Start
	if changed(&one, "a") != changed(&two, "b") {
		t.Error("the clock alone counts as a change")
	}
	two.Index++
	if changed(&one, "a") == changed(&two, "a") {
		t.Error("a new state does not count as a change")
	}
}
