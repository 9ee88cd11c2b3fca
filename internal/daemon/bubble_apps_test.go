package daemon

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// site is one app with its database, as it really is. Its programs are asked and told things by the watchers; time and
// faults do the rest.
type site struct {
	up          bool // the app answers its probes
	database    bool // the database answers
	hangs       bool // nothing answers, nothing refuses
	maintenance bool
	frozen      bool
	primary     bool
	stopped     bool            // its replication
	behindCut   map[string]bool // watchers that cannot reach it
	slow        time.Duration   // what every program takes longer
	slowActs    time.Duration   // what the programs that change something take longer
	broken      bool            // what changes something exits 3: half of the time after it has done it
	refuses     bool            // what changes something exits 3, and does nothing
	sticky      bool            // what was asked takes effect before its deadline though who asked has been called off
	openSince   time.Time       // since when its database is a primary that takes writes and answers soon; zero: it is not

	tokens  map[string]uint64    // highest that app and database were touched with
	told    map[string]time.Time // when a watcher was first told its role since openSince
	changed time.Time            // by a fault: what a watcher has just seen may be over
}

// town is the apps of a bubble and the judge of what is done to them.
type town struct {
	w        *bubble
	database bool

	seen   sync.Mutex              // guards failed; the ledger asks while others hold mu
	failed map[[2]string]time.Time // app, watcher: when its probe last failed

	mu    sync.Mutex // guards what follows; the ledger's is taken after it, never before
	rng   *rand.Rand
	sites map[string]*site
	hands map[uint64]*being // who acts with a token
	acts  int
	trap  ambush
	late  sync.WaitGroup // deeds that outlive who began them
}

// ambush is what befalls the watcher that acts next but so many.
type ambush struct {
	what  string // crash, isolate; empty: nothing
	acts  int
	verb  string // only such acts count; empty: all do
	early bool   // as soon as the program has begun, instead of when it takes effect
}

func newTown(w *bubble, apps []string, database bool, rng *rand.Rand) *town {
	t := &town{w: w, database: database, rng: rng, sites: map[string]*site{}, hands: map[uint64]*being{}, failed: map[[2]string]time.Time{}}
	for i, name := range apps {
		s := &site{up: true, database: true, maintenance: i > 0, primary: i == 0, tokens: map[string]uint64{}, behindCut: map[string]bool{}, told: map[string]time.Time{}}
		t.sites[name] = s
		s.settle()
	}
	return t
}

// settle notes whether the database takes writes now.
func (s *site) settle() {
	switch writable := s.primary && !s.frozen && s.database && !s.hangs && s.slow < time.Second; {
	case !writable:
		s.openSince = time.Time{}
	case s.openSince.IsZero():
		s.openSince = time.Now()
		clear(s.told)
	}
}

// change is a fault or a repair.
func (t *town) change(app string, do func(*site)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.sites[app]
	do(s)
	s.changed = time.Now()
	s.settle()
}

// is is an app as it is, without what the watchers have seen of it.
func (t *town) is(app string) site {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := *t.sites[app]
	s.tokens, s.behindCut, s.told = nil, nil, nil
	return s
}

// failedAt is when a watcher's probe of an app last failed.
func (t *town) failedAt(app, watcher string) time.Time {
	t.seen.Lock()
	defer t.seen.Unlock()
	return t.failed[[2]string{app, watcher}]
}

func (t *town) noteFailed(app, watcher string) {
	t.seen.Lock()
	defer t.seen.Unlock()
	t.failed[[2]string{app, watcher}] = time.Now()
}

var errKilled = errors.New("killed with its watcher")

