package probe

import "github.com/watchover-ha/watchover/pkg/failover"

// Tally is the detector of an app with one probe, for whoever gets its results by other means than this package's
// probes: the simulator, whose watchers judge by the same rules. Not safe for concurrent use.
type Tally struct{ d detector }

// NewTally makes a tally that says unknown. Fall and rise are those of failover.Probing.
func NewTally(fall, rise int) *Tally { return &Tally{d: newDetector(1, fall, rise)} }

// Observe takes in one result and returns the verdict that follows.
func (t *Tally) Observe(up bool) failover.Verdict {
	o := failure
	if up {
		o = success
	}
	return t.d.observe(0, t.d.begin(0), o)
}

// Settled says whether the app is up without doubt, so that the calm interval is enough.
func (t *Tally) Settled() bool { return t.d.settled() }

// Reset forgets everything.
func (t *Tally) Reset() { t.d.reset() }
