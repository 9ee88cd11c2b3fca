package failover

import (
	"testing"
	"time"
)

// midway are worlds in the middle of things: steady, a failover with marks, past the point of no return, halted, undone
// with releases owed, and without databases.
func midway(t tb) []*world {
	var list []*world
	add := func(p plot, play func(w *world)) {
		w := newWorld(t)
		w.init(p)
		play(w)
		list = append(list, w)
	}
	p := defaultPlot()
	p.rules.ConfirmFor, p.tries, p.hooks = 0, 1, []string{"maintenance-off:after", "switch-dns:before"}
	add(p, func(w *world) { w.allUp() })
	add(p, func(w *world) { w.allUp(); w.down("main"); w.did(StepMaintenanceOff) })
	p.database = true
	marked := func(w *world) {
		w.allUp()
		w.down("main")
		w.failed(StepMaintenanceOn, "timeout")
		w.failed(StepFreeze, "timeout")
	}
	add(p, marked)
	add(p, func(w *world) {
		marked(w)
		w.did(StepStopReplication, StepPromote)
		w.failed(StepMaintenanceOff, "timeout")
	})
	add(p, func(w *world) {
		marked(w)
		w.failed(StepStopReplication, "timeout")
		w.failed(StepStopReplication, "timeout")
		w.failed(StepFreeze, "timeout")
		w.failed(StepMaintenanceOn, "timeout")
	})
	add(p, func(w *world) {
		w.allUp()
		w.must(Command{Request: &Request{Group: "shop"}})
		w.start(StepMaintenanceOn, nil, nil)
	})
	return list
}

// FuzzDecodeCommand applies whatever can be decoded to states in the middle of things: no entry may stop a watcher, and
// the state that comes of it must survive a snapshot.
func FuzzDecodeCommand(f *testing.F) {
	worlds := midway(f)
	for _, w := range worlds {
		for _, e := range w.log {
			text, err := EncodeCommand(e.Command)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := DecodeCommand(text)
		if err != nil {
			return
		}
		for _, w := range append(worlds, newWorld(t)) {
			before := w.s.Hash()
			s, _ := w.s.Apply(Entry{Index: w.index + 1, Term: c.Term, Command: c})
			if w.s.Hash() != before {
				t.Fatal("the entry changed the state that it was applied to")
			}
			survives(t, s)
		}
	})
}

// FuzzDecodeState goes on from whatever can be decoded: a snapshot that a watcher accepts must not stop it later.
func FuzzDecodeState(f *testing.F) {
	for _, w := range midway(f) {
		text, err := w.s.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"format":1,"cluster":"prod"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := DecodeState(text)
		if err != nil {
			return
		}
		survives(t, s)
		goOn(t, s)
	})
}

func survives(t *testing.T, s *State) {
	text, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	restored, err := DecodeState(text)
	if err != nil {
		t.Fatal(err)
	}
	if restored.Hash() != s.Hash() {
		t.Fatal("a restored state differs")
	}
}

// goOn applies one of everything to a state, each to what the one before left.
func goOn(t *testing.T, s *State) {
	fresh := memberNames(s.Members)
	apply := func(c Command) {
		c.Term, c.Fresh, c.Time = s.Term, fresh, time.Unix(1800000000, 0)
		s, _ = s.Apply(Entry{Index: s.Index + 1, Term: s.Term, Command: c})
	}
	apply(Command{Init: &Init{Cluster: "prod", Members: watchersNamed(3), Policy: defaultPlot().policy()}})
	apply(Command{Tick: &Tick{}})
	for _, timer := range s.Timers() {
		apply(Command{Due: &Due{Key: timer.Key}})
	}
	for _, group := range s.GroupNames() {
		s.Explain(group)
		s.Phase(group)
		s.DryRun(Request{Group: group, Force: true})
		for _, task := range append(s.Next(group), s.Keep(group)...) {
			s.Timeout(task)
			apply(Command{Journal: &Journal{Start: &Start{Task: task}}})
			apply(Command{Journal: &Journal{Ended: []Ended{{Task: task, Token: s.Token(s.Index), Outcome: OutcomeFailed}}}})
		}
		apply(Command{Retry: &RetryOrder{Group: group, Skip: true}})
		apply(Command{Abort: &GroupOrder{Group: group}})
		apply(Command{Ack: &GroupOrder{Group: group}})
		apply(Command{Request: &Request{Group: group, Force: true}})
	}
	apply(Command{SetPolicy: &SetPolicy{Revision: s.PolicyRevision, Policy: defaultPlot().policy()}})
	survives(t, s)
}