// run runs a program of a watcher's life: [path, app, verb].
func (t *town) run(ctx context.Context, by *being, argv, env []string) ([]byte, int, error) {
	app, verb := argv[1], argv[2]
	t.mu.Lock()
	s := t.sites[app]
	wait := s.slow + time.Duration(1+t.rng.IntN(40))*time.Millisecond
	changes := slices.Contains(ofApp, verb) || slices.Contains(ofDatabase, verb)
	if changes && s.answers(verb) {
		wait += s.slowActs
	}
	if changes && t.trap.early {
		t.spring(by, verb)
	}
	t.mu.Unlock()
	err := t.pass(ctx, by, wait)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil && (s.hangs || s.behindCut[by.name]) {
		t.mu.Unlock()
		err = t.pass(ctx, by, time.Hour)
		t.mu.Lock()
	}
	probing := verb == "probe"
	if err != nil {
		// Whoever is killed in the middle may have come to its end.
		if changes && s.answers(verb) && !s.behindCut[by.name] && !s.refuses && (s.sticky || t.rng.IntN(2) == 0) {
			t.takeLate(ctx, by, app, verb, env)
		}
		if probing {
			t.noteFailed(app, by.name)
		}
		return nil, -1, err
	}
	if probing {
		if !s.up {
			t.noteFailed(app, by.name)
			return []byte("connection refused\n"), 1, nil
		}
		return nil, 0, nil
	}
	return t.serve(by, s, app, verb, env)
}

// pass waits; the watcher's death or the deadline end it.
func (t *town) pass(ctx context.Context, by *being, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return by.hands.Err()
	case <-ctx.Done():
		return ctx.Err()
	case <-by.hands.Done():
		return errKilled
	}
}

// serve answers a program that is not a probe. The caller holds mu.
func (t *town) serve(by *being, s *site, app, verb string, env []string) ([]byte, int, error) {
	switch {
	case !s.answers(verb):
		return []byte("connection refused\n"), 2, nil
	case verb == "check" && s.maintenance:
		return nil, 0, nil
	case verb == "check":
		return nil, 1, nil
	case verb == "role":
		if s.told[by.name].IsZero() {
			s.told[by.name] = time.Now()
		}
		return []byte(t.role(s)), 0, nil
	case s.refuses, s.broken && t.rng.IntN(2) == 0:
		return []byte("broken\n"), 3, nil
	}
	t.take(by, app, verb, env)
	if s.broken {
		return []byte("broken after it was done\n"), 3, nil
	}
	return nil, 0, nil
}

// answers reports whether the app, or its database if that is meant, answers at all.
func (s *site) answers(verb string) bool {
	if verb == "role" || slices.Contains(ofDatabase, verb) {
		return s.database && !s.hangs
	}
	return s.up && !s.hangs
}

// takeLate lets a verb take effect whose program was killed: it may just have come to its end; and what a sticky app was
// asked, it does, before the attempt's deadline. The caller holds mu.
func (t *town) takeLate(ctx context.Context, by *being, app, verb string, env []string) {
	deadline, ok := ctx.Deadline()
	left := time.Until(deadline)
	if s := t.sites[app]; !s.sticky || !ok || left <= 0 || verb == "catch_up" { // which only waits
		t.take(by, app, verb, env)
		return
	}
	wait := time.Duration(t.rng.Int64N(int64(left)))
	t.late.Go(func() {
		<-time.After(wait)
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.sites[app].answers(verb) {
			t.take(by, app, verb, env)
		}
	})
}

// role is what the database tells of itself. The caller holds mu.
func (t *town) role(s *site) string {
	text := "replica id=db1 lag_bytes=0"
	if s.primary {
		text = "primary id=db1"
	}
	if s.frozen {
		text += " frozen"
	}
	if !s.primary && !s.stopped && t.writerAnswers() {
		text += " streaming"
	}
	return text
}

// writerAnswers reports whether some primary sends its replicas anything. The caller holds mu.
func (t *town) writerAnswers() bool {
	for _, s := range t.sites {
		if s.primary && s.database && !s.hangs {
			return true
		}
	}
	return false
}

// ofDatabase and ofApp are the verbs that change something.
var (
	ofDatabase = []string{"freeze", "unfreeze", "catch_up", "stop", "resume", "promote"}
	ofApp      = []string{"on", "off"}
)

