package daemon

import (
	"context"
	"sync"
	"time"

	"github.com/watchover-ha/watchover/internal/probe"
	"github.com/watchover-ha/watchover/internal/switchover"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// lookAgain is how often the desk looks for what nobody tells it: files that came, went or hang, certificates that were renewed.
const lookAgain = 30 * time.Second

// desk carries news between the parts: from eyes to cluster, from the log's states to eyes and voice.
type desk struct {
	d      *Daemon
	news   chan struct{} // one slot: something is to be reported
	asked  chan struct{} // taken by run between two looks, as a sign that it goes on
	looked occasion      // why lookAtFiles was last asked to look; of run alone
	found  uint64        // last index of the log when this process began; of run alone
	look   chan struct{} // one slot: the files are to be looked at anew

	mu          sync.Mutex // guards what follows
	verdicts    map[appName]probe.Verdict
	sights      map[appName]switchover.Sight // as last told: mere numbers are no news
	revisions   map[appName]uint64           // of the app's role and probes, as last aimed at
	up          map[appName]time.Time        // since when this watcher's verdict is up
	failing     map[string]string            // group: writer whose probes have begun to fail
	about       failover.About
	filesSeen   bool   // lookAtFiles has looked at what the policy names
	unreadable  string // why this watcher's file could not be read at the last look; of lookAtFiles alone
	membersSaid bool   // the file's watchers with the state's; of run alone
}

type appName struct{ group, app string }

func newDesk(d *Daemon) *desk {
	return &desk{
		d: d, news: make(chan struct{}, 1), asked: make(chan struct{}), look: make(chan struct{}, 1), verdicts: map[appName]probe.Verdict{}, sights: map[appName]switchover.Sight{},
		revisions: map[appName]uint64{}, up: map[appName]time.Time{}, failing: map[string]string{}, about: failover.About{Version: d.o.Version},
	}
}

// run reacts to states and news until ctx ends. Nothing in its loop waits for a file that the policy or the configuration names, or for a
// network, and for the data directory only keepPatience: DNS answers and
// reports come from here, also while the secret of some group is on a mount that hangs.
func (k *desk) run(ctx context.Context) error {
	voice := k.d.voice
	current := k.d.node.Current()
	var told uint64
	k.found = k.d.node.Found()
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	served := make(chan uint64, 1)
	var beside sync.WaitGroup
	defer beside.Wait()
	beside.Go(func() { voice.confirm(ctx, served) })
	beside.Go(func() { voice.save(ctx) })
	if k.d.o.outside == nil {
		beside.Go(func() { k.lookAtFiles(ctx) })
	}
	targets := ""
	var recheck <-chan time.Time // kept across news: they may come more often than it ticks
	for {
		changed := k.d.node.Watch()
		state := k.d.node.State()
		if state.Policy != nil {
			voice.publish(state)
			targets = k.aim(state, targets)
			k.askForLook(state)
			k.noteMembers(state)
			k.noteWriters(state)
			told = k.tell(state, told)
		}
		k.noteDisk(k.d.node.Space().Low)
		k.report()
		if recheck == nil && k.anyFails() {
			recheck = time.After(time.Second)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-current:
			current = nil // once is enough
		case <-k.news:
		case <-k.asked:
		case <-again.C:
			targets = "" // what could not be probed for want of descriptors may be by now
			k.noteExpiries(k.d.prober.Verdicts())
		case index := <-served:
			k.mu.Lock()
			k.about.Served = index
			k.mu.Unlock()
		case <-recheck:
			recheck = nil
			k.noteRecovery()
		}
	}
}

// verdict takes a new verdict from the probes.
func (k *desk) verdict(v probe.Verdict) {
	name := appName{v.Group, v.App}
	k.mu.Lock()
	k.verdicts[name] = v
	if v.Verdict != failover.VerdictUp {
		delete(k.up, name)
	} else if k.up[name].IsZero() {
		k.up[name] = time.Now()
	}
	k.mu.Unlock()
	k.wake()
}

// noteExpiries takes in when the certificates expire that the probes have seen lately. A renewed one changes no verdict,
// so nobody tells.
func (k *desk) noteExpiries(now []probe.Verdict) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, v := range now {
		name := appName{v.Group, v.App}
		if known, ok := k.verdicts[name]; ok && known.Revision == v.Revision {
			known.Expires = v.Expires
			k.verdicts[name] = known
		}
	}
}

