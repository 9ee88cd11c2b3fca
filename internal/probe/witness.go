package probe

import (
	"context"
	"errors"
	"net"
	"slices"
	"syscall"
	"time"
)

const (
	witnessTimeout = time.Second     // of one check of all witnesses
	witnessCalm    = 5 * time.Second // between checks while something fails but a witness answers
	witnessAlarm   = time.Second     // between checks while none answers, to believe ourselves again soon
)

// witnesses are the addresses by which a watcher tells a dead app from its own dead network. They are asked only
// while something in the group fails. Fields are guarded by Prober.mu, except kick.
type witnesses struct {
	group     string
	addresses []string
	kick      chan struct{} // capacity 1; asks for a check now
	cancel    context.CancelFunc

	checked  time.Time // start of the last check that was answered; zero: none since the last reset
	reached  bool      // by that check
	distrust bool      // none was reached, and none since
	epoch    uint64    // a check that began in an earlier one is dropped
}

// settles says whether the witnesses allow a down verdict whose first failure was at the given time.
func (w *witnesses) settles(firstFailure time.Time) bool {
	return w == nil || (w.reached && !w.checked.Before(firstFailure))
}

func (w *witnesses) ask() { notify(w.kick) }

// forget drops what the last check found and asks for a new one, which costs little and ends any doubt.
func (w *witnesses) forget() {
	w.epoch++
	w.checked, w.reached = time.Time{}, false
	w.ask()
}

// setWitnesses takes over the witnesses of the groups.
func (p *Prober) setWitnesses(targets []Target) {
	wanted := make(map[string][]string)
	for _, target := range targets {
		if len(target.Witnesses) > 0 {
			wanted[target.Group] = target.Witnesses
		}
	}
	for group, w := range p.witnesses {
		if wanted[group] == nil {
			if w.distrust {
				p.resetGroup(group)
			}
			w.epoch++
			if w.cancel != nil {
				w.cancel()
			}
			delete(p.witnesses, group)
		}
	}
	for group, addresses := range wanted {
		w := p.witnesses[group]
		if w == nil {
			w = &witnesses{group: group, kick: make(chan struct{}, 1)}
			p.witnesses[group] = w
		}
		if !slices.Equal(w.addresses, addresses) {
			w.addresses = slices.Clone(addresses)
			w.forget()
		}
	}
	for _, a := range p.apps {
		a.witnesses = p.witnesses[a.target.Group]
	}
}

// resetGroup makes the group's apps begin anew: what failed while no witness answered proves nothing about them.
func (p *Prober) resetGroup(group string) {
	for _, a := range p.apps {
		if a.target.Group == group {
			a.reset("")
		}
	}
}

// runWitnesses checks whenever kicked, and again by itself while something in the group fails.
func (p *Prober) runWitnesses(ctx context.Context, w *witnesses) {
	timer := time.NewTimer(0)
	timer.Stop()
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.kick:
		case <-timer.C:
		}
		p.mu.Lock()
		started, epoch, addresses := time.Now(), w.epoch, w.addresses
		p.mu.Unlock()
		reached := p.reach(ctx, addresses)
		if ctx.Err() != nil {
			return
		}
		if again := p.witnessed(w, started, epoch, reached); again > 0 {
			timer.Reset(again)
		} else {
			timer.Stop()
		}
	}
}

// witnessed takes in the result of a check and returns when the next one is due, zero for never.
func (p *Prober) witnessed(w *witnesses, started time.Time, epoch uint64, reached bool) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lookAtClocks()
	if epoch != w.epoch {
		return witnessAlarm // the check was under way when this watcher froze, or asked others than those of now
	}
	w.checked, w.reached = started, reached
	if w.distrust && w.reached {
		p.resetGroup(w.group)
	}
	w.distrust = !w.reached
	failing := false
	for _, a := range p.apps {
		if a.target.Group == w.group {
			failing = failing || a.detector.failing()
			p.settle(a)
		}
	}
	switch {
	case w.distrust:
		return witnessAlarm
	case failing:
		return witnessCalm
	}
	return 0
}

// reachAny says whether one of the addresses answers a TCP connect within witnessTimeout. A refused connection is an
// answer too: the network is fine.
func reachAny(ctx context.Context, addresses []string) bool {
	ctx, cancel := context.WithTimeout(ctx, witnessTimeout)
	defer cancel()
	answers := make(chan bool, len(addresses))
	for _, address := range addresses {
		go func() { answers <- reach(ctx, address) }()
	}
	reached := false
	for range addresses {
		if <-answers { // every goroutine answers, soon after the first success or the timeout at the latest
			reached = true
			cancel()
		}
	}
	return reached
}

func reach(ctx context.Context, address string) bool {
	dialer := net.Dialer{KeepAlive: -1}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err == nil {
		_ = conn.Close() // that it was accepted is all that was asked
		return true
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}
