package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// log is a replicated log in memory.
type log struct {
	mu    sync.Mutex // guards what follows
	state *failover.State
	next  chan struct{} // closed when a newer state is there
	down  bool          // nothing is committed
}

var watchers = []string{"w1", "w2", "w3"}

// newLog is a cluster of one group with these targets, just begun.
func newLog(t *testing.T, targets ...failover.Action) *log {
	t.Helper()
	l := &log{state: failover.NewState(), next: make(chan struct{})}
	var members []failover.Member
	for _, name := range watchers {
		members = append(members, failover.Member{Name: name})
	}
	l.must(t, failover.Command{Init: &failover.Init{Cluster: "prod", ClusterID: "c1", Members: members, Policy: policy(targets...)}})
	return l
}

func policy(targets ...failover.Action) failover.Policy {
	app := func(name string) failover.App { return failover.App{Name: name, Address: []string{"192.0.2.1"}} }
	return failover.Policy{Zone: failover.Zone{Name: "ha.example.com.", TTL: time.Minute},
		Groups: []failover.Group{{Name: "shop", Record: "shop", Apps: []failover.App{app("main"), app("standby")}, Notify: targets}}}
}

func (l *log) State() *failover.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

func (l *log) Watch() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next
}

var errDown = errors.New("no leader")

func (l *log) Propose(_ context.Context, c failover.Command) (failover.Result, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return failover.Result{}, errDown
	}
	c.Term, c.Time, c.Fresh = 1, time.Now().UTC(), watchers
	var r failover.Result
	l.state, r = l.state.Apply(failover.Entry{Index: l.state.Index + 1, Term: 1, Command: c})
	close(l.next)
	l.next = make(chan struct{})
	return r, nil
}

func (l *log) setDown(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
}

func (l *log) must(t *testing.T, c failover.Command) {
	t.Helper()
	if r, err := l.Propose(context.Background(), c); err != nil || !r.Accepted {
		t.Fatalf("refused: %+v, %v", r, err)
	}
}

// happen makes one event that is worth telling.
func (l *log) happen(t *testing.T, reason string) {
	t.Helper()
	l.must(t, failover.Command{By: "uid:0", Pause: &failover.PauseOrder{Group: "shop", Reason: reason}})
}

func page(name string) failover.Action { return failover.Action{Exec: []string{"/bin/" + name}} }

// pagers are programs that write down what they are told.
type pagers struct {
	mu     sync.Mutex // guards what follows
	told   map[string][]body
	runs   map[string]int
	broken map[string]bool
	hangs  map[string]bool
	env    []string
	dir    string
}

func newPagers() *pagers {
	return &pagers{told: map[string][]body{}, runs: map[string]int{}, broken: map[string]bool{}, hangs: map[string]bool{}}
}

func (p *pagers) run(ctx context.Context, c Process) ([]byte, int, error) {
	name := strings.TrimPrefix(c.Argv[0], "/bin/")
	p.mu.Lock()
	p.runs[name]++
	p.env, p.dir = c.Env, c.Dir
	broken, hangs := p.broken[name], p.hangs[name]
	p.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return nil, -1, ctx.Err()
	}
	if broken {
		return []byte("no line\n"), 3, nil
	}
	var b body
	if err := json.Unmarshal(c.Stdin, &b); err != nil {
		return []byte(err.Error()), 1, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told[name] = append(p.told[name], b)
	return nil, 0, nil
}

func (p *pagers) set(change func(*pagers)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

// reasons are those of the events that a pager was told, in order.
func (p *pagers) reasons(name string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []string
	for _, b := range p.told[name] {
		list = append(list, b.Data["reason"])
	}
	return strings.Join(list, " ")
}

func (p *pagers) attempts(name string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.runs[name]
}

// lead lets a new leader tell until the returned func is called.
func lead(l *log, p *pagers) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	n := New(Options{Watcher: "w1", Dir: "/etc/watchover", Run: p.run, Log: zerolog.Nop()})
	go func() {
		defer close(done)
		n.Lead(ctx, l)
	}()
	return func() { cancel(); <-done }
}

// after lets fake time pass and everything that is due happen.
func after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestEventsAreToldOnceEachInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, p := newLog(t, page("a"), page("b")), newPagers()
		stop := lead(l, p)
		for _, reason := range []string{"one", "two", "three"} {
			l.happen(t, reason)
		}
		after(0)
		for _, name := range []string{"a", "b"} {
			if got := p.reasons(name); got != "one two three" {
				t.Errorf("%s was told %q", name, got)
			}
		}
		index := l.State().Index
		after(time.Hour)
		if l.State().Index != index {
			t.Error("something is committed though nothing happens")
		}
		stop()
		defer lead(l, p)()
		after(time.Minute)
		if p.attempts("a")+p.attempts("b") != 6 {
			t.Error("the next leader tells again what was told")
		}
	})
}

func TestTargetThatCannotBeReachedIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, p := newLog(t, page("good"), page("bad")), newPagers()
		p.broken["bad"] = true
		defer lead(l, p)()
		l.happen(t, "one")
		l.happen(t, "two")
		after(0)
		if got := p.reasons("good"); got != "one two" {
			t.Errorf("the good one was told %q, held up by the bad one", got)
		}
		after(4 * time.Minute) // at 0, 1, 3, 7, 15, 31, 63, 123, 183 s
		if n := p.attempts("bad"); n != 9 {
			t.Errorf("%d attempts in four minutes, want 9", n)
		}
		p.set(func(p *pagers) { p.broken["bad"] = false })
		after(time.Minute)
		if got := p.reasons("bad"); got != "one two" {
			t.Errorf("once mended it was told %q", got)
		}
	})
}

