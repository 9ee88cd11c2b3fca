package proctest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/watchover-ha/watchover/pkg/client"
)

// judge reads the stage's journals of changes and hooks and reports everything that must never be in them.
func (c *cluster) judge() {
	c.t.Helper()
	for _, fault := range append(faultyChanges(c.changes()), faultyHooks(c.hookLines())...) {
		c.t.Error(fault)
	}
}

// faultyChanges finds hands that opened a second app or made a second database writable, that promoted twice in one
// switchover, or that acted on a token lower than one which had acted on the same step before.
func faultyChanges(changes []Change) (faults []string) {
	type site struct{ open, running, primary, frozen bool }
	sites := map[string]*site{"main": {}, "standby": {}}
	promoted, tokens := map[uint64]int{}, map[string]uint64{}
	for i, ch := range changes {
		s, o := sites[ch.App], sites[other(ch.App)]
		switch ch.What {
		case "app":
			s.running = ch.To != "killed" && ch.To != "cut off"
			if strings.HasPrefix(ch.To, "started") {
				s.open = ch.To == "started open"
			}
		case "maintenance":
			s.open = ch.To == "off"
		case "role":
			s.primary = ch.To == "primary"
		case "frozen":
			s.frozen = ch.To == "yes"
		}
		if ch.By.Token == 0 {
			continue // the test's own doing
		}
		fault := func(format string, args ...any) {
			faults = append(faults, fmt.Sprintf("change %d (%+v): %s", i, ch, fmt.Sprintf(format, args...)))
		}
		if ch.What == "maintenance" && s.open && o.running && o.open {
			fault("both apps are out of maintenance")
		}
		opened := ch.What == "role" && ch.To == "primary" || ch.What == "frozen" && ch.To == "no"
		if opened && s.primary && !s.frozen && o.running && o.primary && !o.frozen {
			fault("both databases are writable")
		}
		if ch.What == "role" {
			if promoted[ch.By.Switchover]++; promoted[ch.By.Switchover] > 1 {
				fault("promoted twice in switchover %d", ch.By.Switchover)
			}
		}
		key := fmt.Sprint(ch.By.Switchover, ch.By.Step)
		if ch.By.Token < tokens[key] {
			fault("token after %d", tokens[key])
		}
		tokens[key] = ch.By.Token
	}
	return faults
}

// faultyHooks finds hooks whose token or attempt did not rise, and late ones: that ended although a higher token had
// begun.
func faultyHooks(lines []HookLine) (faults []string) {
	last := map[string]Hands{}
	for i, line := range lines {
		key := fmt.Sprint(line.Switchover, line.Step)
		before := last[key]
		switch {
		case line.End && line.Token < before.Token:
			faults = append(faults, fmt.Sprintf("hook line %d: %s %s with token %d ended after %d had begun", i, line.Phase, line.Step, line.Token, before.Token))
		case !line.End && (line.Token <= before.Token || line.Attempt <= before.Attempt):
			faults = append(faults, fmt.Sprintf("hook line %d: %s %s with token %d, attempt %d came after %+v", i, line.Phase, line.Step, line.Token, line.Attempt, before))
		}
		if !line.End {
			last[key] = line.Hands
		}
	}
	return faults
}

// outcome is what a switchover came to, without tokens, attempts, times, terms and watchers' names; the apps are called
// from and to, so that two switchovers in opposite directions compare.
type outcome struct {
	Kind, Result, By, Active, Writer, Phase string
	Exceptions                              []string
	Steps, Apps, Records                    []string
}

// outcome gathers it from one watcher's status and every watcher's name server.
func (c *cluster) outcome(watcher string) (outcome, bool) {
	s := c.status(watcher)
	if s == nil || s.Groups[0].LastSwitchover == nil || s.Groups[0].Switchover != nil {
		return outcome{}, false
	}
	g := s.Groups[0]
	w := g.LastSwitchover
	role := func(app string) string { return map[string]string{w.From: "from", w.To: "to"}[app] }
	o := outcome{Kind: w.Kind, Result: w.Result, By: w.By, Active: role(g.Active), Writer: role(g.Writer), Phase: g.Phase}
	for _, text := range w.Exceptions {
		o.Exceptions = append(o.Exceptions, strings.NewReplacer(w.From, "from", w.To, "to").Replace(text))
	}
	for _, step := range w.Steps {
		o.Steps = append(o.Steps, fmt.Sprintf("%s on %s: %s, failed: %t", step.Name, role(step.App), step.State, step.Error != ""))
	}
	for _, name := range []string{w.From, w.To} {
		o.Apps = append(o.Apps, role(name)+": "+describeApp(appOf(&g, name)))
	}
	for _, name := range names {
		a, err := c.ask(name)
		if err != nil {
			return o, false
		}
		for app, address := range addresses {
			if address == a.address {
				o.Records = append(o.Records, fmt.Sprintf("%s answers %s, ttl %d, extended error %d", name, role(app), a.ttl, a.ede))
			}
		}
	}
	return o, true
}

func describeApp(a *client.App) string {
	text := fmt.Sprintf("%s, health %s, maintenance %s, marked %t, releasing %t, ready %t", a.Role, a.Health, a.Maintenance, a.Marked, a.Releasing, a.Ready)
	for _, r := range a.NotReady {
		text += ", " + r.Code
	}
	if a.Database != nil {
		text += fmt.Sprintf(", database %s streaming %t", a.Database.Role, a.Database.Streaming)
	}
	return text
}

func TestTheJudgeFindsFaults(t *testing.T) {
	start := []Change{
		{App: "main", What: "role", To: "primary"}, {App: "standby", What: "role", To: "replica"},
		{App: "main", What: "app", To: "started open"}, {App: "standby", What: "app", To: "started closed"},
	}
	by := func(token uint64) Hands { return Hands{Switchover: 7, Step: "promote", Token: token} }
	for name, changes := range map[string][]Change{
		"two open":     {{App: "standby", What: "maintenance", To: "off", By: by(1)}},
		"two writable": {{App: "standby", What: "role", To: "primary", By: by(1)}},
		"twice": {{App: "main", What: "app", To: "killed"}, {App: "standby", What: "role", To: "primary", By: by(1)},
			{App: "standby", What: "role", To: "primary", By: by(2)}},
		"old token": {{App: "main", What: "frozen", To: "yes", By: by(2)}, {App: "main", What: "frozen", To: "no", By: by(1)}},
	} {
		if len(faultyChanges(append(slices.Clone(start), changes...))) == 0 {
			t.Errorf("%s: no fault found", name)
		}
	}
	begin, end := HookLine{Hands: by(1)}, HookLine{Hands: by(1), End: true}
	next := HookLine{Hands: Hands{Switchover: 7, Step: "promote", Token: 2, Attempt: 1}}
	for name, lines := range map[string][]HookLine{"same token": {begin, begin}, "late": {begin, next, end}} {
		if len(faultyHooks(lines)) == 0 {
			t.Errorf("%s: no fault found", name)
		}
	}
}