func (k *desk) sighted(s switchover.Sight) {
	k.mu.Lock()
	k.sights[appName{s.Group, s.App}] = s
	k.mu.Unlock()
	k.wake()
}

// firstFailure makes the other watchers look at once.
func (k *desk) firstFailure(group, app string) {
	k.d.node.FirstFailure(group, app)
	k.noteOutage(k.d.node.State(), group, app)
	k.wake()
}

// noteOutage begins a writer's outage as far as the evidence on its replicas goes.
func (k *desk) noteOutage(state *failover.State, group, app string) {
	g := state.Groups[group]
	if g == nil || g.Writer != app {
		return
	}
	k.mu.Lock()
	_, already := k.failing[group]
	k.failing[group] = app
	k.mu.Unlock()
	if !already {
		k.d.observer.Failing(group, time.Now())
	}
}

// noteWriters ends an outage whose writer is no longer the writer, and begins one whose writer is down without a first
// failure having been told: it was not up before, as after this watcher was frozen.
func (k *desk) noteWriters(state *failover.State) {
	k.endOutages(func(group, writer string) bool {
		g := state.Groups[group]
		return g == nil || g.Writer != writer
	})
	k.mu.Lock()
	var down []appName
	for name, v := range k.verdicts {
		if v.Verdict == failover.VerdictDown {
			down = append(down, name)
		}
	}
	k.mu.Unlock()
	for _, name := range down {
		k.noteOutage(state, name.group, name.app)
	}
}

// noteRecovery ends an outage whose writer's probes all succeed again, verdict or not.
func (k *desk) noteRecovery() {
	well := map[appName]bool{}
	for _, v := range k.d.prober.Verdicts() {
		ok := v.Verdict == failover.VerdictUp
		for _, p := range v.Probes {
			ok = ok && p.Verdict == failover.VerdictUp
		}
		well[appName{v.Group, v.App}] = ok
	}
	k.endOutages(func(group, writer string) bool { return well[appName{group, writer}] })
}

func (k *desk) endOutages(over func(group, writer string) bool) {
	var ended []string
	k.mu.Lock()
	for group, writer := range k.failing {
		if over(group, writer) {
			ended = append(ended, group)
			delete(k.failing, group)
		}
	}
	k.mu.Unlock()
	for _, group := range ended {
		k.d.observer.Failing(group, time.Time{})
	}
}

// anyFails reports whether some writer's probes fail. Then it is looked again, since nobody tells when a single failure
// has passed.
func (k *desk) anyFails() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.failing) > 0
}

func (k *desk) upSince(group, app string) time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.up[appName{group, app}]
}

func (k *desk) wake() {
	select {
	case k.news <- struct{}{}:
	default:
	}
}

// report hands the cluster everything that this watcher has to say; it sends on what is new.
func (k *desk) report() { k.d.node.Report(k.collect()) }

// collect puts what the probes and the observer say of an app into one report.
func (k *desk) collect() ([]failover.Report, failover.About) {
	k.mu.Lock()
	defer k.mu.Unlock()
	reports := make([]failover.Report, 0, len(k.verdicts))
	for name, v := range k.verdicts {
		r := failover.Report{
			Group: v.Group, App: v.App, Revision: v.Revision, Verdict: v.Verdict, Reason: v.Reason, Untrusted: v.Untrusted, Since: v.Since.UTC(), Maintenance: failover.SwitchUnknown,
		}
		if v.Probe != "" && v.Reason != "" {
			r.Reason = v.Probe + ": " + v.Reason
		}
		if s, ok := k.sights[name]; ok {
			r.Maintenance, r.Database, r.Undone = s.Maintenance, s.Database, s.Undone
		}
		if !v.Expires.IsZero() {
			expires := v.Expires.UTC()
			r.Expires = &expires
		}
		reports = append(reports, r)
	}
	about := k.about
	about.Expires = k.d.trust.expires()
	about.Faults = k.d.stage.all()
	about.Unseen = !k.filesSeen && k.d.o.outside == nil
	return reports, about
}

