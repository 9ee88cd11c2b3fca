package daemon

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

const (
	// rehearsalTime bounds one watcher's rehearsal of one group; a person waits for it.
	rehearsalTime = 8 * time.Second
	// askingTime bounds a rehearsal on all watchers. It leaves the others time to answer, and is below what the socket gives an order.
	askingTime = rehearsalTime + 2*time.Second
	// rehearsalSoon is when the first rehearsal comes after a start or a change of the group's policy: after the first probes.
	rehearsalSoon = 10 * time.Second
	// rehearsals is how many run at a time; who comes later waits.
	rehearsals = 2
)

// stage is where this watcher rehearses: by itself every rehearse_every, and when somebody asks. What a rehearsal finds for
// certain is reported with everything else that the watcher says of itself, and counts against readiness until the next one.
type stage struct {
	d     *Daemon
	slots chan struct{} // bounds rehearsals

	mu     sync.Mutex // guards what follows
	faults map[string][]failover.Fault
}

func newStage(d *Daemon) *stage {
	return &stage{d: d, slots: make(chan struct{}, rehearsals), faults: map[string][]failover.Fault{}}
}

// turn is when a group is next rehearsed, and for which policy and roles.
type turn struct {
	policy failover.Group
	writer string
	epoch  uint64
	due    time.Time
}

// run rehearses each group in its turn until ctx ends.
func (s *stage) run(ctx context.Context) error {
	turns := map[string]*turn{}
	for {
		changed := s.d.node.Watch()
		state := s.d.node.State()
		s.plan(state, turns, time.Now())
		var wait <-chan time.Time
		name, next := earliest(turns)
		if next != nil {
			wait = time.After(time.Until(next.due))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			continue
		case <-wait:
		}
		next.due = time.Now().Add(min(rehearsalSoon, next.policy.Failover.RehearseEvery))
		if state.Phase(name) == failover.PhaseSteady { // in an outage nothing may stand in a switchover's way
			next.due = time.Now().Add(next.policy.Failover.RehearseEvery)
			s.rehearse(ctx, name)
		}
	}
}

// plan gives every group its turn, a new or changed one soon.
func (s *stage) plan(state *failover.State, turns map[string]*turn, now time.Time) {
	for name := range turns {
		if state.Policy.Group(name) == nil {
			delete(turns, name)
			s.keep(name, nil)
		}
	}
	if state.Policy == nil {
		return
	}
	for _, p := range state.Policy.Groups {
		known, g := turns[p.Name], state.Groups[p.Name]
		switch {
		case p.Failover.RehearseEvery <= 0:
			delete(turns, p.Name)
			s.keep(p.Name, nil)
		case known == nil || known.writer != g.Writer || known.epoch != g.Epoch || !reflect.DeepEqual(known.policy, p):
			// What was found before was of other roles, or of a policy that is mended by now.
			turns[p.Name] = &turn{policy: p, writer: g.Writer, epoch: g.Epoch, due: now.Add(min(rehearsalSoon, p.Failover.RehearseEvery))}
			s.keep(p.Name, nil)
		}
	}
}

func earliest(turns map[string]*turn) (name string, next *turn) {
	for _, key := range sortedKeys(turns) {
		if next == nil || turns[key].due.Before(next.due) {
			name, next = key, turns[key]
		}
	}
	return name, next
}

// rehearse tries on this watcher what a group's plan needs, and keeps the faults for the reports.
func (s *stage) rehearse(ctx context.Context, group string) []failover.Finding {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return []failover.Finding{{Check: "reach", Detail: "too many rehearsals at the same time"}}
	}
	ctx, cancel := context.WithTimeout(ctx, rehearsalTime)
	defer cancel()
	state := s.d.node.State()
	p := state.Policy.Group(group)
	if p == nil {
		return []failover.Finding{{Check: "reach", Detail: fmt.Sprintf("this watcher does not know group %s yet", group)}}
	}
	found := []failover.Finding{s.files(ctx, p), s.dns(ctx, state)}
	found = append(found, s.d.observer.Rehearse(ctx, state, group)...)
	if ctx.Err() != context.Canceled {
		s.note(group, found, state, s.d.node.State())
	}
	return found
}

// note keeps what a rehearsal found for certain between two states.
func (s *stage) note(group string, found []failover.Finding, before, now *failover.State) {
	if stillSo(before, now, group) {
		s.keep(group, failover.Faults(group, found))
	}
}

// stillSo reports whether a group was at rest and in its present roles all the time of a rehearsal: what a switchover has just
// stopped or frozen is no fault.
func stillSo(before, now *failover.State, group string) bool {
	a, b := before.Groups[group], now.Groups[group]
	return before.Phase(group) == failover.PhaseSteady && now.Phase(group) == failover.PhaseSteady && a != nil && b != nil && a.Writer == b.Writer && a.Epoch == b.Epoch
}

// files looks for every file, program and variable that the group names. What is missing is a blocker of its own, missing_file.
func (s *stage) files(ctx context.Context, p *failover.Group) failover.Finding {
	missing := s.d.missing(ctx, *p)
	if len(missing) > 0 {
		return failover.Finding{Check: "files", Detail: "missing or not to be used: " + strings.Join(missing, ", ")}
	}
	return failover.Finding{Check: "files", OK: true, Detail: "every file, program and variable is there"}
}

// dns asks this watcher's own name server over the wire.
func (s *stage) dns(ctx context.Context, state *failover.State) failover.Finding {
	f := failover.Finding{Check: "dns", OK: s.d.voice.answers(ctx, answered{zone: state.Policy.Zone.Name, serial: state.Serial})}
	f.Detail = fmt.Sprintf("answers for %s with serial %d", state.Policy.Zone.Name, state.Serial)
	if !f.OK {
		f.Detail = fmt.Sprintf("does not answer for %s with serial %d or newer", state.Policy.Zone.Name, state.Serial)
	}
	return f
}

// keep remembers a group's faults and has them reported if they are news.
func (s *stage) keep(group string, faults []failover.Fault) {
	s.mu.Lock()
	changed := !reflect.DeepEqual(s.faults[group], faults)
	if faults == nil {
		delete(s.faults, group)
	} else {
		s.faults[group] = faults
	}
	s.mu.Unlock()
	if !changed {
		return
	}
	for _, f := range faults {
		s.d.log.Warn().Str("group", f.Group).Str("app", f.App).Str("fault", f.Detail).Msg("a step of the plan would fail here")
	}
	s.d.desk.wake()
}

// all lists the faults of every group, in the order of their names.
func (s *stage) all() []failover.Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []failover.Fault
	for _, group := range sortedKeys(s.faults) {
		list = append(list, s.faults[group]...)
	}
	return list
}
