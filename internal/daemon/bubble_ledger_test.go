package daemon

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// ledger is the bubble's own reading of the log: it takes every entry as soon as one watcher has applied it, applies it
// itself, and holds against it what the watchers publish and answer.
type ledger struct {
	w *bubble

	mu      sync.Mutex // guards what follows
	states  map[uint64]*failover.State
	last    *failover.State
	read    uint64 // index up to which the log has been read
	entries map[uint64]*raft.Log
	hashes  map[uint64]string
	stored  map[[2]uint64]time.Time // index, term: when it was first on a disk
	names   map[uint32]string       // serial: what the group's name points at
	results map[string]outcome      // by a command's id
	granted map[uint64]bool         // tokens that Apply gave
	events  []event
	ended   time.Time // when the last switchover ended that a cooldown follows
}

// outcome is what a command came to.
type outcome struct {
	index  uint64
	result failover.Result
}

// event is a change that the cluster made by itself: it happened between the moment when its entry was first on a disk
// and the one when a watcher first showed it.
type event struct {
	change    change
	call, ret time.Time
}

func newLedger(w *bubble) *ledger {
	s := failover.NewState()
	return &ledger{w: w, states: map[uint64]*failover.State{0: s}, last: s, entries: map[uint64]*raft.Log{}, hashes: map[uint64]string{},
		stored: map[[2]uint64]time.Time{}, names: map[uint32]string{}, results: map[string]outcome{}, granted: map[uint64]bool{}}
}

// noteStored takes the time at which an entry is on a disk.
func (l *ledger) noteStored(logs []*raft.Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range logs {
		key := [2]uint64{e.Index, e.Term}
		if _, ok := l.stored[key]; !ok {
			l.stored[key] = time.Now()
		}
	}
}