func variable(env []string, name string) string {
	for _, pair := range env {
		if value, ok := strings.CutPrefix(pair, "WATCHOVER_"+name+"="); ok {
			return value
		}
	}
	return ""
}

func token(env []string) uint64 {
	n, _ := strconv.ParseUint(variable(env, "TOKEN"), 10, 64)
	return n
}

// take lets a verb take effect, after it was judged. The caller holds mu.
func (t *town) take(by *being, app, verb string, env []string) {
	s := t.sites[app]
	t.acts++
	t.w.tell("%s acts: %s %s, token %d", by.name, app, verb, token(env))
	t.judge(by, app, verb, env)
	if !t.trap.early {
		t.spring(by, verb)
	}
	switch verb {
	case "on":
		s.maintenance = true
	case "off":
		s.maintenance = false
	case "freeze":
		s.frozen = true
	case "unfreeze":
		s.frozen = false
	case "stop":
		s.stopped = true
	case "resume":
		s.stopped = false
	case "promote":
		s.primary, s.stopped = true, false
	}
	s.settle()
}

// spring lets an ambush befall who acts. The caller holds mu.
func (t *town) spring(by *being, verb string) {
	if t.trap.what == "" || t.trap.verb != "" && t.trap.verb != verb {
		return
	}
	if t.trap.acts--; t.trap.acts > 0 {
		return
	}
	what := t.trap.what
	t.trap.what = ""
	t.w.tell("> %s befalls %s", what, by.name)
	t.w.happen([]string{what, by.name})
}

// judge checks what is done to an app against guarantees 3 and 5. The caller holds mu.
func (t *town) judge(by *being, app, verb string, env []string) {
	s, n := t.sites[app], token(env)
	part := "database"
	if !slices.Contains(ofDatabase, verb) {
		part = "app"
	}
	what := fmt.Sprintf("%s %s with token %d by %s", app, verb, n, by.name)
	if why := t.w.unjournaled(by, n, app, env); why != "" {
		t.w.fault("guarantee 3: %s: %s", what, why)
	}
	if n < s.tokens[part] {
		t.w.fault("guarantee 3: %s after one with token %d", what, s.tokens[part])
	}
	s.tokens[part] = max(s.tokens[part], n)
	if other := t.hands[n]; other != nil && other != by {
		t.w.fault("guarantee 3: %s, which %s has acted with", what, other.name)
	}
	t.hands[n] = by
	for name, other := range t.sites {
		if name == app {
			continue
		}
		switch {
		case verb == "promote" && !s.primary && !t.w.forced() && t.wasToldOpen(by, other, n):
			t.w.fault("guarantee 5: %s while the database of %s answers and takes writes since %s", what, name, t.w.at(other.openSince))
		case verb == "unfreeze" && s.primary && !other.openSince.IsZero() && t.reached(by, other):
			t.w.fault("guarantee 5: %s while the database of %s takes writes", what, name)
		case verb == "off" && t.database && !other.maintenance && other.up && t.reached(by, other):
			t.w.fault("guarantee 5: %s while %s is out of maintenance", what, name)
		}
	}
}

// reached reports whether a watcher has been able to reach an app for a while, so that it must know how it is.
func (t *town) reached(by *being, s *site) bool {
	return !s.hangs && !s.behindCut[by.name] && !s.refuses && !s.broken && time.Since(s.changed) > 40*time.Second
}

// longestLook is how long an attempt's look at the old database lasts before it is journaled: the probes' timeout, and a moment.
const longestLook = 3 * time.Second

// wasToldOpen reports whether a watcher was told, before an attempt's own look began, that a database takes writes, and nothing
// has happened to it since.
func (t *town) wasToldOpen(by *being, s *site, token uint64) bool {
	told := s.told[by.name]
	return !s.openSince.IsZero() && !s.behindCut[by.name] && !told.IsZero() && told.Add(longestLook).Before(t.w.ledger.journaledAt(token))
}
