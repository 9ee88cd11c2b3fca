// Package probe is a watcher's eyes: it asks the apps of all groups, each probe in its own rhythm, and turns the
// answers into this watcher's verdicts: up, down or unknown.
//
// It decides nothing. A verdict is one watcher's opinion; what a quorum of them leads to is pkg/failover's business.
// What it takes care of is that the opinion is worth something. An app is not called down for a fault of the watcher:
// not for a missing file or exhausted descriptors here, not after this process was frozen (every probe under way then
// looks like a timeout), not after a clock jump, and not while none of the group's witnesses can be reached. Then it
// says unknown, and why. Watchers that called a healthy main down because they themselves had been suspended have cost
// others real outages.
//
// Every check has its own goroutine and its own deadline, so that a slow app delays nobody. The first checks come at
// once; after that a group has its fixed place within the interval, a different one on every watcher, so that an app is
// seen by someone more often than the interval says. An app that answers is asked one thing at a time. One that is under
// suspicion is asked again while earlier checks still wait for their answer: otherwise `fall` timeouts, one after the
// other, would be needed to find out that it hangs.
package probe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// defaultMaxDials bounds the checks under way when Options does not: far above what a large policy needs, far below
// the usual limit of 1024 descriptors.
const defaultMaxDials = 256

// Target is one app to be probed.
type Target struct {
	Group, App string
	// Revision changes whenever the app's probes or role did. Verdicts carry it, and a new one starts at unknown.
	Revision  uint64
	Probes    []failover.Probe
	Probing   failover.Probing
	Witnesses []string // of the group, host:port; none means that this watcher always trusts its network
}

// Verdict is this watcher's opinion of one app.
type Verdict struct {
	Group, App string
	Revision   uint64
	Verdict    failover.Verdict
	Reason     string                 // why it is down or unknown, at most 200 bytes; empty when up
	Probe      string                 // the probe that Reason is about, if it is about one
	Untrusted  bool                   // Reason is that the app's certificate was refused
	Since      time.Time              // wall clock, for display
	Expires    time.Time              // the earliest expiry of the certificates seen; zero: none seen
	Probes     map[string]ProbeResult // the last result of every probe that was asked, by name
}

// ProbeResult is how one probe was answered last.
type ProbeResult struct {
	Kind     string
	Verdict  failover.Verdict // of this probe alone; unknown: it could not be asked on this watcher
	Reason   string           // empty when up
	At       time.Time        // when the check began; wall clock, for display
	Duration time.Duration
	Expires  time.Time // of the certificate shown; zero if none

	Untrusted bool // the certificate shown was refused: expired, of another name, or of nobody that is trusted
}

// Certificate is when the certificate expires that an app showed to a probe.
type Certificate struct {
	Group, App, Probe string
	Expires           time.Time
}

// Options are what a Prober is built from.
type Options struct {
	Watcher string // this watcher's name; gives it its own place within the interval
	Dir     string // where relative ca_file and header_file begin
	Exec    ExecFunc
	Ping    PingFunc
	// OnChange is called for each new verdict, and where Untrusted comes to hold, one call at a time. If it changes again before the call,
	// only the last one is told. It must not wait long: later changes wait for it.
	OnChange func(Verdict)
	// OnFirstFailure is called when a probe of an app that was up fails for the first time, before any verdict that
	// comes of it, so that the other watchers look at once. The same rules as for OnChange hold.
	OnFirstFailure func(group, app string)
	MaxDials       int // checks under way at the same time; overlapping ones take up to half of it; 0: 256
	Log            zerolog.Logger
	Registerer     prometheus.Registerer
}

// Prober probes its targets while Run runs.
type Prober struct {
	options Options
	log     zerolog.Logger
	metrics *metrics
	clock   func() reading
	reach   func(ctx context.Context, addresses []string) bool // whether a witness answers
	slots   chan struct{}                                      // one element for each check under way
	changed chan struct{}                                      // capacity 1: the targets are others
	news    chan struct{}                                      // capacity 1: something is to be told

	mu         sync.Mutex // guards all below, and the fields of app, probe and witnesses that say so
	running    bool
	distrusted time.Time // when the sense of time last broke
	apps       []*app    // sorted by group and name
	witnesses  map[string]*witnesses
	clocks     clockwatch
	tick       *time.Timer // asks for a look at the clocks; nil until Run
}

