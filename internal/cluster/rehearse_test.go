package cluster

import (
	"context"
	"strings"
	"testing"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// Every watcher rehearses, whoever is asked, and one that does not answer is a finding, not a silence.
func TestEveryWatcherRehearses(t *testing.T) {
	r := newRig(t, 3, func(o *Options) {
		o.OnRehearse = func(ctx context.Context, group string) []failover.Finding {
			if _, bounded := ctx.Deadline(); !bounded {
				return nil
			}
			return []failover.Finding{{Watcher: "forged", App: "main", Check: "database", OK: true, Detail: o.Name + " rehearsed " + group}}
		}
	})
	r.up()
	asked := r.follower()
	found := asked.Rehearse(seconds(t, 10), "shop")
	if len(found) != 3 {
		t.Fatalf("found %+v", found)
	}
	for i, name := range r.names() {
		if f := found[i]; f.Watcher != name || f.Detail != name+" rehearsed shop" || f.App != "main" || !f.OK {
			t.Errorf("of %s: %+v", name, f)
		}
	}
	var dead string
	for _, n := range r.living() {
		if n.Name() != asked.Name() {
			dead = n.Name()
			r.kill(n)
			break
		}
	}
	for _, f := range asked.Rehearse(seconds(t, 10), "shop") {
		if reach := f.Check == "reach" && !f.OK && strings.Contains(f.Detail, dead); reach != (f.Watcher == dead) {
			t.Errorf("without %s: %+v", dead, f)
		}
	}
}
