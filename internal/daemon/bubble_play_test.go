package daemon

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

const (
	// calmWithin is how long a healed cluster of which all is well may take until nothing is open any more: longer than an
	// election, the longest step's timeout and tries, and a halted step's wait.
	calmWithin = 8 * time.Minute
	// leadWithin is how long a healed cluster may take until somebody leads: some rounds of elections with the timings of wan.
	leadWithin = 30 * time.Second
	// settles is how long the probes may take to see that all is well again.
	settles = 20 * time.Second
	// actWithin is how long a real outage may last until the name points elsewhere: finding it out (a probe's interval and
	// timeout, twice), confirm_for, and the plan with its first steps timing out.
	actWithin = 2 * time.Minute
)

// play plays a schedule to its end: the events, then healing and rest, then one more outage. What is wrong is noted in
// w.faults.
func (w *bubble) play() {
	defer func() { w.lasted = time.Since(w.began) }()
	defer w.end()
	for _, name := range w.names {
		w.start(name)
	}
	if !w.until("the cluster begins and all is seen", 2*time.Minute, w.armedOrObserving) {
		return
	}
	for _, h := range w.plan.events {
		w.rest(h.after)
		w.ask()
		if w.failed() {
			return
		}
		w.tell("> %s", strings.Join(h.words, " "))
		w.happen(h.words)
		w.ask()
	}
	w.heal()
	led := func() string {
		if w.leader() == nil {
			return "nobody leads"
		}
		return ""
	}
	if !w.until("somebody leads", leadWithin, led) {
		return
	}
	w.rest(settles)
	if !w.until("calm after healing", calmWithin, w.calm) {
		return
	}
	w.checkRest()
	w.clients.Wait()
	w.checkOrders()
	w.ledger.checkRestore(w.plan.seed % max(1, w.state().Index))
	if !w.failed() && w.plan.seed%2 == 0 {
		w.lastOutage()
	}
}

// rest lets time pass.
func (w *bubble) rest(d time.Duration) {
	if d > 0 {
		<-time.After(d)
	}
}

// until waits for a condition; false: it did not come about in time, or there was a fault.
func (w *bubble) until(what string, limit time.Duration, ok func() string) bool {
	late := time.Now().Add(limit)
	for {
		why := ok()
		w.ask()
		switch {
		case w.failed():
			return false
		case why == "":
			w.tell("= %s", what)
			return true
		case time.Now().After(late):
			w.fault("liveness: not within %s: %s: %s", limit, what, why)
			return false
		}
		w.rest(time.Second)
	}
}

