package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/watchover-ha/watchover/internal/control"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// What people order is linearizable: each order takes effect in one moment between its being given and its answer,
// whichever watcher it was given to, and all answers fit one sequence of such moments and of what the cluster does by
// itself. The sequence is checked against a small model of one group: paused or not, the open switchover, whether that is
// past the point of no return.
//
//   - An order that was answered has taken effect, or has been refused, before its answer.
//   - An order whose outcome is unknown takes effect at any later time, or never: it stays concurrent for ever. Whether it
//     did, and with which answer, is read from the log.
//   - One that was answered "no leader" has done nothing, and must not be in the log as accepted.
//   - What the cluster does by itself happens between the moment when its entry is first on a disk and the one when a
//     watcher first shows it.
//
// Reading is weaker and not part of this: a watcher shows the newest state that it has applied, which may be old. Of that
// the ledger checks that it is a state of the log, and the watch on each life that it never goes back.

// deed is what changes the model.
type deed int

const (
	doPause deed = iota
	doResume
	doSwitch
	doAbort
	didOpen // by quorum
	didPass // the point of no return
	didEnd
)

var deedNames = [...]string{"pause", "resume", "switchover", "abort", "failover opens", "passes the point of no return", "ends"}

// change is one operation on the model, as far as it was asked for.
type change struct {
	what   deed
	id     uint64 // of the switchover
	passed bool   // of didEnd: it ended past the point of no return
}

// reply is what an order was answered.
type reply struct {
	accepted bool
	rule     string
	id       uint64
}

// groupModel is the group as its rules for orders see it.
type groupModel struct {
	paused bool
	open   uint64
	passed bool
}

var orderModel = porcupine.Model{
	Init: func() any { return groupModel{} },
	Step: func(state, input, output any) (bool, any) {
		return state.(groupModel).after(input.(change), output.(reply))
	},
	DescribeOperation: func(input, output any) string {
		return fmt.Sprintf("%s %d -> %+v", deedNames[input.(change).what], input.(change).id, output)
	},
	DescribeState: func(state any) string { return fmt.Sprintf("%+v", state) },
}

// after reports whether a change with that reply is possible now, and what it leads to.
func (g groupModel) after(c change, r reply) (bool, groupModel) {
	switch c.what {
	case doPause:
		g.paused = true
		return r.accepted, g
	case doResume:
		g.paused = false
		return r.accepted, g
	case doSwitch:
		switch {
		case r.accepted && r.id == 0: // already active
			return g.open == 0, g
		case r.accepted:
			ok := g.open == 0
			g.open, g.passed = r.id, false
			return ok, g
		}
		refusedForIt := r.rule == failover.BlockOpen || r.rule == failover.BlockHalted
		return refusedForIt == (g.open != 0), g
	case doAbort:
		switch {
		case r.accepted:
			return g.open != 0 && !g.passed && g.open == r.id, g
		case r.rule == "not_open":
			return g.open == 0, g
		}
		return g.open != 0 && g.passed && r.rule == "past_no_return", g
	case didOpen:
		ok := g.open == 0 && !g.paused
		g.open, g.passed = c.id, false
		return ok, g
	case didPass:
		ok := g.open == c.id && !g.passed
		g.passed = true
		return ok, g
	case didEnd:
		ok := g.open == c.id && g.passed == c.passed
		g.open, g.passed = 0, false
		return ok, g
	}
	return false, g
}

// order is one that a person gave to a watcher.
type order struct {
	change
	client    int
	id        string
	call, ret time.Time
	reply     reply
	unknown   bool
	nothing   bool // "no leader": it was not done
}

// give gives an order to a watcher and notes what came of it. It returns at once.
func (w *bubble) give(to *being, what deed, c failover.Command) {
	w.mu.Lock()
	n := len(w.orders)
	o := &order{change: change{what: what}, client: n, id: fmt.Sprintf("order-%d", n), call: time.Now(), unknown: true}
	w.orders = append(w.orders, o)
	w.mu.Unlock()
	c.ID, c.By = o.id, fmt.Sprintf("uid:%d", 1000+n)
	w.clients.Go(func() {
		ctx, cancel := context.WithTimeout(to.hands, 10*time.Second)
		defer cancel()
		result, err := backend{to.d}.Propose(ctx, c)
		w.mu.Lock()
		defer w.mu.Unlock()
		o.ret = time.Now()
		w.tell("%s answers the order %s of %s: %+v, %v", to.name, deedNames[what], o.call.Sub(w.began), result, err)
		switch {
		case to.hands.Err() != nil: // the watcher was killed: nobody was answered
		case err == nil:
			o.unknown = false
			o.reply = reply{result.Accepted, result.Rule, result.Switchover}
		case errors.Is(err, control.ErrNoLeader):
			o.unknown, o.nothing = false, true
		}
	})
}

// checkOrders holds all orders and events against the model, when nothing is under way any more.
func (w *bubble) checkOrders() {
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	var history []porcupine.Operation
	since := func(t time.Time) int64 { return t.Sub(w.began).Nanoseconds() }
	for _, o := range w.orders {
		got, logged := w.ledger.results[o.id]
		switch {
		case o.nothing && logged && got.result.Rule != "term":
			w.fault("order %s (%s) was answered \"no leader\" and is in the log at %d", o.id, deedNames[o.what], got.index)
			continue
		case o.nothing, o.unknown && (!logged || got.result.Rule == "term"):
			continue
		case o.unknown:
			o.reply, o.ret = reply{got.result.Accepted, got.result.Rule, got.result.Switchover}, time.Now()
		}
		if o.reply.rule == failover.BlockNoQuorum { // judged before anything of the model
			continue
		}
		history = append(history, porcupine.Operation{ClientId: o.client, Input: o.change, Call: since(o.call), Output: o.reply, Return: since(o.ret)})
	}
	for i, e := range w.ledger.events {
		history = append(history, porcupine.Operation{ClientId: len(w.orders) + i, Input: e.change, Call: since(e.call), Output: reply{}, Return: since(e.ret)})
	}
	if !porcupine.CheckOperations(orderModel, history) {
		w.fault("the orders are not linearizable: %s", describe(history))
	}
}

func describe(history []porcupine.Operation) string {
	text := ""
	for _, op := range history {
		text += fmt.Sprintf("\n    %s..%s %s", time.Duration(op.Call), time.Duration(op.Return), orderModel.DescribeOperation(op.Input, op.Output))
	}
	return text
}
