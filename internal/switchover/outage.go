package switchover

import (
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// Outage is what one watcher knows of the outage of a group's writer as far as the evidence on its replicas goes: the probes
// tell that the app fails, but as long as its database answers, clients may write, and a replica may fall behind. The zero
// value knows of none. Not safe for concurrent use.
type Outage struct {
	since    time.Time // the probes' first failure; zero: they do not fail
	of       string    // the writer that was looked at
	answered time.Time // beginning of the newest look at which its database answered as a primary
	silent   time.Time // end of the first look since then at which it did not; zero: there was none
}

// Fail takes in since when the probes find the writer failing; the zero time: they do not any more. It reports whether that
// is new.
func (o *Outage) Fail(since time.Time) bool {
	news := !o.since.Equal(since)
	o.since = since
	return news
}

// Hear takes in a look at the writer's database. It reports whether the outage begins at another moment now.
func (o *Outage) Hear(writer string, began, ended time.Time, seen failover.Observation) bool {
	before := o.Began()
	if o.of != writer {
		*o = Outage{since: o.since, of: writer}
	}
	switch {
	case seen.Role == failover.RolePrimary:
		o.answered, o.silent = began, time.Time{}
	case o.silent.IsZero():
		o.silent = ended
	}
	return !o.Began().Equal(before)
}

// Failing reports whether the probes find the writer failing, whatever its database does.
func (o *Outage) Failing() bool { return !o.since.IsZero() }

// Began is since when nothing more can have been written; zero: there is no such outage. That is the probes' first failure,
// but if the database has answered since then, the first look after its last answer.
func (o *Outage) Began() time.Time {
	if o.since.IsZero() || !o.answered.After(o.since) {
		return o.since
	}
	return o.silent
}
