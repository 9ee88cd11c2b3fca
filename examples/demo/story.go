package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// How long each act may take before the demo says what is missing.
const (
	shopPatience   = 5 * time.Second
	armPatience    = 30 * time.Second
	switchPatience = 20 * time.Second
	returnPatience = 15 * time.Second
	leadIn         = 2500 * time.Millisecond // of normal life, before the kill
	afterglow      = 1200 * time.Millisecond // to look at the result, before main comes back
	returnPoll     = 2 * time.Millisecond
)

// story is the demo's plot with everybody in it.
type story struct {
	lab      *lab
	board    *board
	customer *customer
	stage    *stage
	fate     evidence
}

// play shows everything. With once it ends by itself, and fails if a proof is missing.
func play(ctx context.Context, l *lab, stage *stage, once bool) error {
	b := newBoard(l)
	st := &story{lab: l, board: b, customer: newCustomer(l, b), stage: stage}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	team := &crew{cancel: cancel}
	curtain, drop := context.WithCancel(ctx) // of the moving screen
	drawn := make(chan struct{})
	team.add(func() error {
		defer close(drawn)
		stage.show(curtain, b)
		return nil
	})
	err := st.acts(ctx, team)
	drop()
	<-drawn
	if err == nil {
		err = st.finish(ctx, once)
	}
	cancel(nil)
	team.wait.Wait()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// acts plays up to the old main's return.
func (st *story) acts(ctx context.Context, team *crew) error {
	for _, act := range []func(context.Context, *crew) error{st.open, st.arm, st.live, st.strike, st.revive} {
		if err := act(ctx, team); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

func (st *story) say(format string, args ...any) {
	st.board.update(func(s *scene) { s.act = fmt.Sprintf(format, args...) })
}

// open starts the shops: main open, standby in maintenance and replicating.
func (st *story) open(ctx context.Context, team *crew) error {
	st.say("starting two shops: main is open, standby is in maintenance and replicates")
	ctx2, cancel := context.WithTimeout(ctx, shopPatience)
	defer cancel()
	for i, s := range st.lab.shops {
		if err := st.lab.startShop(s); err != nil {
			return err
		}
		for {
			_, err := s.closed(ctx2)
			if err == nil {
				break
			}
			if dead := s.process.alive(); dead != nil {
				return dead
			}
			if !pause(ctx2, returnPoll) {
				return fmt.Errorf("cannot reach %s at %s: %w", s.Name, s.URL, err)
			}
		}
		team.add(func() error { st.board.watchShop(ctx, i, s); return nil })
	}
	return st.lab.standby().close(ctx)
}

// arm starts the watchers and waits until all of them would act.
func (st *story) arm(ctx context.Context, team *crew) error {
	st.say("starting three watchers: they elect a leader and look at both shops")
	for i, w := range st.lab.watchers {
		if err := st.lab.startWatcher(w, func(line []byte) { st.board.readLog(i, line) }); err != nil {
			return err
		}
		team.add(func() error { st.board.watchSocket(ctx, i, w.api); return nil })
		team.add(func() error { st.board.watchDNS(ctx, i, w.DNS); return nil })
	}
	return st.await(ctx, armPatience, "the watchers are not armed", func(s *scene) bool {
		for _, w := range s.watchers {
			if !w.ready || w.answer != mainAddress {
				return false
			}
		}
		return true
	})
}

// live lets the customer order for a while.
func (st *story) live(ctx context.Context, team *crew) error {
	st.say("a customer orders 50 times a second, through the name %s", recordName)
	team.add(func() error { st.customer.order(ctx); return nil })
	pause(ctx, leadIn)
	return st.await(ctx, switchPatience, "no order reaches both databases", func(s *scene) bool {
		return s.customer.taken > 0 && s.shops[1].Seq > 0
	})
}

// strike kills main and waits for the cluster to do its work.
func (st *story) strike(ctx context.Context, _ *crew) error {
	if err := st.kill(ctx); err != nil {
		return err
	}
	err := st.await(ctx, switchPatience, "the switch has not happened", func(s *scene) bool {
		return !s.ended.IsZero() && s.result != "running" && !s.allAnswer(nextAddress).IsZero() && !s.customer.again.IsZero()
	})
	if err != nil {
		return err
	}
	st.say("standby is the shop now; next, the old main is started again")
	pause(ctx, afterglow)
	return nil
}

// kill ends main between two orders, when all of them have reached the standby, so that what is on main is what must
// be on the standby afterwards. Replication is asynchronous: an order in flight may be lost in any such system, and
// Watchover then reports how much is at risk.
func (st *story) kill(ctx context.Context) error {
	st.customer.between.Lock()
	defer st.customer.between.Unlock()
	ctx, cancel := context.WithTimeout(ctx, shopPatience)
	defer cancel()
	for {
		here, err := st.lab.main().condition(ctx)
		if err != nil {
			return fmt.Errorf("cannot ask main for its orders: %w", err)
		}
		there, err := st.lab.standby().condition(ctx)
		if err == nil && there.Seq == here.Seq {
			st.fate.orders = here.Seq
			break
		}
		if !pause(ctx, returnPoll) {
			return fmt.Errorf("the standby does not catch up: it has %d orders of %d", there.Seq, here.Seq)
		}
	}
	var err error
	if st.fate.sum, err = st.lab.main().sum(ctx, st.fate.orders); err != nil {
		return err
	}
	st.board.update(func(s *scene) {
		s.strike(time.Now())
		s.act = "main is killed (SIGKILL). Nobody told the watchers."
	})
	st.lab.main().process.kill()
	return nil
}

// revive starts the old main and watches how long it stays open, as a visitor with its old address would.
func (st *story) revive(ctx context.Context, _ *crew) error {
	st.say("the old main is started again: it believes that it is open, and the primary")
	main := st.lab.main()
	if err := st.lab.startShop(main); err != nil {
		return err
	}
	patience, cancel := context.WithTimeout(ctx, returnPatience)
	defer cancel()
	back := comeback{}
	for back.closed.IsZero() || back.frozen.IsZero() {
		status, _, err := ask(patience, web, http.MethodGet, main.URL+"/", nil)
		now := time.Now()
		if err == nil && back.answered.IsZero() {
			back.answered = now
		}
		if err == nil && status != http.StatusOK && back.closed.IsZero() {
			back.closed = now
		}
		if c, err := main.condition(patience); err == nil && c.Frozen && back.frozen.IsZero() {
			back.frozen = time.Now()
		}
		shown := back
		st.board.update(func(s *scene) { s.back = &shown })
		if !pause(patience, returnPoll) {
			return errors.Join(fmt.Errorf("the old main was not fenced within %s of its start", returnPatience), main.process.alive())
		}
	}
	st.say("the old main was put into maintenance and frozen: there is one shop")
	return nil
}

// await waits for a condition, and says what is wrong if it does not come true.
func (st *story) await(ctx context.Context, patience time.Duration, missing string, holds func(s *scene) bool) error {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var dead error
	if st.board.wait(limited, func(s *scene) bool {
		dead = st.anybodyDead()
		return dead != nil || holds(s)
	}) {
		return dead
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s := st.board.look()
	return fmt.Errorf("%s after %s; what was seen:\n%s", missing, patience, plainFrame(&s))
}

// anybodyDead: a watcher, or the standby, that has ended without being told to.
func (st *story) anybodyDead() error {
	var faults []error
	for _, w := range st.lab.watchers {
		if w.process != nil {
			faults = append(faults, w.process.alive())
		}
	}
	return errors.Join(append(faults, st.lab.standby().process.alive())...)
}
