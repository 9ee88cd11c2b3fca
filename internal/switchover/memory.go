package switchover

import (
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// Memory is what one watcher remembers of one database: the Observer's judgement without its looking, for whoever looks
// by other means (the simulator). Not safe for concurrent use.
type Memory struct{ past evidence }

// Judge turns what was seen at a moment into what the watcher reports. Failing is when the outage
// of the group's writer began (Outage.Began); zero: there is none.
func (m *Memory) Judge(at time.Time, seen failover.Observation, failing time.Time, probing failover.Probing) failover.Observation {
	return m.past.judge(sample{at: at, db: seen}, failing, probing)
}

// News reports whether the other watchers should know that a sight has changed. Mere numbers are no news.
func News(a, b *failover.Observation, limit failover.MaxLag) bool { return differs(a, b, limit) }
