package probe

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Run probes until ctx ends, and returns after all its goroutines have. It may be called once.
func (p *Prober) Run(ctx context.Context) error {
	p.mu.Lock()
	if p.running {
		p.mu.Unlock()
		return errors.New("cannot run the prober: it is running already")
	}
	p.running = true
	p.clocks = newClockwatch(p.clock())
	p.tick = time.NewTimer(tickPeriod)
	defer p.tick.Stop()
	now := time.Now()
	for _, a := range p.apps {
		a.spread(p.options.Watcher, now) // the time before Run is nobody's delay
	}
	p.mu.Unlock()

	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() { p.publish(ctx) })
	for {
		p.start(ctx, &group)
		select {
		case <-ctx.Done():
			return nil
		case <-p.changed:
		case <-p.tick.C:
			p.mu.Lock()
			p.lookAtClocks()
			p.mu.Unlock()
		}
	}
}

// start starts what SetTargets added.
func (p *Prober) start(ctx context.Context, group *sync.WaitGroup) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.apps {
		if a.cancel != nil {
			continue
		}
		appCtx, cancel := context.WithCancel(ctx)
		a.cancel = cancel
		for _, one := range a.probes {
			group.Go(func() { p.runProbe(appCtx, one) })
		}
	}
	for _, w := range p.witnesses {
		if w.cancel == nil {
			witnessCtx, cancel := context.WithCancel(ctx)
			w.cancel = cancel
			group.Go(func() { p.runWitnesses(witnessCtx, w) })
		}
	}
}

// runProbe makes a probe's checks until ctx ends, and returns when none is under way any more. Those that overlap others
// have goroutines of their own. The rest needs none: on an idle machine starting one for each would be felt.
func (p *Prober) runProbe(ctx context.Context, one *probe) {
	p.mu.Lock()
	timer := time.NewTimer(time.Until(one.due))
	one.timer = timer
	one.fire = func() {
		defer one.overlaps.Done()
		p.fly(ctx, one)
	}
	p.mu.Unlock()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-timer.C:
			p.fly(ctx, one)
		}
	}
	p.mu.Lock()
	timer.Stop()
	one.disarm()
	one.timer = nil
	p.mu.Unlock()
	one.overlaps.Wait()
	one.check.drop()
}

// publish tells the news, one after the other and outside the lock, so that who is told may ask back.
func (p *Prober) publish(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.news:
		}
		alarms, verdicts := p.collect()
		for _, v := range alarms {
			p.log.Debug().Str("group", v.Group).Str("app", v.App).Msg("first failure")
			if p.options.OnFirstFailure != nil {
				p.options.OnFirstFailure(v.Group, v.App)
			}
		}
		for _, v := range verdicts {
			p.log.Info().Str("group", v.Group).Str("app", v.App).Str("verdict", string(v.Verdict)).
				Str("probe", v.Probe).Str("reason", v.Reason).Msg("verdict changed")
			if p.options.OnChange != nil {
				p.options.OnChange(v)
			}
		}
	}
}

// collect takes what has not been told yet.
func (p *Prober) collect() (alarms, verdicts []Verdict) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.apps {
		if a.alarm {
			a.alarm = false
			alarms = append(alarms, Verdict{Group: a.target.Group, App: a.target.App})
		}
		if is := (opinion{a.verdict, a.blame.untrusted}); is.news(a.told) {
			a.told = is
			verdicts = append(verdicts, a.tell())
		}
	}
	return alarms, verdicts
}
