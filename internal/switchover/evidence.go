package switchover

import (
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// sample is one look at a database. At is when the look began, by this machine's monotonic clock.
type sample struct {
	at   time.Time
	db   failover.Observation
	upTo time.Time // everything written before this is known to be received; zero: not known
}

// evidence is what one watcher remembers of a replica, so that it can still say after the writer died how the replica
// stood before.
type evidence struct {
	last     *sample   // newest look
	streamed time.Time // newest look that saw a live stream
	broken   time.Time // oldest look since then that did not; zero: there is none
	proof    time.Time // everything written before this was received
	lag      *sample   // newest look that told the lag: at a live stream, or worked out from positions
	id       string    // a database that does not answer has not become another one
	timeline uint64    // the same of a replica that tells none while it receives nothing
}

// judge turns a look into what this watcher reports. While the writer fails, stream and lag are those from before the
// outage.
func (e *evidence) judge(s sample, failing time.Time, probing failover.Probing) failover.Observation {
	e.remember(s, failing)
	o := s.db
	if o.ID == "" {
		o.ID = e.id
	}
	if o.Timeline == 0 {
		o.Timeline = e.timeline
	}
	if failing.IsZero() {
		return o
	}
	o.LagBytes, o.LagSeconds = nil, nil
	if e.lag != nil {
		o.LagBytes, o.LagSeconds = e.lag.db.LagBytes, e.lag.lagWithAge(failing)
		if o.Position == nil {
			o.Position = e.lag.db.Position // tells that the lag was worked out
		}
	}
	if !e.proof.IsZero() {
		o.RiskSeconds = secondsBetween(e.proof, failing)
	}
	o.UntilOutage = e.untilOutage(failing, probing)
	return o
}

// untilOutage reports whether the stream was live until the outage began, as far as this watcher could see: it was not
// seen broken before the outage's first sign, give or take the rhythm of the looks. A watcher that was itself frozen sees
// the stream gone and the writer dead in one; the age of its last look is then in the lag.
func (e *evidence) untilOutage(failing time.Time, probing failover.Probing) bool {
	if e.streamed.IsZero() {
		return false
	}
	seen := e.broken
	if seen.IsZero() {
		seen = e.last.at
	}
	return seen.After(failing.Add(-grace(probing)))
}

// grace is how long before the outage's first sign its effects may have been seen: looks and probes come at the probes'
// rhythm, each at its own moment, and a watcher that starts anew has no first sign but its verdict.
func grace(p failover.Probing) time.Duration {
	return 2*p.Interval + p.Timeout + time.Duration(p.Fall)*max(p.RetryInterval, p.Timeout)
}

func (e *evidence) remember(s sample, failing time.Time) {
	e.last = &s
	if s.db.ID != "" {
		e.id = s.db.ID
	}
	if s.db.Timeline != 0 {
		e.timeline = s.db.Timeline
	}
	live := s.db.Streaming && s.db.Role == failover.RoleReplica
	if !live && e.broken.IsZero() {
		e.broken = s.at
	}
	if !live && !s.measured() {
		return // what a replica tells of its lag when its stream is gone is not from before the outage
	}
	if !failing.IsZero() && s.at.After(failing) {
		return
	}
	if live {
		e.streamed, e.broken = s.at, time.Time{}
	}
	if s.db.LagBytes != nil || s.db.LagSeconds != nil {
		e.lag = &s
		if proof := s.received(); proof.After(e.proof) {
			e.proof = proof
		}
	}
}

// measured reports whether the lag is worked out from the positions of the writer and of the replica, which holds without a
// stream too.
func (s sample) measured() bool {
	return s.db.Role == failover.RoleReplica && s.db.Position != nil && s.db.LagBytes != nil
}

// lagWithAge is how far behind in time a replica was at a look, and the time since. Nil: it was behind all that its watcher
// remembered, so that the look's age would be no bound.
func (s sample) lagWithAge(now time.Time) *float64 {
	age := secondsBetween(s.at, now)
	switch told := s.db.LagSeconds; {
	case told != nil:
		*age += *told
	case s.db.Position != nil:
		return nil
	}
	return age
}

// maxLagTold bounds what is made of a lag in seconds: programs tell numbers like 9999999999 for one that they do not know.
const maxLagTold = 1e9

// received is up to when everything written is known to be received: worked out from positions or, without them, by the
// database's own word.
func (s sample) received() time.Time {
	o := s.db
	switch {
	case !s.upTo.IsZero():
		return s.upTo
	case s.measured():
		return time.Time{} // behind all that is remembered
	case o.LagBytes != nil && *o.LagBytes == 0:
		return s.at
	case o.LagSeconds != nil:
		return s.at.Add(-time.Duration(min(*o.LagSeconds, maxLagTold) * float64(time.Second)))
	}
	return time.Time{}
}

func secondsBetween(from, to time.Time) *float64 {
	x := max(0, to.Sub(from).Seconds())
	return &x
}

// differs reports whether two observations would be judged differently by anybody. Mere numbers are no news: an idle
// cluster writes nothing.
func differs(a, b *failover.Observation, limit failover.MaxLag) bool {
	if a == nil || b == nil {
		return a != b
	}
	return a.Role != b.Role || a.Frozen != b.Frozen || a.Streaming != b.Streaming || a.UntilOutage != b.UntilOutage ||
		a.ID != b.ID || a.Timeline != b.Timeline || (a.RiskSeconds == nil) != (b.RiskSeconds == nil) ||
		(a.LagBytes == nil) != (b.LagBytes == nil) || (a.LagSeconds == nil) != (b.LagSeconds == nil) ||
		beyond(a, limit) != beyond(b, limit)
}

func beyond(o *failover.Observation, limit failover.MaxLag) bool {
	return o.LagBytes != nil && *o.LagBytes > limit.Bytes ||
		o.LagSeconds != nil && *o.LagSeconds > limit.Time.Seconds() // more seconds than a Duration has may be told
}
