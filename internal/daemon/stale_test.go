package daemon

import (
	"testing"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// Orders are never queued. One that reached the log just as the quorum broke commits under the next leader, however late.
func TestStaleOrders(t *testing.T) {
	ended := noon
	for _, test := range []struct {
		name  string
		w     *failover.Switchover
		stale bool
	}{
		{"none", nil, false},
		{"old and untouched", &failover.Switchover{Kind: failover.KindPlanned, StartedAt: noon.Add(-staleOrder)}, true},
		{"forced as well", &failover.Switchover{Kind: failover.KindForced, StartedAt: noon.Add(-time.Hour)}, true},
		{"young", &failover.Switchover{Kind: failover.KindPlanned, StartedAt: noon.Add(-staleOrder + time.Second)}, false},
		{"begun", &failover.Switchover{Kind: failover.KindPlanned, StartedAt: noon.Add(-time.Hour), Steps: []failover.Step{{Acted: true}}}, false},
		{"by quorum", &failover.Switchover{Kind: failover.KindFailover, StartedAt: noon.Add(-time.Hour)}, false},
		{"ended", &failover.Switchover{Kind: failover.KindPlanned, StartedAt: noon.Add(-time.Hour), EndedAt: &ended}, false},
	} {
		s := failover.NewState()
		s.Groups["shop"] = &failover.GroupState{Name: "shop", Switchover: test.w}
		if got := len(staleOrders(s, noon)) == 1; got != test.stale {
			t.Errorf("%s: stale %t", test.name, got)
		}
	}
}
