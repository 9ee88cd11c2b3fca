package probe

import (
	"context"
	"slices"
	"time"
)

// flight is a check under way.
type flight struct {
	number uint64 // by the detector
	epoch  uint64 // of the app when it began
	began  time.Time
	late   time.Duration // how long after it was due it began
	cancel context.CancelFunc
	check  checker
	spare  bool // check is not the one that keeps its connection
	// stale: what check keeps is not to be used. It is from before a freeze, and may be dead without knowing it; or there
	// is a suspicion, which a connection from before it would deny where the app accepts no new ones.
	stale bool
}

// fly makes one check, if it is still due.
func (p *Prober) fly(ctx context.Context, one *probe) {
	f, flightCtx, ok := p.takeOff(ctx, one)
	if !ok {
		return
	}
	if f.stale {
		f.check.drop()
	}
	got, err := f.check.check(flightCtx)
	f.cancel()
	if f.spare {
		f.check.drop()
	}
	<-p.slots
	if ctx.Err() != nil { // the app is closed, or the prober stops: a check that was broken off says nothing
		p.mu.Lock()
		one.land(f)
		p.mu.Unlock()
		return
	}
	p.report(one, f, got, err)
}

// takeOff begins a check. Its deadline begins now: waiting for a slot makes a probe overdue, never failed.
func (p *Prober) takeOff(ctx context.Context, one *probe) (f flight, flightCtx context.Context, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// A timer that was set anew, or no longer needed, in the moment it fired comes too early.
	if one.app.closed || one.waiting || one.due.IsZero() || time.Now().Before(one.due) || !p.acquire(ctx, one) {
		return flight{}, nil, false
	}
	a, now := one.app, time.Now()
	f = flight{epoch: a.epoch, began: now, late: max(0, now.Sub(one.due)), number: a.detector.begin(one.index)}
	flightCtx, f.cancel = context.WithTimeout(ctx, a.target.Probing.Timeout)
	one.lend(&f)
	one.flights = append(one.flights, f)
	one.started, one.wanted = now, false
	one.plan(now)
	return f, flightCtx, true
}

// acquire takes a slot. A check that overlaps others is an extra: it takes one only while half of them are free, and
// else is put off, so that apps in trouble never hold up those that are well. Others wait for a slot, without the lock;
// false when ctx ends first.
func (p *Prober) acquire(ctx context.Context, one *probe) bool {
	if len(one.flights) > 0 {
		if len(p.slots) < cap(p.slots)/2 {
			select {
			case p.slots <- struct{}{}:
				return true
			default:
			}
		}
		now := time.Now()
		one.arm(now.Add(one.app.target.Probing.RetryInterval), now)
		return false
	}
	select {
	case p.slots <- struct{}{}:
		return true
	default:
	}
	one.waiting = true
	p.mu.Unlock()
	taken := false
	select {
	case p.slots <- struct{}{}:
		taken = true
	case <-ctx.Done():
	}
	p.mu.Lock()
	one.waiting = false
	return taken
}

// lend gives the check a checker: the one that keeps its connection if it is free, else a spare.
func (o *probe) lend(f *flight) {
	if o.check != nil {
		f.check, o.check = o.check, nil
		f.stale = o.fresh != f.epoch || o.alert > 0
		o.fresh = f.epoch
		return
	}
	f.spare = true
	if n := len(o.spares); n > 0 {
		f.check, o.spares = o.spares[n-1], o.spares[:n-1]
		return
	}
	check, err := o.build()
	if err != nil {
		check = broken{errUnable{err}} // cannot be: the first one was built from the same
	}
	f.check = check
}

// land ends a check's flight and takes its checker back.
func (o *probe) land(f flight) {
	o.flights = slices.DeleteFunc(o.flights, func(other flight) bool { return other.number == f.number })
	if f.spare {
		o.spares = append(o.spares, f.check)
	} else {
		o.check = f.check
	}
}

// broken is a checker that could not be built.
type broken struct{ fault errUnable }

func (b broken) check(context.Context) (answer, error) { return answer{}, b.fault }
func (b broken) drop()                                 {}