// happen lets one event of a schedule happen.
func (w *bubble) happen(words []string) {
	arg := func(i int) string {
		switch s := w.state(); {
		case i >= len(words):
			return ""
		case words[i] == theActive && s.Policy != nil:
			return s.Groups[group].Active
		}
		return words[i]
	}
	set := func(do func(*site)) { w.town.change(arg(1), do) }
	switch words[0] {
	case "cut":
		w.wire.block(link{arg(1), arg(2)})
		w.wire.block(link{arg(2), arg(1)})
	case "cut-one-way":
		w.wire.block(link{arg(1), arg(2)})
	case "isolate":
		for _, other := range w.names {
			if other != arg(1) {
				w.wire.block(link{arg(1), other})
				w.wire.block(link{other, arg(1)})
			}
		}
	case "isolate-leader":
		if l := w.leader(); l != nil {
			w.happen([]string{"isolate", l.name})
		}
	case "heal":
		w.wire.healAll()
		for name := range w.town.sites {
			w.town.change(name, func(s *site) { clear(s.behindCut) })
		}
	case "delay":
		d, _ := time.ParseDuration(arg(3))
		w.wire.setDelay(link{arg(1), arg(2)}, d)
	case "reset":
		w.wire.reset(link{arg(1), arg(2)})
	case "reset-all":
		for _, a := range w.names {
			for _, b := range w.names {
				w.wire.reset(link{a, b})
			}
		}
	case "crash":
		w.crash(arg(1))
	case "crash-leader":
		if l := w.leader(); l != nil {
			w.crash(l.name)
		}
	case "stop":
		w.stopping.Go(func() { w.quit(arg(1)) })
	case "ambush":
		verb := ""
		n, err := strconv.Atoi(arg(2))
		if err != nil {
			n, verb = 1, arg(2)
		}
		w.town.mu.Lock()
		w.town.trap = ambush{arg(1), n, verb, arg(3) == "early"}
		w.town.mu.Unlock()
	case "start":
		for _, name := range w.names {
			w.start(name)
		}
	case "kill":
		set(func(s *site) { s.up, s.database, s.hangs = false, false, false })
	case "kill-app":
		set(func(s *site) { s.up = false })
	case "kill-database":
		set(func(s *site) { s.database = false })
	case "hang":
		set(func(s *site) { s.hangs = true })
	case "revive":
		set(func(s *site) { s.up, s.database, s.hangs = true, true, false })
	case "unreachable":
		w.town.change(arg(2), func(s *site) { s.behindCut[arg(1)] = true })
	case "slow":
		d, _ := time.ParseDuration(arg(2))
		set(func(s *site) { s.slow = d })
	case "slow-acts":
		d, _ := time.ParseDuration(arg(1))
		for name := range w.town.sites {
			w.town.change(name, func(s *site) { s.slowActs = d })
		}
	case "slow-disks":
		d, _ := time.ParseDuration(arg(1))
		w.writing.Store(int64(d))
	case "broken":
		set(func(s *site) { s.broken = true })
	case "refuse":
		set(func(s *site) { s.refuses = true })
	case "sticky":
		for name := range w.town.sites {
			w.town.change(name, func(s *site) { s.sticky = true })
		}
	case "mend":
		set(func(s *site) { s.broken, s.refuses, s.slow = false, false, 0 })
	case "rebuild":
		w.rebuild()
	default:
		w.askFor(words[0], arg(1), arg(2))
	}
}

// askFor has a person at a watcher give an order.
func (w *bubble) askFor(what, watcher, app string) {
	l := w.life(watcher)
	if l == nil {
		return
	}
	switch what {
	case "pause":
		w.give(l, doPause, failover.Command{Pause: &failover.PauseOrder{Group: group, Reason: "test"}})
	case "resume":
		w.give(l, doResume, failover.Command{Resume: &failover.GroupOrder{Group: group}})
	case "switchover":
		w.give(l, doSwitch, failover.Command{Request: &failover.Request{Group: group}})
	case "force":
		w.give(l, doSwitch, failover.Command{Request: &failover.Request{Group: group, To: app, Force: true}})
	case "abort":
		w.give(l, doAbort, failover.Command{Abort: &failover.GroupOrder{Group: group}})
	case "signal":
		w.give(l, doSwitch, failover.Command{Request: &failover.Request{Group: group, Signal: true}})
	case "transfer":
		w.clients.Go(func() {
			ctx, cancel := context.WithTimeout(l.hands, 10*time.Second)
			defer cancel()
			_, err := backend{l.d}.Transfer(ctx, watcher)
			w.tell("%s answers the transfer to %s: %v", l.name, watcher, err)
		})
	default:
		w.fault("the script says %q, which nobody knows", what)
	}
}

// rebuild makes every app that is not the writer a replica of it, as a person would who has time: it is whole, in
// maintenance, and receives.
func (w *bubble) rebuild() {
	s := w.state()
	if s.Policy == nil || s.Groups[group].Switchover.Open() {
		return
	}
	for name := range w.town.sites {
		if name != s.Groups[group].Writer {
			w.town.change(name, func(s *site) {
				*s = site{up: true, database: true, maintenance: true, behindCut: s.behindCut, tokens: s.tokens, told: s.told}
			})
		}
	}
}

// heal ends every fault.
func (w *bubble) heal() {
	w.tell("> all is healed")
	w.happen([]string{"ambush", "", "0", ""})
	w.wire.healAll()
	for name := range w.town.sites {
		w.town.change(name, func(s *site) {
			s.up, s.database, s.hangs, s.broken, s.refuses, s.sticky, s.slow, s.slowActs = true, true, false, false, false, false, 0, 0
			clear(s.behindCut)
		})
	}
	w.stopping.Wait()
	for _, name := range w.names {
		w.start(name)
	}
}

