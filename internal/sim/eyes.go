package sim

import (
	"fmt"
	"time"

	"github.com/watchover-ha/watchover/internal/probe"
	"github.com/watchover-ha/watchover/internal/switchover"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// eye is one watcher's sight of one app: probes, maintenance and database are looked at together.
type eye struct {
	n        *watcher
	a        *app
	revision uint64
	tally    *probe.Tally
	verdict  failover.Verdict
	settled  bool
	memory   switchover.Memory
	is       failover.Switch
	undone   uint64                // of the app, in the state that was there at the last look
	last     *failover.Observation // as seen
	at       time.Time
	db       *failover.Observation // as judged
	round    int                   // counts plans for the next look; only the newest is carried out
}

// aim makes eyes for all apps, and begins anew where role or probes have changed.
func (n *watcher) aim() {
	p := n.state.Policy.Group(group)
	if p == nil {
		return
	}
	if n.eyes == nil {
		for _, a := range n.w.apps {
			e := &eye{n: n, a: a, tally: probe.NewTally(p.Probing.Fall, p.Probing.Rise), verdict: failover.VerdictUnknown, is: failover.SwitchUnknown}
			n.eyes = append(n.eyes, e)
			e.lookAfter(n.w.delay("phase", p.Probing.Interval))
		}
	}
	for _, e := range n.eyes {
		if a := n.state.Groups[group].Apps[e.a.name]; a != nil && a.Revision != e.revision {
			e.revision = a.Revision
			e.anew()
		}
	}
}

func (e *eye) anew() {
	e.tally.Reset()
	e.verdict, e.settled, e.is, e.db = failover.VerdictUnknown, false, failover.SwitchUnknown, nil
	e.n.life.setUp(e.a.name, false)
	e.lookAfter(e.n.w.delay("anew", 50*time.Millisecond))
}

// distrust makes a watcher say unknown of everything until it has looked again.
func (n *watcher) distrust() {
	for _, e := range n.eyes {
		e.anew()
		e.report("this watcher distrusts itself")
	}
}

func (e *eye) lookAfter(d time.Duration) {
	e.round++
	round := e.round
	e.n.later(d, func() {
		if round == e.round {
			e.look()
		}
	})
}

func (e *eye) look() {
	n := e.n
	p := n.state.Policy.Group(group)
	if p == nil {
		return
	}
	if n.overdue > 0 {
		e.lookAfter(p.Probing.Interval)
		return
	}
	if n.state.Groups[group].Apps[e.a.name] == nil { // not in the policy now
		e.revision = 0
		e.lookAfter(p.Probing.Interval)
		return
	}
	answer := n.w.answers(n, e.a)
	ok := answer == answerGood && !e.a.sick
	e.verdict = e.tally.Observe(ok)
	n.life.setUp(e.a.name, e.verdict == failover.VerdictUp)
	if e.settled && !ok {
		n.firstFailure(e.a.name)
	}
	if ok && e.verdict == failover.VerdictUp {
		n.endOutage(e.a.name)
	}
	e.settled = e.tally.Settled()
	e.is, e.undone = failover.SwitchUnknown, n.state.Groups[group].Apps[e.a.name].Undone
	if answer == answerGood && n.w.script.get("switch") == "checked" {
		e.is = e.a.maintenance()
	}
	if e.a.db != nil {
		seen := failover.Observation{Role: failover.RoleUnknown}
		if answer == answerGood {
			seen = e.a.db.observe()
		}
		e.last, e.at = &seen, n.w.moment()
		if n.state.Groups[group].Writer == e.a.name && n.outage.Hear(e.a.name, e.at, e.at, seen) {
			n.judgeAnew()
		}
	}
	reason := ""
	switch {
	case answer != answerGood:
		reason = string(answer)
	case !ok:
		reason = sickness
	}
	n.noteWriters()
	e.report(reason)
	wait := p.Probing.Interval
	if !e.settled {
		wait = p.Probing.RetryInterval
	}
	e.lookAfter(wait + n.w.delay("look", 20*time.Millisecond))
}

// sickness is what the probes of a sick app fail on, though its switch and its database answer.
const sickness = "certificate expired"

// report notes what is to be told, if it is news.
func (e *eye) report(reason string) {
	n := e.n
	p := n.state.Policy.Group(group)
	old := n.reports[e.a.name]
	r := failover.Report{Group: group, App: e.a.name, Watcher: n.name, Boot: n.boot, Revision: e.revision, Undone: e.undone, Verdict: e.verdict, Reason: reason,
		Untrusted: reason == sickness, Since: n.clock(), Maintenance: e.is}
	if e.last != nil && e.revision != 0 && !e.at.IsZero() {
		judged := e.memory.Judge(e.at, *e.last, n.outage.Began(), p.Probing)
		r.Database = &judged
	}
	if old.Seq != 0 && old.Revision == r.Revision && old.Verdict == r.Verdict && old.Maintenance == r.Maintenance && old.Undone == r.Undone &&
		!switchover.News(old.Database, r.Database, p.Failover.MaxLag) {
		return
	}
	n.number++
	r.Seq = n.number
	n.reports[e.a.name] = r
	n.beatSoon()
}

// firstFailure makes the others look at once, and begins the writer's outage as far as evidence goes.
func (n *watcher) firstFailure(app string) {
	n.beginOutage(app)
	for _, p := range n.w.watchers {
		if p != n && p.life != nil {
			n.send(p, func() {
				for _, e := range p.eyes {
					if e.a.name == app && e.settled {
						e.lookAfter(0)
					}
				}
			})
		}
	}
}

func (n *watcher) beginOutage(app string) {
	g := n.state.Groups[group]
	if g == nil || g.Writer != app || n.outage.Failing() {
		return
	}
	n.outage.Fail(n.w.moment())
	n.judgeAnew()
}

func (n *watcher) endOutage(app string) {
	if g := n.state.Groups[group]; g == nil || g.Writer != app || !n.outage.Failing() {
		return
	}
	n.outage.Fail(time.Time{})
	n.judgeAnew()
}

// noteWriters ends an outage whose writer is another now, and begins one whose writer was never up.
func (n *watcher) noteWriters() {
	g := n.state.Groups[group]
	if g == nil {
		return
	}
	for _, e := range n.eyes {
		if e.a.name != g.Writer {
			continue
		}
		if e.verdict == failover.VerdictDown {
			n.beginOutage(e.a.name)
		} else if e.settled && n.outage.Failing() {
			n.endOutage(e.a.name)
		}
	}
}

// judgeAnew words the last sights again, for an outage of the writer has begun or ended.
func (n *watcher) judgeAnew() {
	for _, e := range n.eyes {
		if e.last != nil && e.revision != 0 {
			e.report(n.reports[e.a.name].Reason)
		}
	}
}

// beat is a watcher's heartbeat to the leader, with what its state does not show yet.
type beat struct {
	boot    uint64
	overdue bool // its probes were not made in time
	reports []failover.Report
	about   *failover.About
}

func (n *watcher) pending() beat {
	b := beat{boot: n.boot, overdue: n.overdue > 0}
	g := n.state.Groups[group]
	m := n.state.Member(n.name)
	if g == nil || m == nil {
		return b
	}
	for _, app := range appNames {
		r, ok := n.reports[app]
		a := g.Apps[app]
		if !ok || a == nil || a.Revision != r.Revision {
			continue
		}
		if have := a.Reports[n.name]; have == nil || older(have.Boot, have.Seq, r.Boot, r.Seq) {
			b.reports = append(b.reports, r)
		}
	}
	if older(m.About.Boot, m.About.Seq, n.about.Boot, n.about.Seq) {
		about := n.about
		b.about = &about
	}
	return b
}

func older(boot, seq, thanBoot, thanSeq uint64) bool {
	return boot < thanBoot || boot == thanBoot && seq < thanSeq
}

func (n *watcher) news() bool {
	b := n.pending()
	return len(b.reports) > 0 || b.about != nil
}

func (n *watcher) beat() {
	to := n.w.watcher(n.leader)
	if to == nil || n.state.Cluster != "" && n.state.Member(n.name) == nil {
		return
	}
	b := n.pending()
	empty := len(b.reports) == 0 && b.about == nil && to.life != nil && !to.paused && n.w.reaches(n.name, to.name)
	switch {
	case to == n:
		n.reign.take(n.name, b)
		return
	case empty && to.reign != nil && to.reign.opened && n.slow == 0 && to.slow == 0: // that it takes a moment matters to nobody
		to.reign.take(n.name, b)
		return
	}
	n.send(to, func() {
		if to.reign != nil {
			to.reign.take(n.name, b)
		}
	})
}

func (n *watcher) beatSoon() {
	if n.beating {
		return
	}
	n.beating = true
	l := n.life
	n.w.after(2*time.Millisecond, func() {
		n.beating = false
		n.do(l, n.beat)
	})
}

// initial is the cluster's first entry.
func (w *world) initial() failover.Command {
	init := failover.Init{Cluster: "sim", ClusterID: "sim", Policy: w.script.policy()}
	for _, n := range w.watchers {
		init.Members = append(init.Members, failover.Member{Name: n.name, Address: n.name + ":7653", DNS: []string{fmt.Sprintf("192.0.2.5%s", n.name[1:])}})
	}
	return failover.Command{Init: &init}
}
