package proctest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/pkg/client"
)

// told is what every action and hook is told about its attempt.
var told = []string{"Group", "App", "From", "To", "Step", "Kind", "Switchover", "Epoch", "Token", "Attempt", "Deadline", "Watcher"}

// Hooks and programs get PATH, LANG and what they are told, and nothing else of the watcher's environment, which may
// hold secrets. HTTP targets get the same as headers.
func TestHooksAndActionsAreToldTheContractAndNothingElse(t *testing.T) {
	t.Parallel()
	c := prepare(t, settings{mode: "manual", hooks: true})
	c.settings.env = []string{"PASSWORD=secret", "WATCHOVER_SOCKET=/secret"}
	c.begin()
	began := time.Now()
	askSwitchover(c, "main")
	c.waitEnded(1)
	w := c.history("w1")[0]
	acts, err := ReadLines[HookLine](c.path(ActsFile))
	must(t, err)
	seen := map[string]int{}
	for _, line := range append(acts, c.hookLines()...) {
		if line.End {
			continue
		}
		seen[line.Phase]++
		what := fmt.Sprintf("%s of %s", line.Phase, line.Step)
		values, names, web := valuesOf(line)
		want := append([]string{"PATH", "LANG"}, told...)
		if web {
			want = append([]string{"Idempotency-Key"}, told...)
		}
		slices.Sort(want)
		if !slices.Equal(names, want) {
			t.Errorf("%s was told %v, want %v", what, names, want)
		}
		checkTold(t, what, values, &w, began)
		if web && values["Idempotency-Key"] != fmt.Sprintf("shop-%d-%s-act", w.ID, line.Step) {
			t.Errorf("%s: Idempotency-Key %s", what, values["Idempotency-Key"])
		}
	}
	for phase, want := range map[string]int{"before": 8, "after": 8, "maintenance-on": 1, "freeze": 1, "catch-up": 1, "stop-replication": 1, "promote": 1, "maintenance-off": 1} {
		if seen[phase] < want {
			t.Errorf("%d of %s seen, want %d at least", seen[phase], phase, want)
		}
	}
	c.judge()
}

// valuesOf reads environment or headers of a line, by the contract's names without their prefix, and the sorted names.
func valuesOf(line HookLine) (values map[string]string, names []string, web bool) {
	values = map[string]string{}
	for _, pair := range line.Env {
		name, value, _ := strings.Cut(pair, "=")
		if bare, ok := strings.CutPrefix(name, "Watchover-"); ok {
			name, web = bare, true
		} else if bare, ok := strings.CutPrefix(name, "WATCHOVER_"); ok {
			name = bare[:1] + strings.ToLower(bare[1:])
		}
		values[name] = value
		names = append(names, name)
	}
	slices.Sort(names)
	return values, names, web
}

func checkTold(t *testing.T, what string, values map[string]string, w *client.Switchover, began time.Time) {
	t.Helper()
	step := stepOf(w, values["Step"])
	want := map[string]string{
		"Group": group, "App": step.App, "From": "main", "To": "standby", "Kind": "planned",
		"Switchover": fmt.Sprint(w.ID), "Epoch": fmt.Sprint(w.Epoch),
	}
	for name, value := range want {
		if values[name] != value {
			t.Errorf("%s: %s is %q, want %q", what, name, values[name], value)
		}
	}
	if !slices.Contains(names, values["Watcher"]) {
		t.Errorf("%s: watcher %q", what, values["Watcher"])
	}
	for _, name := range []string{"Token", "Attempt"} {
		if values[name] == "" || values[name] == "0" {
			t.Errorf("%s: %s is %q, want a number above 0", what, name, values[name])
		}
	}
	deadline, err := time.Parse(time.RFC3339, values["Deadline"])
	if err != nil || !deadline.After(began) {
		t.Errorf("%s: deadline %q: %v", what, values["Deadline"], err)
	}
}