// journaledAt is when an entry was first on a disk; zero: it never was.
func (l *ledger) journaledAt(index uint64) (first time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, at := range l.stored {
		if key[0] == index && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	return first
}

// hasGranted reports whether a token was given, by the log up to a state that a watcher has applied.
func (l *ledger) hasGranted(by *being, s *failover.State, token uint64) bool {
	l.note(by, s)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.granted[token]
}

// note takes a state that a watcher has published.
func (l *ledger) note(by *being, s *failover.State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.read < s.Index {
		e := by.disk.entry(l.read + 1)
		if e == nil {
			l.w.fault("%s has applied %d and has no entry %d in its log", by.name, s.Index, l.read+1)
			return
		}
		l.read++
		l.entries[l.read] = e
		if e.Type == raft.LogCommand {
			l.apply(e)
		}
	}
	l.compare(by, s)
}

// checkWhole compares a watcher's state, whatever its index.
func (l *ledger) checkWhole(by *being) {
	s := by.d.node.State()
	l.note(by, s)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.states[s.Index] != nil && s.Hash() != l.hash(s.Index) {
		l.w.fault("guarantee 8: the state of %s at %d is not what the log gives", by.name, s.Index)
	}
}

// compare holds a published state against the log: equal index, equal state.
func (l *ledger) compare(by *being, s *failover.State) {
	want := l.states[s.Index]
	if want == nil {
		l.w.fault("%s shows a state of index %d, which is no command", by.name, s.Index)
		return
	}
	if e, own := l.entries[s.Index], by.disk.entry(s.Index); s.Index > 0 && own != nil && (own.Term != e.Term || !bytes.Equal(own.Data, e.Data)) {
		l.w.fault("%s has applied another entry %d than others", by.name, s.Index)
	}
	if l.w.rare(s.Index) && s.Hash() != l.hash(s.Index) {
		l.w.fault("guarantee 8: the state of %s at %d is not what the log gives", by.name, s.Index)
	}
}

func (l *ledger) hash(index uint64) string {
	if l.hashes[index] == "" {
		l.hashes[index] = l.states[index].Hash()
	}
	return l.hashes[index]
}

func (l *ledger) apply(e *raft.Log) {
	c, err := failover.DecodeCommand(e.Data)
	if err != nil {
		l.w.fault("entry %d cannot be read: %v", e.Index, err)
		return
	}
	before := l.last
	after, result := before.Apply(failover.Entry{Index: e.Index, Term: e.Term, Command: c})
	l.states[e.Index], l.last = after, after
	if result.Token != 0 {
		l.granted[result.Token] = true
	}
	if c.ID != "" {
		if old, again := l.results[c.ID]; !again || old.result.Rule == "term" {
			l.results[c.ID] = outcome{e.Index, result}
		}
	}
	l.checkZone(before, after)
	for _, name := range after.GroupNames() {
		if before.Groups[name] != nil {
			l.checkGroup(step{before, after, before.Groups[name], after.Groups[name], c, e})
		}
	}
	for _, line := range after.Events {
		if line.Seq > before.EventSeq {
			l.w.tell("  log %d: %s: %s", e.Index, line.Type, line.Text)
		}
	}
}

// step is what one entry made of one group.
type step struct {
	before, after *failover.State
	was, is       *failover.GroupState
	c             failover.Command
	e             *raft.Log
}

func (l *ledger) checkZone(before, after *failover.State) {
	if after.Policy == nil {
		return
	}
	g := after.Groups[group]
	address := after.Policy.Group(group).App(g.Active).Address[0]
	if after.Serial < before.Serial {
		l.w.fault("guarantee 6: entry %d takes the serial back from %d to %d", after.Index, before.Serial, after.Serial)
	}
	if old, ok := l.names[after.Serial]; ok && old != address {
		l.w.fault("guarantee 6: with serial %d the name points at %s and at %s", after.Serial, old, address)
	}
	l.names[after.Serial] = address
}

func (l *ledger) checkGroup(s step) {
	opened := s.opened()
	if opened != nil {
		l.checkOpening(s, opened)
	}
	if s.was.Active != s.is.Active && s.after.Serial <= s.before.Serial {
		l.w.fault("guarantee 6: entry %d moves the name without a new serial", s.e.Index)
	}
	if st := s.c.Journal; st != nil && st.Start != nil && s.c.Term != s.e.Term && s.after.EventSeq > s.before.EventSeq {
		l.w.fault("guarantee 3: entry %d of term %d begins an attempt for a leader of term %d", s.e.Index, s.e.Term, s.c.Term)
	}
	at := event{call: l.stored[[2]uint64{s.e.Index, s.e.Term}], ret: time.Now()}
	if opened != nil && opened.By == "quorum" {
		at.change = change{what: didOpen, id: opened.ID}
		l.events = append(l.events, at)
	}
	if w := s.is.Switchover; w.Open() && w.PastNoReturn() && !(s.was.Switchover.Open() && s.was.Switchover.ID == w.ID && s.was.Switchover.PastNoReturn()) {
		at.change = change{what: didPass, id: w.ID}
		l.events = append(l.events, at)
	}
	if ended := s.ended(); ended != nil {
		if ended.Result != failover.ResultUndone {
			l.ended = time.Now()
		}
		at.change = change{what: didEnd, id: ended.ID, passed: ended.PastNoReturn()}
		l.events = append(l.events, at)
	}
}

// opened is the switchover that the entry opened.
func (s step) opened() *failover.Switchover {
	if w := s.is.Switchover; w != nil && (s.was.Switchover == nil || s.was.Switchover.ID != w.ID) {
		return w
	}
	return nil
}

// ended is the switchover that the entry ended.
func (s step) ended() *failover.Switchover {
	if len(s.is.History) == 0 || !s.was.Switchover.Open() {
		return nil
	}
	if last := s.is.History[len(s.is.History)-1]; last.ID == s.was.Switchover.ID {
		return last
	}
	return nil
}

// checkOpening is guarantees 1, 2 and 7.
func (l *ledger) checkOpening(s step, w *failover.Switchover) {
	if s.was.Switchover.Open() && s.ended() == nil {
		l.w.fault("guarantee 1: entry %d opens switchover %d while %d is open", s.e.Index, w.ID, s.was.Switchover.ID)
	}
	if s.is.Epoch != s.was.Epoch+1 || w.Epoch != s.is.Epoch {
		l.w.fault("guarantee 1: switchover %d has epoch %d after %d", w.ID, w.Epoch, s.was.Epoch)
	}
	if w.Kind != failover.KindFailover {
		if s.c.Request == nil {
			l.w.fault("guarantee 2: switchover %d (%s) was opened and nobody asked for it", w.ID, w.Kind)
		}
		return
	}
	if s.is.Pause != nil || s.after.Policy.Group(s.is.Name).Failover.Mode != failover.ModeAutomatic {
		l.w.fault("guarantee 7: failover %d was opened while the automation was held", w.ID)
	}
	if cooldown := w.Policy.Failover.Cooldown; s.is.Cooldown != nil || !l.ended.IsZero() && time.Since(l.ended) < cooldown {
		l.w.fault("failover %d was opened within the cooldown: %s after the last switchover", w.ID, time.Since(l.ended))
	}
	var down []string
	for _, name := range slices.Compact(slices.Sorted(slices.Values(s.c.Fresh))) {
		r := s.after.Groups[s.is.Name].Apps[w.From].Reports[name]
		if r != nil && r.Verdict == failover.VerdictDown && r.Watcher == name && slices.Contains(l.w.names, name) {
			down = append(down, name)
		}
	}
	if len(down) <= len(l.w.names)/2 {
		l.w.fault("guarantee 2: failover %d was opened with %d of %d fresh verdicts down: %v", w.ID, len(down), len(l.w.names), down)
	}
	for _, name := range down {
		if at := l.w.town.failedAt(w.From, name); at.IsZero() || time.Since(at) > 2*time.Minute {
			l.w.fault("guarantee 2: failover %d counts %s, whose probes of %s have not failed since %s", w.ID, name, w.From, l.w.at(at))
		}
	}
}

// checkRestore is guarantee 8: the state after index, written and read again, and the rest of the log give the state at the end.
func (l *ledger) checkRestore(index uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.states[index] == nil {
		index--
	}
	text, err := l.states[index].Encode()
	if err != nil {
		l.w.fault("guarantee 8: %v", err)
		return
	}
	s := failover.NewState()
	if index > 0 {
		if s, err = failover.DecodeState(text); err != nil {
			l.w.fault("guarantee 8: the state at %d cannot be read: %v", index, err)
			return
		}
	}
	for i := index + 1; i <= l.read; i++ {
		if e := l.entries[i]; e.Type == raft.LogCommand {
			c, _ := failover.DecodeCommand(e.Data)
			s, _ = s.Apply(failover.Entry{Index: e.Index, Term: e.Term, Command: c})
		}
	}
	if s.Hash() != l.last.Hash() {
		l.w.fault("guarantee 8: the snapshot of %d and the rest of the log give another state than the whole log", index)
	}
}

// unjournaled says why an attempt with that token on that app is not for this watcher to make now; empty: it is.
func (w *bubble) unjournaled(by *being, token uint64, app string, env []string) string {
	mine := by.disk.entry(token) // generation 0: the token is the index of its entry
	if token == 0 || mine == nil || mine.Type != raft.LogCommand {
		return "its log has no such entry"
	}
	c, err := failover.DecodeCommand(mine.Data)
	if err != nil || c.Journal == nil || c.Journal.Start == nil {
		return "the entry begins no attempt"
	}
	if st := c.Journal.Start; st.App != app || st.Group != variable(env, "GROUP") || variable(env, "WATCHER") != by.name {
		return fmt.Sprintf("the entry begins %s of %s", st.Step, st.App)
	}
	if c.Term != mine.Term {
		return "the entry was appended in another term than it was proposed in"
	}
	if s := by.d.node.State(); s.Index < token {
		return fmt.Sprintf("it has applied no more than %d", s.Index)
	} else if !w.ledger.hasGranted(by, s, token) {
		return "the log has not accepted that attempt"
	}
	holders := 0
	for _, disk := range w.disks() {
		if e := disk.entry(token); e != nil && e.Term == mine.Term && bytes.Equal(e.Data, mine.Data) {
			holders++
		}
	}
	if holders <= len(w.names)/2 {
		return fmt.Sprintf("only %d watchers have the entry on disk", holders)
	}
	return ""
}
