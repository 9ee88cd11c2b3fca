package cluster

import (
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

const (
	// tickDebounce lets watchers that are heard at almost the same moment share one Tick.
	tickDebounce = 5 * time.Millisecond
	dueRetry     = time.Second
)

// duties are what a leader does beside the runner: telling the log whom it hears, and what has become due. They are
// kept by one goroutine.
type duties struct {
	t      *term
	timer  *time.Timer // until the next duty
	due    map[string]alarm
	parted time.Time // since when the list of fresh watchers differs from the log's; zero: it does not
	quorum time.Time // when a majority was last fresh
	wall   time.Time // at the start, without the monotonic reading
	start  time.Time
}

// alarm is one timer of the state.
type alarm struct {
	after time.Duration
	at    time.Time
}

func newDuties(t *term) *duties {
	now := time.Now()
	return &duties{t: t, timer: time.NewTimer(0), due: map[string]alarm{}, quorum: now, wall: now.Round(0), start: now}
}

// perform does what is due and sets the timer for the next duty. It returns a reason to give way, if there is one.
func (d *duties) perform(now time.Time) string {
	next := now.Add(d.t.n.o.Timing.Heartbeat) // the clock is compared at least that often
	next = earlier(next, d.tell(now))
	next = earlier(next, d.ring(now))
	next = earlier(next, d.t.nextExpiry(now))
	d.timer.Reset(time.Until(next))

	if d.t.majorityFresh(now) {
		d.quorum = now
	}
	if now.Sub(d.quorum) > quorumPatience {
		return "fewer than a majority of the watchers have been heard for " + quorumPatience.String()
	}
	// Sub of times without a monotonic reading compares the wall clock.
	if parted := now.Round(0).Sub(d.wall) - now.Sub(d.start); parted.Abs() > clockTolerance {
		return "this watcher's clock was moved by " + parted.Round(time.Second).String()
	}
	return ""
}

// tell proposes a Tick when the list of fresh watchers has changed.
func (d *duties) tell(now time.Time) time.Time {
	if !d.t.listDiffers(now) {
		d.parted = time.Time{}
		return time.Time{}
	}
	if d.parted.IsZero() {
		d.parted = now
	}
	if wait := d.parted.Add(tickDebounce); wait.After(now) {
		return wait
	}
	d.parted = time.Time{}
	d.propose(failover.Command{Tick: &failover.Tick{}})
	return time.Time{}
}

// ring arms the state's timers, counted from now for those it has not seen before, and proposes what has run out.
func (d *duties) ring(now time.Time) time.Time {
	var next time.Time
	timers := d.t.n.State().Timers()
	old := d.due
	d.due = make(map[string]alarm, len(timers))
	for _, w := range timers {
		a, armed := old[w.Key]
		if !armed || a.after != w.After {
			a = alarm{after: w.After, at: now.Add(w.After)}
		}
		if !a.at.After(now) {
			d.propose(failover.Command{Due: &failover.Due{Key: w.Key}})
			a.at = now.Add(dueRetry)
		}
		d.due[w.Key] = a
		next = earlier(next, a.at)
	}
	return next
}

// propose enqueues without waiting. What is lost is proposed again: a list still differs, a timer is still in the state.
func (d *duties) propose(c failover.Command) {
	if _, err := d.t.enqueue(c, nil); err != nil {
		d.t.unproposed()
	}
}

// earlier is the earlier of two times, where zero means never.
func earlier(a, b time.Time) time.Time {
	if b.IsZero() || !a.IsZero() && a.Before(b) {
		return a
	}
	return b
}
