package probe

import (
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// The rhythm of one probe:
//
//	all is well       one check each interval, one at a time
//	under suspicion   one each retry_interval, whether or not the ones before have answered, up to `fall` at once
//	down              the same, up to `fall` and at least two at once: whoever returns is seen within retry_interval
//	else              one each retry_interval, one at a time
//
// A probe is under suspicion while its last result is a failure, and when someone asked for a check (another watcher
// that saw a failure, the server that closed the kept connection) from then on until such a check has answered.

// hurry is for a check that is wanted early.
func (p *Prober) hurry(one *probe) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hasten(one)
}

// hasten brings the next check forward, but keeps retry_interval between two: `fall` failures in a row are meant to
// span some time, and several watchers may ask for a check at once.
func (p *Prober) hasten(one *probe) {
	if one.timer == nil {
		return // the first check comes soon anyway, or none comes any more
	}
	one.wanted = true
	one.alert = one.app.detector.streaks[one.index].begun + 1
	one.plan(time.Now())
}

// plan sets when the next check begins.
func (o *probe) plan(now time.Time) {
	if o.waiting {
		return // the check that waits for its slot plans the next one
	}
	if due := o.next(now); due.IsZero() {
		o.disarm()
	} else {
		o.arm(due, now)
	}
}

func (o *probe) arm(due, now time.Time) {
	if o.timer == nil || o.app.closed {
		return
	}
	if len(o.flights) == 0 {
		o.disarm()
		o.timer.Reset(due.Sub(now)) // the probe's goroutine waits for it, or soon will
	} else if o.overlap == nil {
		o.overlaps.Add(1)
		o.overlap = time.AfterFunc(due.Sub(now), o.fire)
	} else if !o.overlap.Reset(due.Sub(now)) {
		o.overlaps.Add(1)
	}
	o.due = due
}

// disarm takes back what is due. The timer of the probe's goroutine need not be stopped: nothing is due when it fires.
func (o *probe) disarm() {
	if o.overlap != nil && o.overlap.Stop() {
		o.overlaps.Done()
	}
	o.due = time.Time{}
}

// next is when the next check should begin; zero if not before one of those under way has ended.
func (o *probe) next(now time.Time) time.Time {
	if len(o.flights) >= o.most() {
		return time.Time{}
	}
	retry := later(now, o.started.Add(o.app.target.Probing.RetryInterval))
	if len(o.flights) > 0 || !o.app.detector.settled() {
		return retry
	}
	place := o.app.place(o.started, now)
	if o.wanted && retry.Before(place) {
		return retry
	}
	return place
}

// most is how many checks of the probe may be under way at once.
func (o *probe) most() int {
	d := &o.app.detector
	switch {
	case d.verdict == failover.VerdictDown:
		return max(2, d.fall)
	case d.suspects(o.index), o.wanted, o.alert > 0:
		return d.fall
	}
	return 1
}

// place is the app's next place within the interval, if the last check began at started.
func (a *app) place(started, now time.Time) time.Time {
	rhythm := a.target.Probing
	// The half keeps a check that began a little late from pushing the next one off its place.
	earliest := later(now, started.Add(min(rhythm.RetryInterval, rhythm.Interval)/2))
	behind := earliest.Sub(a.grid)
	steps := behind / rhythm.Interval
	if behind > steps*rhythm.Interval {
		steps++
	}
	return a.grid.Add(steps * rhythm.Interval)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// overdue is how far the probe is behind its schedule. A check that would overlap others is due only once there is room
// for it, and is put off rather than kept waiting for a slot: it is never what makes a probe overdue.
func (o *probe) overdue(now time.Time) time.Duration {
	var worst time.Duration
	if !o.due.IsZero() {
		worst = max(worst, now.Sub(o.due))
	}
	for _, f := range o.flights {
		worst = max(worst, f.late, now.Sub(f.began)-o.app.target.Probing.Timeout)
	}
	return worst
}

// reset forgets what was seen, also what is under way, and begins anew at once.
func (a *app) reset(doubt string) {
	a.epoch++
	a.detector.reset()
	a.firstFailure = time.Time{}
	a.alarm = false
	a.doubt = doubt
	now := time.Now()
	for _, one := range a.probes {
		for _, f := range one.flights {
			f.cancel()
		}
		one.started, one.wanted, one.alert = time.Time{}, false, 0
		one.plan(now)
	}
}
