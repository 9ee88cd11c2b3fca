package probe

import (
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// distrust begins the reason of every verdict that is unknown because of this watcher itself.
const distrust = "distrusts itself: "

// report takes in a check's result and plans the next one.
func (p *Prober) report(one *probe, f flight, got answer, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := one.app
	// Before anything is believed: after a freeze this may be the first thing that runs.
	p.lookAtClocks()
	now := time.Now()
	one.land(f)
	if a.closed || f.epoch != a.epoch {
		one.plan(now)
		return
	}
	o := judge(err)
	p.record(one, f, now.Sub(f.began), o, got, err)
	a.detector.observe(one.index, f.number, o)
	if f.number >= one.alert {
		one.alert = 0
	}
	p.noteFailure(a, now)
	p.settle(a)
	one.plan(now)
}

func (p *Prober) record(one *probe, f flight, took time.Duration, o outcome, got answer, err error) {
	var reason string
	if err != nil {
		reason = reasonOf(err, one.app.target.Probing.Timeout)
	}
	if !got.expires.IsZero() {
		one.expires = got.expires // kept while the app does not answer: the certificate is still the same
	}
	one.series.took(o, took)
	if f.number > one.shown { // else a check that began later has told already
		one.shown = f.number
		one.last = ProbeResult{Kind: one.kind, Verdict: o.verdict(), Reason: reason, At: f.began, Duration: took, Expires: got.expires, Untrusted: untrusted(err)}
		one.series.show(o)
	}
	if event := p.log.Debug(); event.Enabled() {
		event.Str("group", one.app.target.Group).Str("app", one.app.target.App).Str("probe", one.name).
			Dur("took", took).Str("reason", reason).Msg("probed")
	}
}

func (o outcome) verdict() failover.Verdict {
	switch o {
	case success:
		return failover.VerdictUp
	case failure:
		return failover.VerdictDown
	}
	return failover.VerdictUnknown
}

// noteFailure keeps track of when the failures that go on began, and raises the alarm at the first of them.
func (p *Prober) noteFailure(a *app, now time.Time) {
	if !a.detector.failing() {
		a.firstFailure = time.Time{}
		return
	}
	if !a.firstFailure.IsZero() {
		return
	}
	a.firstFailure = now
	if a.witnesses != nil {
		a.witnesses.ask()
	}
	if a.verdict == failover.VerdictUp {
		a.alarm = true
		notify(p.news)
	}
}

// settle makes the detector's verdict the app's, as far as this watcher trusts itself.
func (p *Prober) settle(a *app) {
	switch verdict := a.detector.verdict; {
	case a.witnesses != nil && a.witnesses.distrust:
		p.say(a, failover.VerdictUnknown, blame{reason: distrust + "no witness reachable"})
	case verdict == failover.VerdictUp:
		a.doubt = ""
		p.say(a, verdict, blame{})
	case verdict == failover.VerdictDown:
		// Without a failure right now the app answers again, but not for long enough: what was said stays. So it does
		// until the witnesses have answered.
		if worst := a.detector.worst(); worst >= 0 && a.witnesses.settles(a.firstFailure) {
			a.doubt = ""
			p.say(a, verdict, a.probes[worst].blame())
		}
	default:
		p.say(a, failover.VerdictUnknown, a.uncertainty())
	}
}

// blame is why a verdict is not up.
type blame struct {
	probe     string // whose reason it is; empty: of none
	reason    string
	untrusted bool // it is about the app's certificate
}

func (one *probe) blame() blame { return blame{one.name, one.last.Reason, one.last.Untrusted} }

// uncertainty is why the detector does not know.
func (a *app) uncertainty() blame {
	if i := a.detector.blocked(); i >= 0 {
		return a.probes[i].blame()
	}
	switch {
	case a.doubt != "":
		return blame{reason: a.doubt}
	case len(a.probes) == 0:
		return blame{reason: "no probes"}
	}
	return blame{reason: "no full round of probes yet"}
}

// say sets the verdict. Only a change is news, and that the certificate has become the reason; a reason that changes otherwise is
// there for who asks.
func (p *Prober) say(a *app, verdict failover.Verdict, why blame) {
	if verdict != a.verdict {
		a.since = time.Now()
	}
	a.verdict, a.blame = verdict, why
	if (opinion{verdict, why.untrusted}).news(a.told) {
		notify(p.news)
	}
}

// lookAtClocks forgets all that was seen when this watcher's sense of time broke.
func (p *Prober) lookAtClocks() {
	if !p.running {
		return
	}
	p.tick.Reset(tickPeriod)
	cause := p.clocks.look(p.clock())
	if cause == "" {
		return
	}
	p.distrusted = time.Now()
	p.log.Warn().Str("cause", cause).Msg("this watcher distrusts itself")
	for _, w := range p.witnesses {
		w.forget()
	}
	for _, a := range p.apps {
		a.reset(distrust + cause)
		p.settle(a)
	}
}
