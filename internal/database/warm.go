package database

import (
	"slices"
	"sync"
	"time"
)

// Warm keeps sessions for a while after they were used. To connect, prove oneself and fill a new session's caches takes longer
// than most acts, and clients wait meanwhile; so whoever asks next takes the session of who asked last, if that still answers.
// It is taken by one at a time, and only before its first use: within an attempt a session that is lost is not replaced.
// None grows old: a password or certificate that is no longer right, or a name that leads elsewhere now, is noticed soon.
type Warm struct {
	mu     sync.Mutex // guards what follows
	closed bool
	kept   []*keptSession // oldest first
}

const (
	warmFor  = 15 * time.Second // longer than most rhythms of looks
	warmAge  = time.Minute      // after it was opened
	warmMost = 64               // sessions, of all servers together
	warmEach = 3                // of one server
)

// warmAnswer is how long a kept session is waited for before it is given up: time must be left to connect anew.
var warmAnswer = 300 * time.Millisecond

// keptSession is one that nobody uses now.
type keptSession struct {
	server string
	since  time.Time
	opened time.Time
	value  any
	end    func()
}

// put keeps a session, or ends it if it is old or there are enough. A nil Warm keeps none.
func (w *Warm) put(server string, value any, opened time.Time, end func()) {
	if w == nil || time.Since(opened) > warmAge {
		end()
		return
	}
	for _, s := range w.add(&keptSession{server: server, since: time.Now(), opened: opened, value: value, end: end}) {
		s.end()
	}
}

// add takes a session in and gives out those that are to be ended for it.
func (w *Warm) add(s *keptSession) (ended []*keptSession) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return []*keptSession{s}
	}
	w.kept = append(w.kept, s)
	same := 0
	for _, other := range slices.Backward(w.kept) {
		if other.server == s.server {
			same++
		}
		if same > warmEach && other.server == s.server || time.Since(other.since) > warmFor {
			ended = append(ended, other)
		}
	}
	if len(w.kept)-len(ended) > warmMost {
		ended = append(ended, w.kept[0])
	}
	w.kept = slices.DeleteFunc(w.kept, func(k *keptSession) bool { return slices.Contains(ended, k) })
	return ended
}

// take gives out the session of a server that was used last, and when it was opened; nil if there is none.
func (w *Warm) take(server string) (value any, opened time.Time) {
	if w == nil {
		return nil, opened
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, s := range slices.Backward(w.kept) {
		if s.server == server && time.Since(s.since) <= warmFor {
			w.kept = slices.Delete(w.kept, i, i+1)
			return s.value, s.opened
		}
	}
	return nil, opened
}

// Close ends all sessions; those that come back later are ended too.
func (w *Warm) Close() {
	if w == nil {
		return
	}
	w.mu.Lock()
	kept := w.kept
	w.kept, w.closed = nil, true
	w.mu.Unlock()
	for _, s := range kept {
		s.end()
	}
}
