package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"sync"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// app is the state of one target. All of it is guarded by Prober.mu, except target and probes, which never change.
type app struct {
	target    Target
	probes    []*probe
	detector  detector
	witnesses *witnesses         // of its group
	cancel    context.CancelFunc // nil until Run has started its probes
	closed    bool
	epoch     uint64    // results of checks that began in an earlier one are dropped
	grid      time.Time // one of the moments at which the app is probed while all is well
	first     time.Time // when it is probed first

	firstFailure time.Time // of the failures going on; zero while none is
	doubt        string    // why the last reset was made; told while the verdict is unknown
	verdict      failover.Verdict
	blame        blame
	since        time.Time
	told         opinion // the zero one: nothing yet
	alarm        bool    // a first failure is to be told
}

// opinion is what others are told of an app.
type opinion struct {
	verdict   failover.Verdict
	untrusted bool
}

// news: another verdict, and that it is the certificate, though not that it no longer is: behind a balancer that could change
// with every probe, and each change is an entry in the log.
func (o opinion) news(told opinion) bool {
	return o.verdict != told.verdict || o.untrusted && !told.untrusted
}

// probe is one of an app's probes.
type probe struct {
	app   *app
	index int
	name  string
	kind  string
	build func() (checker, error) // makes one more checker, for a check that overlaps another

	overlaps sync.WaitGroup // counts the overlapping checks: one that is due later, those under way

	// Guarded by Prober.mu. A checker is used without the lock by the one check that has it.
	series  *series
	timer   *time.Timer // wakes the probe's goroutine for a check when none is under way; nil while the app does not run
	overlap *time.Timer // begins one that overlaps others; nil before the first
	fire    func()      // what overlap does
	due     time.Time   // when the next check should begin; zero: not before another one has ended
	started time.Time   // when the last one did; zero: none since the last reset
	waiting bool        // a check that is due waits for a slot
	wanted  bool        // the next check is wanted early
	alert   uint64      // someone asked for a check: suspicion until this one, or a later one, has answered; else zero
	flights []flight    // the checks under way
	check   checker     // the one that keeps what can be kept between two checks; nil while a check has it
	spares  []checker   // others that are free
	fresh   uint64      // epoch of the app in which check was last used
	shown   uint64      // number of the check that last tells of
	last    ProbeResult // At is zero before the first one
	expires time.Time
}

func (p *Prober) newApp(target Target) (*app, error) {
	if err := checkProbing(target.Probing); err != nil {
		return nil, err
	}
	a := &app{target: target, verdict: failover.VerdictUnknown, since: time.Now()}
	a.detector = newDetector(len(target.Probes), target.Probing.Fall, target.Probing.Rise)
	names := make(map[string]bool)
	for i, spec := range target.Probes {
		one := &probe{app: a, index: i, kind: spec.Kind, name: cmp.Or(spec.Name, spec.Kind)}
		if names[one.name] {
			return nil, fmt.Errorf("two probes are named %q; give each its own name", one.name)
		}
		names[one.name] = true
		around := surroundings{dir: p.options.Dir, timeout: target.Probing.Timeout, interval: target.Probing.Interval, exec: p.options.Exec, ping: p.options.Ping}
		around.hurry = func() {} // what a spare checker leaves behind is closed by ourselves
		one.build = func() (checker, error) { return newChecker(spec, around) }
		main := around
		main.hurry = func() { p.hurry(one) }
		check, err := newChecker(spec, main)
		if err != nil {
			return nil, fmt.Errorf("probe %q: %w", one.name, err)
		}
		one.check = check
		one.series = p.metrics.of(target.Group, target.App, one.name)
		a.probes = append(a.probes, one)
	}
	a.spread(p.options.Watcher, time.Now())
	return a, nil
}

func checkProbing(rhythm failover.Probing) error {
	switch {
	case rhythm.Interval <= 0 || rhythm.RetryInterval <= 0 || rhythm.Timeout <= 0:
		return errors.New("interval, retry_interval and timeout must be above zero")
	case rhythm.Fall < 1 || rhythm.Rise < 1:
		return errors.New("fall and rise must be at least 1")
	}
	return nil
}

// firstSpread bounds how long a new app waits for its first probe.
const firstSpread = 100 * time.Millisecond

// spread gives the app its group's place within the interval. The wall clock is used for the start alone: watchers whose
// clocks agree then probe at different moments; where they do not, chance spreads them as well. The apps of a group
// share the place: waking once for all of them is much cheaper than once for each.
func (a *app) spread(watcher string, now time.Time) {
	hash := fnv.New64a()
	for _, part := range []string{watcher, a.target.Group} {
		hash.Write([]byte(part))
		hash.Write([]byte{0})
	}
	// FNV leaves the high bits of short inputs alike; the low ones are well mixed.
	fraction := float64(hash.Sum64()%1000) / 1000
	interval := a.target.Probing.Interval
	within := time.Duration(now.UnixNano() % int64(interval))
	a.grid = now.Add(time.Duration(fraction*float64(interval)) - within)
	a.first = now.Add(time.Duration(fraction * float64(min(interval, firstSpread))))
	for _, one := range a.probes {
		one.due = a.first
	}
}

// close ends the app: nothing it still has under way counts.
func (a *app) close() {
	a.closed = true
	if a.cancel != nil {
		a.cancel()
	}
	for _, one := range a.probes {
		one.series.remove()
	}
}

// tell is the app's verdict as others see it.
func (a *app) tell() Verdict {
	told := Verdict{
		Group: a.target.Group, App: a.target.App, Revision: a.target.Revision,
		Verdict: a.verdict, Reason: a.blame.reason, Probe: a.blame.probe, Untrusted: a.blame.untrusted, Since: a.since,
		Probes: make(map[string]ProbeResult, len(a.probes)),
	}
	for _, one := range a.probes {
		if !one.last.At.IsZero() {
			told.Probes[one.name] = one.last
		}
		if !one.expires.IsZero() && (told.Expires.IsZero() || one.expires.Before(told.Expires)) {
			told.Expires = one.expires
		}
	}
	return told
}