// New makes a Prober without targets.
func New(options Options) (*Prober, error) {
	if options.Registerer == nil {
		return nil, errors.New("cannot make a prober: no metrics registerer given")
	}
	if options.MaxDials < 0 {
		return nil, fmt.Errorf("cannot make a prober: %d dials at the same time; give 0 for the default", options.MaxDials)
	}
	metrics, err := newMetrics(options.Registerer)
	if err != nil {
		return nil, err
	}
	return &Prober{
		options:   options,
		log:       options.Log,
		metrics:   metrics,
		clock:     readClocks,
		reach:     reachAny,
		slots:     make(chan struct{}, cmp.Or(options.MaxDials, defaultMaxDials)),
		changed:   make(chan struct{}, 1),
		news:      make(chan struct{}, 1),
		witnesses: make(map[string]*witnesses),
	}, nil
}

// SetTargets replaces what is probed. Targets that are equal to those before keep their state and connections; all
// others start at unknown. It may be called at any time and waits for no file: while one is missing or hangs on this watcher,
// the verdicts that need it stay unknown. If a target cannot be built, nothing changes.
func (p *Prober) SetTargets(targets []Target) error {
	if err := p.replace(targets); err != nil {
		return err
	}
	notify(p.changed)
	notify(p.news)
	return nil
}

func (p *Prober) replace(targets []Target) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	next, err := p.buildApps(targets)
	if err != nil {
		return err
	}
	for _, old := range p.apps {
		if !slices.Contains(next, old) {
			old.close()
		}
	}
	p.apps = next
	p.setWitnesses(targets)
	for _, a := range p.apps {
		p.settle(a)
	}
	return nil
}

func (p *Prober) buildApps(targets []Target) ([]*app, error) {
	next := make([]*app, 0, len(targets))
	seen := make(map[[2]string]bool, len(targets))
	for _, target := range targets {
		key := [2]string{target.Group, target.App}
		if seen[key] {
			return nil, fmt.Errorf("cannot probe %s/%s: it is named twice", target.Group, target.App)
		}
		seen[key] = true
		if old := p.find(target.Group, target.App); old != nil && old.same(target) {
			next = append(next, old)
			continue
		}
		fresh, err := p.newApp(target)
		if err != nil {
			return nil, fmt.Errorf("cannot probe %s/%s: %w", target.Group, target.App, err)
		}
		next = append(next, fresh)
	}
	slices.SortFunc(next, func(a, b *app) int {
		return cmp.Or(cmp.Compare(a.target.Group, b.target.Group), cmp.Compare(a.target.App, b.target.App))
	})
	return next, nil
}

// same says whether the target asks for what the app already does. Witnesses belong to the group and may differ.
func (a *app) same(target Target) bool {
	return a.target.Revision == target.Revision && a.target.Probing == target.Probing &&
		reflect.DeepEqual(a.target.Probes, target.Probes)
}

func (p *Prober) find(group, name string) *app {
	for _, a := range p.apps {
		if a.target.Group == group && a.target.App == name {
			return a
		}
	}
	return nil
}

// Poke probes an app at once, but no sooner than retry_interval after the last check began. Until it has answered it is
// under suspicion: it is asked again every retry_interval, up to `fall` times at once. Unknown names do nothing.
func (p *Prober) Poke(group, app string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := p.find(group, app); a != nil {
		for _, one := range a.probes {
			p.hasten(one)
		}
	}
}

// Verdicts are the current ones, sorted by group and app.
func (p *Prober) Verdicts() []Verdict {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lookAtClocks()
	all := make([]Verdict, len(p.apps))
	for i, a := range p.apps {
		all[i] = a.tell()
	}
	return all
}

const (
	distrustTold    = time.Minute
	distrustSettles = time.Second
)

// Overdue is how far the probe that is worst off is behind its schedule: a check that waits for its turn to begin, or
// that goes on past its timeout. Zero when there are no targets or Run does not run. For a moment after this watcher's sense
// of time broke it is distrustTold and more, so that nobody counts on verdicts from before that are being taken back.
func (p *Prober) Overdue() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running {
		return 0
	}
	p.lookAtClocks()
	now := time.Now()
	var worst time.Duration
	if !p.distrusted.IsZero() && now.Sub(p.distrusted) < distrustSettles {
		worst = distrustTold
	}
	for _, a := range p.apps {
		for _, one := range a.probes {
			worst = max(worst, one.overdue(now))
		}
	}
	return worst
}

// Certificates are all that were seen, sorted by group, app and order of the probes.
func (p *Prober) Certificates() []Certificate {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []Certificate
	for _, a := range p.apps {
		for _, one := range a.probes {
			if !one.expires.IsZero() {
				all = append(all, Certificate{a.target.Group, a.target.App, one.name, one.expires})
			}
		}
	}
	return all
}

// notify leaves one message in a channel of capacity 1; a second one would say nothing more.
func notify(channel chan struct{}) {
	select {
	case channel <- struct{}{}:
	default:
	}
}
