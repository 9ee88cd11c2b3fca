package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// order is a person's, given at some watcher.
func order(w *world, args []string) {
	n := w.watcher(args[0])
	if n == nil || n.life == nil || n.paused {
		return
	}
	c, ok := w.command(args[1], args[2:])
	if !ok || c.Ack != nil && !w.looked() {
		return
	}
	if c.Retry != nil && c.Retry.Skip {
		w.doByHand()
	}
	w.orders++
	c.ID = fmt.Sprintf("order%d", w.orders)
	said := strings.TrimSpace(strings.Join(args[1:], " "))
	if slices.Contains(args, "again") { // as if the first answer were lost
		n.later(w.delay("again", 3*time.Second), func() { n.propose(c, 10*time.Second, func(failover.Result, error) {}) })
	}
	n.propose(c, 10*time.Second, func(r failover.Result, err error) {
		switch {
		case err != nil:
			w.tell("order %q: %v", said, err)
		case r.Accepted:
			w.tell("order %q: accepted", said)
		default:
			w.tell("order %q: refused: %s: %s", said, r.Rule, r.Detail)
		}
		w.afterOrder(c, r, err)
	})
}

func (w *world) command(verb string, args []string) (failover.Command, bool) {
	c := failover.Command{By: "uid:0"}
	has := func(word string) bool {
		for _, a := range args {
			if a == word {
				return true
			}
		}
		return false
	}
	switch verb {
	case "switchover":
		c.Request = &failover.Request{Group: group, Force: has("force"), Signal: has("signal")}
		if w.app(args[0]) != nil || args[0] == "nobody" {
			c.Request.To = args[0]
		}
		if has("signal") {
			c.By = "signal:w1"
		}
	case "abort":
		c.Abort = &failover.GroupOrder{Group: group}
	case "retry", "skip":
		c.Retry = &failover.RetryOrder{Group: group, Skip: verb == "skip"}
	case "ack":
		c.Ack = &failover.GroupOrder{Group: group}
	case "pause":
		c.Pause = &failover.PauseOrder{Group: group, For: durationOf(args[0])}
	case "resume":
		c.Resume = &failover.GroupOrder{Group: group}
	case "policy":
		s := w.script.clone()
		s.set(args[0], args[1])
		if _, ok := defaults[args[0]]; !ok {
			return c, false
		}
		state := w.log.state()
		c.SetPolicy = &failover.SetPolicy{Revision: state.PolicyRevision, Policy: s.policy()}
		if has("stale") {
			c.SetPolicy.Revision--
		}
	case "add":
		c.AddMember = &failover.AddMember{Name: args[0], Address: args[0] + ":7653", DNS: []string{"192.0.2.59"}}
	case "remove":
		c.RemoveMember = &failover.MemberOrder{Name: args[0]}
	case "bind": // somebody starts a watcher of that name with a directory of another
		c.JoinMember = &failover.JoinMember{Name: args[0], Node: args[0] + "-stray"}
	case "restore":
		var err error
		if w.saved == nil {
			return c, false
		}
		if c.Restore, err = failover.NewRestore(w.saved, failover.Open(args[0])); err != nil {
			w.violate("model", "%v", err)
			return c, false
		}
	case "reprotect":
		c.Reprotect = &failover.ReprotectOrder{Group: group, App: args[0], Force: has("force")}
	case "transfer":
		c.Transfer = &failover.MemberOrder{Name: args[0]}
	default:
		return c, false
	}
	return c, true
}

// afterOrder does what the watcher does that an order was given to.
func (w *world) afterOrder(c failover.Command, r failover.Result, err error) {
	if err == nil && r.Accepted && c.Transfer != nil {
		transfer(w, []string{c.Transfer.Name})
	}
}

// welcome has people start a watcher that is to join, once for each time that it is added.
func (w *world) welcome() {
	if c := w.log.state().Change; c != nil && c.Kind == failover.ChangeAdd && c.Index != w.joined {
		w.joined = c.Index
		w.join(c.Name)
	}
}

// join starts the watcher that was added, with an empty disk, as soon as somebody gets round to it.
func (w *world) join(name string) {
	n := w.watcher(name)
	if n == nil {
		n = newWatcher(w, name)
		w.watchers = append(w.watchers, n)
	}
	n.die() // if it was removed a moment ago and has not ended yet
	n.fresh++
	n.log, n.term, n.commit, n.serial, n.boot = nil, 0, 0, 0, 0
	delete(w.log.judge.serial, name)
	wait := w.delay("join", time.Second)
	if w.roll("joins late", 3) == 0 {
		wait *= 20
	}
	w.after(wait, func() {
		if n.life == nil && !n.removed() {
			n.start()
		}
	})
}

// looked is what a person does before confirming a state after a restore or a recovery.
func (w *world) looked() bool {
	g := w.log.state().Groups[group]
	return g == nil || g.Unconfirmed == nil || w.fits(g)
}

// doByHand does what a person has done who leaves a halted step out.
func (w *world) doByHand() {
	g := w.log.state().Groups[group]
	if g == nil || !g.Switchover.Open() || g.Switchover.Result != failover.ResultHalted {
		return
	}
	to := w.app(g.Switchover.To)
	for i := range g.Switchover.Steps {
		step := &g.Switchover.Steps[i]
		if step.State != failover.StepFailed || step.Waiting == 0 || to.dead || to.hung {
			continue
		}
		switch step.Name {
		case failover.StepPromote:
			to.turn("promote")
		case failover.StepMaintenanceOff:
			to.turn("off")
		}
	}
}
