package proctest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/pkg/client"
)

// eventsIn is what a followed stream of events has printed so far.
func eventsIn(t *testing.T, file string) (events []client.Event) {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	for line := range bytes.Lines(text) {
		if !bytes.HasPrefix(line, []byte("{")) || !bytes.HasSuffix(line, []byte("\n")) {
			continue // what the tool says on stderr, and a line that is being written
		}
		var e client.Event
		must(t, json.Unmarshal(line, &e))
		events = append(events, e)
	}
	return events
}

// TestEventsAreToldOnce: who follows the events through one watcher hears each once and in order, over a failover, over
// the limits of ordinary requests, and over that watcher's own death and return.
func TestEventsAreToldOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t, settings{})
	_, through := c.leader()
	follower := c.start("", "events.out", nil, watcherBinary, "events", "--follow", "-o", "json", "--socket", c.path(through+".sock"))
	defer follower.kill()
	during(t, 11*time.Second, "it follows, past the 10 s that a request may take to be read", func() (bool, any) { return follower.alive(), "" })
	heard := func(kind string) {
		t.Helper()
		eventually(t, "event "+kind, func() (bool, any) {
			list := eventsIn(t, c.path("events.out"))
			return slices.ContainsFunc(list, func(e client.Event) bool { return e.Type == kind }), len(list)
		})
	}
	c.killApp("main")
	c.waitRecord("standby")
	heard("switchover_ended")
	c.watchers[through].kill()
	c.startWatcher(through)
	c.on(through, "back", func(s *client.Status, _ *client.Group) bool { return s.Cluster.Leader != nil })
	c.mustOrder(through, "pause", "--reason", "the test wants it")
	heard("paused")
	for i, e := range eventsIn(t, c.path("events.out")) {
		if e.Seq != uint64(i+1) {
			t.Fatalf("event %d has seq %d: %+v", i+1, e.Seq, e)
		}
	}
	if !follower.alive() {
		t.Errorf("it has ended: %v", follower.err)
	}
}

// TestPolicyIsProposed: a file's zone and groups come into force on all watchers, unless somebody was faster, or they
// would take away what is in use.
func TestPolicyIsProposed(t *testing.T) {
	t.Parallel()
	c := newCluster(t, settings{})
	leader, through := c.leader()
	before := c.status(through).Cluster.PolicyRevision
	file := c.path("proposal.yaml")
	propose := func(old, new string) {
		t.Helper()
		text := strings.ReplaceAll(c.config(leader), old, new)
		if text == c.config(leader) {
			t.Fatalf("no %q in the file", old)
		}
		must(t, os.WriteFile(file, []byte(text), 0o600))
	}
	if text := c.mustOrder(through, "diff", c.configPath(through)); !strings.HasPrefix(text, "nothing to change") {
		t.Errorf("diff of the file in force: %s", text)
	}
	propose("cooldown: 10m", "cooldown: 20m")
	if text := c.mustOrder(through, "diff", file); !strings.Contains(text, "-      cooldown: 10m\n+      cooldown: 20m\n") {
		t.Errorf("diff: %s", text)
	}
	c.mustOrder(through, "apply", file, "--dry-run")
	c.mustOrder(through, "apply", file)
	c.onAll("the new policy", func(s *client.Status, _ *client.Group) bool { return s.Cluster.PolicyRevision > before })
	c.onAll("a warning that the files differ", func(s *client.Status, g *client.Group) bool { return len(g.Warnings) > 0 })
	if exit, text := c.order(through, "apply", file, "--revision", fmt.Sprint(before)); exit != 3 || !strings.Contains(text, "policy_revision") {
		t.Errorf("a stale revision: exit %d, %s", exit, text)
	}
	propose("- name: main\n", "- name: other\n")
	if exit, text := c.order(through, "apply", file); exit != 3 || !strings.Contains(text, "in_use: app main of group shop is active") {
		t.Errorf("without the active app: exit %d, %s", exit, text)
	}
	propose("mode: automatic", "mode: automtic")
	if exit, text := c.order(through, "apply", file); exit != 2 || !strings.Contains(text, `did you mean "automatic"?`) {
		t.Errorf("a file with a fault: exit %d, %s", exit, text)
	}
}