// aim points the probes at what the state says: an app's probes, or its standby probes while it is not active.
func (k *desk) aim(state *failover.State, last string) string {
	key := aimKey(state)
	if key == last {
		return last
	}
	var targets []probe.Target
	known := map[appName]bool{}
	for _, g := range state.Policy.Groups {
		for _, app := range g.Apps {
			probes := app.Probes
			if app.Name != state.Groups[g.Name].Active && len(app.StandbyProbes) > 0 {
				probes = app.StandbyProbes
			}
			targets = append(targets, probe.Target{Group: g.Name, App: app.Name, Revision: state.Groups[g.Name].Apps[app.Name].Revision,
				Probes: probes, Probing: g.Probing, Witnesses: g.Failover.Witnesses})
			known[appName{g.Name, app.Name}] = true
		}
	}
	k.forgetBut(known)
	k.lookAnew(targets)
	if err := k.d.prober.SetTargets(targets); err != nil {
		k.d.log.Error().Err(err).Msg("cannot probe everything that the policy names")
	}
	return key
}

// lookAnew drops the sights of apps whose role or probes have changed.
func (k *desk) lookAnew(targets []probe.Target) {
	for _, t := range targets {
		name := appName{t.Group, t.App}
		k.mu.Lock()
		changed := k.revisions[name] != t.Revision
		k.revisions[name] = t.Revision
		if changed {
			delete(k.sights, name)
		}
		k.mu.Unlock()
		if changed {
			k.d.observer.Anew(t.Group, t.App)
		}
	}
}

func (k *desk) forgetBut(known map[appName]bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for name := range k.verdicts {
		if !known[name] {
			delete(k.verdicts, name)
			delete(k.sights, name)
			delete(k.up, name)
			delete(k.revisions, name)
		}
	}
}

// noteDisk has the others told when this watcher's disk runs out of space.
func (k *desk) noteDisk(low bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.about.LowDisk = low
}

// looksUp reports whether run goes on.
func (k *desk) looksUp(ctx context.Context) bool {
	timer := time.NewTimer(deskPatience)
	defer timer.Stop()
	select {
	case k.asked <- struct{}{}:
		return true
	case <-ctx.Done():
		return true // nobody is to be judged while all stop
	case <-timer.C:
		return false
	}
}

// tell logs the events that this state brought: one line for each thing that a person would retell.
func (k *desk) tell(state *failover.State, told uint64) uint64 {
	if state.Index <= k.found {
		return state.EventSeq // replayed after a restart: told before
	}
	for _, e := range state.Events {
		if e.Seq <= told {
			continue
		}
		line := k.d.log.Info()
		switch e.Type {
		case "halted", "blocked", "undo_kept", "marked", "step_failed", "refused", "low_disk", "recovered", "restored", "reprotect_failed":
			line = k.d.log.Warn()
		}
		line = line.Str("event", e.Type).Uint64("seq", e.Seq)
		if e.Group != "" {
			line = line.Str("group", e.Group)
		}
		if e.App != "" {
			line = line.Str("app", e.App)
		}
		for _, key := range sortedKeys(e.Data) {
			if key == "watcher" {
				line = line.Str("about_watcher", e.Data[key]) // whose line it is has that name already
				continue
			}
			line = line.Str(key, e.Data[key])
		}
		line.Msg(e.Text)
	}
	return state.EventSeq
}