// A program that never ends has its time, and holds up neither another target nor the end of leadership.
func TestTargetThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, p := newLog(t, page("good"), page("hangs")), newPagers()
		p.hangs["hangs"] = true
		stop := lead(l, p)
		l.happen(t, "one")
		after(0)
		if got := p.reasons("good"); got != "one" {
			t.Errorf("the good one was told %q", got)
		}
		after(attemptTime + firstPause)
		if n := p.attempts("hangs"); n != 2 {
			t.Errorf("%d attempts, want 2", n)
		}
		began := time.Now()
		stop()
		if took := time.Since(began); took > 0 {
			t.Errorf("leadership ended %s late", took)
		}
		p.set(func(p *pagers) { p.hangs["hangs"] = false })
		defer lead(l, p)()
		after(0)
		if got := p.reasons("hangs"); got != "one" {
			t.Errorf("the next leader told %q", got)
		}
	})
}

// What was told but could not be committed is told again by the next leader, with the same id.
func TestRepeatHasTheSameID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, p := newLog(t, page("a")), newPagers()
		l.happen(t, "one")
		l.setDown(true)
		stop := lead(l, p)
		after(30 * time.Second)
		if got := p.reasons("a"); got != "one" {
			t.Errorf("one leader told %q", got)
		}
		stop()
		l.setDown(false)
		defer lead(l, p)()
		after(time.Second)
		if got := p.reasons("a"); got != "one one" {
			t.Fatalf("two leaders told %q", got)
		}
		if p.told["a"][0].ID != p.told["a"][1].ID || p.told["a"][0].ID == "" {
			t.Errorf("ids %q and %q", p.told["a"][0].ID, p.told["a"][1].ID)
		}
	})
}

func TestDroppedEventsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, p := newLog(t, page("a")), newPagers()
		p.broken["a"] = true
		defer lead(l, p)()
		for i := range 600 {
			l.happen(t, fmt.Sprint(i))
		}
		after(time.Second)
		p.set(func(p *pagers) { p.broken["a"] = false })
		after(time.Minute)
		told := p.told["a"]
		if len(told) != 512 || told[0].Data["reason"] != "88" || told[0].Dropped != 88 || told[1].Dropped != 0 || told[511].Data["reason"] != "599" {
			t.Errorf("%d told, the first is %+v", len(told), told[0])
		}
	})
}

func TestTargetsComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, p := newLog(t, page("a")), newPagers()
		p.broken["a"] = true
		defer lead(l, p)()
		l.happen(t, "one")
		after(10 * time.Second)
		l.must(t, failover.Command{SetPolicy: &failover.SetPolicy{Revision: l.State().PolicyRevision, Policy: policy(page("b"))}})
		after(2 * time.Minute)
		gone := p.attempts("a")
		l.happen(t, "two")
		after(2 * time.Minute)
		if p.attempts("a") != gone {
			t.Error("a target that is gone is still tried")
		}
		if got := p.reasons("b"); got != "two" {
			t.Errorf("the new target was told %q, want what happened since it came", got)
		}
		if n := len(l.State().Groups["shop"].Notified); n != 1 {
			t.Errorf("%d cursors are kept", n)
		}
	})
}

// An event that no program could take would hold up its target for ever.
func TestNovelIsCut(t *testing.T) {
	long := strings.Repeat("ß", 100_000)
	m, err := newMessage(failover.Notice{Event: failover.Event{Text: long, Data: map[string]string{"why": long, "by": "uid:0"}}}, "w1", "shop", 1, time.Now())
	if err != nil || len(m.body) > 10<<10 || !strings.Contains(string(m.body), `"by":"uid:0"`) {
		t.Errorf("%d bytes, %v", len(m.body), err)
	}
	for _, pair := range m.pairs {
		if len(pair[1]) > maxText+3 {
			t.Errorf("%s has %d bytes", pair[0], len(pair[1]))
		}
	}
}

func TestWhatAProgramIsGiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		t.Setenv("PATH", "/bin")
		t.Setenv("LANG", "C")
		t.Setenv("SECRET", "x")
		l, p := newLog(t, failover.Action{Exec: []string{"page", "night"}}), newPagers()
		defer lead(l, p)()
		l.happen(t, "one")
		after(0)
		got := p.told["/etc/watchover/page"]
		if len(got) != 1 {
			t.Fatalf("told: %v", slices.Collect(maps.Keys(p.told)))
		}
		want := body{ID: got[0].ID, Seq: 2, Time: got[0].Time, Type: "paused", Group: "shop", Text: "automation of shop paused", Data: map[string]string{"by": "uid:0", "reason": "one"}}
		if fmt.Sprint(got[0]) != fmt.Sprint(want) || want.ID != "c1-0-2" {
			t.Errorf("told %+v\nwant %+v", got[0], want)
		}
		env := []string{"PATH=/bin", "LANG=C", "WATCHOVER_GROUP=shop", "WATCHOVER_ATTEMPT=1", "WATCHOVER_DEADLINE=2000-01-01T00:00:10.000Z", "WATCHOVER_WATCHER=w1"}
		if !slices.Equal(p.env, env) || p.dir != "/etc/watchover" {
			t.Errorf("environment %q in %s", p.env, p.dir)
		}
	})
}
