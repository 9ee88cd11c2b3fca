package switchover

import (
	"context"
	"math/rand/v2"
	"reflect"
	"sync"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// checkEvery is how often maintenance is looked at while all is well.
const checkEvery = 5 * time.Second

// Sight is what this watcher sees of an app beside its probes.
type Sight struct {
	Group, App  string
	Maintenance failover.Switch
	Database    *failover.Observation // nil: the app has none
	Undone      uint64                // the app's, in the state that was there when the look began
}

// Observer looks at every app's database and maintenance switch, on every watcher, so that the evidence is there when
// the leader is not.
type Observer struct {
	opts     Options
	out      *outside
	onChange func(Sight)

	mu     sync.Mutex // guards what follows
	apps   map[appKey]*observed
	writer map[string]*Outage    // by group
	logs   map[string]*positions // by group
	poke   chan struct{}         // closed and replaced to make everybody look now
}

type appKey struct{ group, app string }

// observed is one app under observation.
type observed struct {
	policy  failover.App
	rules   failover.Rules
	probing failover.Probing
	cancel  context.CancelFunc
	done    chan struct{}
	past    evidence
	sight   Sight
	anew    time.Time // looks begun before this do not count
	tense   bool      // the group is not steady: look at the probes' rhythm
	writes  bool      // it is the group's writer
	undone  uint64    // index of the last undo on it; what was seen before that is to be seen anew
}

// NewObserver makes an observer. onChange is called, from its goroutines, when something changed that the others should
// know; it must not block.
func NewObserver(opts Options, onChange func(Sight)) *Observer {
	return &Observer{opts: opts, out: newOutside(opts), onChange: onChange, apps: map[appKey]*observed{}, writer: map[string]*Outage{}, logs: map[string]*positions{}, poke: make(chan struct{})}
}

// Follow observes what the state says until ctx ends.
func (o *Observer) Follow(ctx context.Context, journal interface {
	State() *failover.State
	Watch() <-chan struct{}
}) {
	defer o.stop()
	revision := ^uint64(0)
	for {
		changed := journal.Watch()
		state := journal.State()
		if state.PolicyRevision != revision && state.Policy != nil {
			revision = state.PolicyRevision
			o.adopt(ctx, state.Policy)
		}
		o.feel(state)
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// Failing tells since when this watcher's probes find a group's writer failing; the zero time: they do not any more. Whether
// its database fails too, the observer sees by itself.
func (o *Observer) Failing(group string, since time.Time) {
	o.mu.Lock()
	var changed []Sight
	if o.outage(group).Fail(since) {
		changed = o.judgeAnew(group)
	}
	o.mu.Unlock()
	for _, s := range changed {
		o.onChange(s)
	}
}

// outage is what is known of the outage of a group's writer. The caller holds mu.
func (o *Observer) outage(group string) *Outage {
	if o.writer[group] == nil {
		o.writer[group] = &Outage{}
	}
	return o.writer[group]
}

// judgeAnew words what was last seen in a group again, for the outage of its writer begins at another moment now, and returns
// what is news to the others. The caller holds mu.
func (o *Observer) judgeAnew(group string) []Sight {
	var changed []Sight
	for key, a := range o.apps {
		if key.group == group && a.sight.Database != nil {
			if s, news := a.update(a.sight.Maintenance, a.past.last, o.outage(group).Began(), a.rules.MaxLag); news {
				changed = append(changed, s)
			}
		}
	}
	return changed
}

// Anew forgets what was seen of an app and looks again at once: its role has changed, and an old sight told as a new one
// would contradict it.
func (o *Observer) Anew(group, app string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	a := o.apps[appKey{group, app}]
	if a == nil {
		return
	}
	a.sight.Maintenance, a.sight.Database = failover.SwitchUnknown, nil
	a.anew = time.Now()
	o.wake()
}

// Sight returns what was last seen of an app.
func (o *Observer) Sight(group, app string) (Sight, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	a := o.apps[appKey{group, app}]
	if a == nil {
		return Sight{}, false
	}
	return a.sight, true
}

// adopt starts and stops observations after a change of policy. One whose rules alone have changed begins anew with what was
// seen so far.
func (o *Observer) adopt(ctx context.Context, p *failover.Policy) {
	wanted := map[appKey]*observed{}
	for _, g := range p.Groups {
		for _, app := range g.Apps {
			if app.Database == nil && (app.Maintenance == nil || app.Maintenance.Check == nil) {
				continue
			}
			wanted[appKey{g.Name, app.Name}] = &observed{policy: app, rules: g.Failover, probing: g.Probing,
				sight: Sight{Group: g.Name, App: app.Name, Maintenance: failover.SwitchUnknown}}
		}
	}
	for _, a := range o.leaving(p, wanted) {
		a.cancel()
		<-a.done
	}
	for key, a := range wanted {
		ctx, cancel := context.WithCancel(ctx)
		a.cancel, a.done = cancel, make(chan struct{})
		o.mu.Lock()
		a.inherit(o.apps[key])
		o.apps[key] = a
		o.mu.Unlock()
		go func() {
			defer close(a.done)
			o.watch(ctx, a)
		}()
	}
}

// leaving returns the observations that are to end, and takes those that go on as they are out of wanted. One that begins
// anew keeps its place until then, so that whoever tells it something meanwhile is heard.
func (o *Observer) leaving(p *failover.Policy, wanted map[appKey]*observed) []*observed {
	o.mu.Lock()
	defer o.mu.Unlock()
	for group := range o.logs {
		if p.Group(group) == nil {
			delete(o.logs, group)
		}
	}
	for group := range o.writer {
		if p.Group(group) == nil {
			delete(o.writer, group)
		}
	}
	var leaving []*observed
	for key, a := range o.apps {
		now := wanted[key]
		if now != nil && reflect.DeepEqual(now.policy, a.policy) && now.probing == a.probing && reflect.DeepEqual(now.rules, a.rules) {
			delete(wanted, key)
			continue
		}
		leaving = append(leaving, a)
		if now == nil {
			delete(o.apps, key)
		}
	}
	return leaving
}

// inherit takes over what was seen of the app before its policy changed, if that still says where to look. The evidence of
// an outage does not come twice.
func (a *observed) inherit(old *observed) {
	if old == nil {
		return
	}
	a.anew, a.tense, a.writes, a.undone, a.sight.Undone = old.anew, old.tense, old.writes, old.undone, old.sight.Undone
	if reflect.DeepEqual(a.policy.Database, old.policy.Database) {
		a.past, a.sight.Database = old.past, old.sight.Database
	}
	if reflect.DeepEqual(a.policy.Maintenance, old.policy.Maintenance) {
		a.sight.Maintenance = old.sight.Maintenance
	}
}

// feel notes which groups are not steady, and looks at once where that is new.
func (o *Observer) feel(state *failover.State) {
	o.mu.Lock()
	defer o.mu.Unlock()
	anew := false
	for key, a := range o.apps {
		g := state.Groups[key.group]
		if g == nil || g.Apps[key.app] == nil {
			continue
		}
		tense := state.Phase(key.group) != failover.PhaseSteady || g.Apps[key.app].Mark != nil
		undone := g.Apps[key.app].Undone
		anew = anew || tense && !a.tense || undone != a.undone
		a.tense, a.undone = tense, undone
		a.writes = g.Writer == key.app
	}
	if anew {
		o.wake()
	}
}

// wake makes every watch look now. The caller holds mu.
func (o *Observer) wake() {
	close(o.poke)
	o.poke = make(chan struct{})
}

func (o *Observer) stop() {
	o.mu.Lock()
	apps := o.apps
	o.apps = map[appKey]*observed{}
	o.mu.Unlock()
	for _, a := range apps {
		a.cancel()
		<-a.done
	}
}

// watch looks at one app until ctx ends. The first look comes at once, the rhythm then starts at a random phase.
func (o *Observer) watch(ctx context.Context, a *observed) {
	phase := time.Duration(rand.Int64N(int64(a.probing.Interval)))
	for {
		o.mu.Lock()
		poke := o.poke // from before the look: one that comes while it runs asks for another
		o.mu.Unlock()
		o.look(ctx, a)
		o.mu.Lock()
		wait := a.rhythm()
		o.mu.Unlock()
		timer := time.NewTimer(wait + phase)
		phase = 0
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-poke:
			timer.Stop()
		}
	}
}

func (a *observed) rhythm() time.Duration {
	if a.tense || a.policy.Database != nil {
		return a.probing.Interval
	}
	return max(a.probing.Interval, checkEvery)
}

// look asks an app's database and maintenance switch once, both bounded by the probes' timeout.
func (o *Observer) look(watching context.Context, a *observed) {
	ctx, cancel := context.WithTimeout(watching, a.probing.Timeout)
	defer cancel()
	o.mu.Lock()
	id, undone := identity{group: a.sight.Group, app: a.sight.App}, a.undone
	o.mu.Unlock()
	is := failover.SwitchUnknown
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		if m := a.policy.Maintenance; m != nil {
			is, _ = maintenance{out: o.out, policy: m}.state(ctx, id)
		}
	}()
	began := time.Now()
	var seen *sample
	if a.policy.Database != nil {
		db, err := o.out.look(ctx, a.policy.Database, id)
		if err != nil {
			db = failover.Observation{Role: failover.RoleUnknown}
		}
		seen = &sample{at: began, db: db}
	}
	<-asked
	if watching.Err() != nil {
		return // called off: what was not seen is no news
	}
	o.mu.Lock()
	if began.Before(a.anew) {
		o.mu.Unlock()
		return // seen before the role changed
	}
	changed := o.take(a, undone, is, seen)
	o.mu.Unlock()
	for _, s := range changed {
		o.onChange(s)
	}
}

// take takes in a look and returns what is news to the others. The caller holds mu.
func (o *Observer) take(a *observed, undone uint64, is failover.Switch, seen *sample) []Sight {
	group, old := a.sight.Group, a.sight.Database
	outage := o.outage(group)
	o.measure(a, seen)
	moved := seen != nil && a.writes && outage.Hear(a.sight.App, seen.at, time.Now(), seen.db)
	var changed []Sight
	again := a.sight.Undone != undone
	a.sight.Undone = undone
	if s, news := a.update(is, seen, outage.Began(), a.rules.MaxLag); news || again {
		changed = append(changed, s)
	}
	if moved {
		changed = append(changed, o.judgeAnew(group)...)
	}
	if outage.Failing() && old != nil && old.Streaming && !a.sight.Database.Streaming {
		o.wake() // the writer's database has most likely gone this moment: the replica is unready until that is seen too
	}
	return changed
}

// measure remembers where the writer is, and holds a replica against that. The caller holds mu.
func (o *Observer) measure(a *observed, seen *sample) {
	if seen == nil {
		return
	}
	log := o.logs[a.sight.Group]
	if log == nil {
		log = &positions{}
		o.logs[a.sight.Group] = log
	}
	if a.writes {
		log.note(a.sight.App, *seen)
	} else {
		log.measure(seen, grace(a.probing))
	}
}

// update takes in a look and reports whether it is news to the others.
func (a *observed) update(is failover.Switch, seen *sample, failing time.Time, limit failover.MaxLag) (Sight, bool) {
	old := a.sight
	a.sight.Maintenance = is
	if seen != nil {
		db := a.past.judge(*seen, failing, a.probing)
		a.sight.Database = &db
	}
	return a.sight, old.Maintenance != is || differs(old.Database, a.sight.Database, limit)
}