// armedOrObserving: nothing keeps the automation from acting, but for its mode.
func (w *bubble) armedOrObserving() string {
	s := w.state()
	if s.Policy == nil {
		return "there is no state yet"
	}
	if health := s.Groups[group].Apps[s.Groups[group].Active].Health; health != failover.HealthUp {
		return "the active app is " + string(health)
	}
	if len(s.Fresh) < len(w.names) {
		return fmt.Sprintf("heard are only %v", s.Fresh)
	}
	for _, b := range s.Groups[group].Blockers {
		if b.Code != failover.BlockMode {
			return b.Code + ": " + b.Detail
		}
	}
	return ""
}

// calm: somebody leads, all have the same state and answer it, no switchover is open, and what is owed is done.
func (w *bubble) calm() string {
	if w.leader() == nil {
		return "nobody leads"
	}
	s := w.state()
	g := s.Groups[group]
	if o := g.Switchover; o.Open() {
		return fmt.Sprintf("switchover %d is %s", o.ID, o.Result)
	}
	for _, l := range w.living() {
		if at := l.d.node.State().Index; at != s.Index {
			return fmt.Sprintf("%s is at %d of %d", l.name, at, s.Index)
		}
		got, ok := l.ask()
		if isolated, _ := l.d.node.Isolation(); !ok || isolated || got.serial != s.Serial {
			return fmt.Sprintf("%s answers serial %d of %d", l.name, got.serial, s.Serial)
		}
	}
	for name, a := range g.Apps {
		if a.Health != failover.HealthUp {
			return fmt.Sprintf("%s is %s", name, a.Health)
		}
		if is := w.town.is(name); a.Mark != nil && (a.Mark.Maintenance && !is.maintenance || a.Mark.Database && is.primary && !is.frozen) {
			return name + " is marked and not fenced"
		}
		if a.Release != nil {
			return "what an undo left on " + name + " is not taken back"
		}
	}
	return ""
}

// checkRest checks what must be so once all is well and calm.
func (w *bubble) checkRest() {
	s := w.state()
	g := s.Groups[group]
	writer := w.town.is(g.Writer)
	if g.Active != g.Writer {
		w.fault("%s is active and %s the writer, with no switchover open", g.Active, g.Writer)
	}
	if writer.maintenance {
		w.fault("the active app %s is left in maintenance", g.Active)
	}
	if w.plan.database && (!writer.primary || writer.frozen) {
		w.fault("the writer %s is left without a database that takes writes: %+v", g.Writer, writer)
	}
	for _, l := range w.living() {
		w.ledger.checkWhole(l)
		if got, _ := l.ask(); got.address != s.Policy.Group(group).App(g.Active).Address[0] || got.ttl != s.Policy.Zone.TTL {
			w.fault("guarantee 6: %s answers %s with a TTL of %s at rest", l.name, got.address, got.ttl)
		}
	}
}

// lastOutage rebuilds the standbys, waits until the automation is armed, and kills the active app for good.
func (w *bubble) lastOutage() {
	w.rebuild()
	w.askFor("resume", w.names[0], "")
	w.clients.Wait()
	if !w.until("armed again", calmWithin, w.armedOrObserving) {
		return
	}
	before := w.state().Groups[group]
	w.tell("> kill %s for good", before.Active)
	w.town.change(before.Active, func(s *site) { s.up, s.database = false, false })
	if w.plan.observe {
		w.rest(actWithin)
		if after := w.state().Groups[group]; after.Epoch != before.Epoch || after.Active != before.Active {
			w.fault("guarantee 7: in mode observe the name was moved")
		}
		return
	}
	w.until("the name points elsewhere, everywhere", actWithin, func() string {
		s := w.state()
		g := s.Groups[group]
		if g.Active == before.Active {
			return fmt.Sprintf("still %s: %v", g.Active, g.Blockers)
		}
		for _, l := range w.living() {
			if got, _ := l.ask(); got.address != s.Policy.Group(group).App(g.Active).Address[0] {
				return l.name + " answers " + got.address
			}
		}
		return ""
	})
}
