package probe

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/watchover-ha/watchover/pkg/failover"
)

const (
	retry   = 200 * time.Millisecond // as in rhythm
	timeout = 500 * time.Millisecond
)

// calm is a world with one app that is well, some seconds after the start, and no other check due for an hour unless
// the interval is that of rhythm.
func calm(t *testing.T, interval time.Duration, change func(*Target)) *world {
	w := newWorld(t, 0)
	target := execTarget("main")
	target.Probing.Interval = interval
	if change != nil {
		change(&target)
	}
	w.targets(target)
	w.run()
	w.pass(5 * time.Second)
	w.expect("main", failover.VerdictUp, "")
	return w
}

// after are the checks of main since the given moment, relative to it.
func (w *world) after(start time.Duration) []time.Duration {
	var all []time.Duration
	for _, at := range w.times("main") {
		if at >= start {
			all = append(all, at-start)
		}
	}
	return all
}

func ms(all ...int) []time.Duration {
	var list []time.Duration
	for _, one := range all {
		list = append(list, time.Duration(one)*time.Millisecond)
	}
	return list
}

// expectDown waits for the verdict down, and checks that it came when expected and when the checks since start began.
func (w *world) expectDown(start time.Duration, begins []time.Duration, down time.Duration) {
	w.t.Helper()
	w.pass(start + down - time.Since(w.start))
	if at, what := w.lastChange(); what != "main:down" || at != start+down {
		w.t.Errorf("%s at %v, want main:down at %v", what, at-start, down)
	}
	if got := w.after(start); !slices.Equal(got, begins) {
		w.t.Errorf("checks began at %v, want %v", got, begins)
	}
}

// A watcher that finds out by itself waits for one timeout, then no longer for each.
func TestHangIsSeenByOverlappingChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := calm(t, time.Second, nil)
		defer w.stop()
		w.set("main", hangs)
		n := len(w.times("main"))
		for len(w.times("main")) == n {
			w.pass(time.Millisecond)
		}
		first := w.times("main")[n]
		const failed = timeout
		w.expectDown(first, ms(0, 500, 700, 900, 1100), failed+(3-2)*retry+timeout)
		if late := w.prober.Overdue(); late != 0 {
			t.Errorf("overdue by %v", late)
		}
	})
}

// A watcher that is told does not wait for any.
func TestPokedHang(t *testing.T) {
	tests := []struct {
		name   string
		fall   int
		begins []time.Duration
		down   time.Duration
	}{
		{"fall 1", 1, ms(0), timeout},
		{"fall 2", 2, ms(0, 200, 500), retry + timeout},
		{"fall 3", 3, ms(0, 200, 400, 600, 800), 2*retry + timeout},
		{"more than a timeout has room for", 5, ms(0, 200, 400, 600, 800, 1000, 1200), 4*retry + timeout},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := calm(t, time.Hour, func(target *Target) { target.Probing.Fall = tt.fall })
				defer w.stop()
				w.set("main", hangs)
				start := time.Since(w.start)
				w.prober.Poke("shop", "main")
				for range 3 { // others tell as well
					w.pass(10 * time.Millisecond)
					w.prober.Poke("shop", "main")
				}
				w.pass(tt.down - 31*time.Millisecond)
				w.expect("main", failover.VerdictUp, "")
				if got := w.after(start); !slices.Equal(got, tt.begins) {
					t.Errorf("checks began at %v, want %v", got, tt.begins)
				}
				w.pass(time.Millisecond)
				w.expect("main", failover.VerdictDown, "no answer within 500ms")
				if at, what := w.lastChange(); at != start+tt.down {
					t.Errorf("%s at %v, want %v", what, at-start, tt.down)
				}
			})
		})
	}
}

// The poke comes while a check is under way: that one counts as the first.
func TestPokeDuringACheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := calm(t, time.Hour, nil)
		defer w.stop()
		w.set("main", hangs)
		start := time.Since(w.start)
		w.prober.mu.Lock()
		one := w.prober.apps[0].probes[0]
		one.arm(time.Now(), time.Now())
		w.prober.mu.Unlock()
		w.pass(300 * time.Millisecond)
		if got := w.after(start); !slices.Equal(got, ms(0)) {
			t.Fatalf("checks began at %v without suspicion", got)
		}
		w.prober.Poke("shop", "main")
		w.expectDown(start, ms(0, 300, 500, 700, 900), 500*time.Millisecond+timeout)
	})
}

// An app that is well, but slower than retry_interval, is asked again after a poke and then left in peace.
func TestPokeOfASlowApp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := calm(t, time.Hour, nil)
		defer w.stop()
		w.set("main", answersAfter(300*time.Millisecond))
		start := time.Since(w.start)
		w.prober.Poke("shop", "main")
		w.pass(10 * time.Second)
		if got := w.after(start); !slices.Equal(got, ms(0, 200)) {
			t.Errorf("checks began at %v", got)
		}
		w.expect("main", failover.VerdictUp, "")
	})
}

func answersAfter(d time.Duration) func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			return 0, nil
		case <-ctx.Done():
			return -1, nil
		}
	}
}

// One check is lost for good, those that began later are answered: the app is up, also after the first one's timeout.
func TestLaterAnswerOvertakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := calm(t, time.Hour, func(target *Target) { target.Probing.Fall = 2 })
		defer w.stop()
		var lost atomic.Bool
		w.set("main", func(ctx context.Context) (int, error) {
			if lost.CompareAndSwap(false, true) {
				return hangs(ctx)
			}
			return 0, nil
		})
		start := time.Since(w.start)
		w.prober.Poke("shop", "main")
		w.pass(time.Minute)
		if got := w.after(start); !slices.Equal(got, ms(0, 200)) {
			t.Errorf("checks began at %v", got)
		}
		if got, want := w.told(), "[main:unknown main:up] []"; got != want {
			t.Errorf("told %s, want %s", got, want)
		}
		if v := w.verdict("main"); v.Probes["run"].Verdict != failover.VerdictUp {
			t.Errorf("the lost check is told as the last: %+v", v.Probes["run"])
		}
	})
}

// While it hangs the rhythm is kept, so that the first sign of life is seen within retry_interval, even if what was
// sent before is lost.
func TestReturnOfAHangingApp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := calm(t, time.Second, nil)
		defer w.stop()
		var under, most atomic.Int32
		w.set("main", func(ctx context.Context) (int, error) {
			most.Store(max(most.Load(), under.Add(1)))
			defer under.Add(-1)
			return hangs(ctx)
		})
		w.pass(time.Minute)
		w.expect("main", failover.VerdictDown, "no answer within 500ms")
		asked := w.times("main")
		for i := len(asked) - 100; i < len(asked); i++ {
			if gap := asked[i] - asked[i-1]; gap != retry {
				t.Fatalf("%v between two checks while down", gap)
			}
		}
		if most.Load() != 3 {
			t.Errorf("up to %d checks at once, want 3", most.Load())
		}
		w.set("main", nil)
		back := time.Since(w.start)
		w.pass(2 * retry)
		if at, what := w.lastChange(); what != "main:up" || at-back > 2*retry {
			t.Errorf("%s %v after it came back", what, at-back)
		}
		w.pass(time.Minute)
		if n := len(w.after(back)); n > 66 {
			t.Errorf("%d checks in the minute after it came back", n)
		}
	})
}

func (w *world) underWay() int {
	w.prober.mu.Lock()
	defer w.prober.mu.Unlock()
	return len(w.prober.apps[0].probes[0].flights)
}

// After a freeze nothing that was under way counts, nor does it hold up what begins anew.
func TestResetDropsWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := calm(t, time.Hour, nil)
		defer w.stop()
		w.set("main", hangs)
		w.prober.Poke("shop", "main")
		w.pass(450 * time.Millisecond)
		if n := w.underWay(); n != 3 {
			t.Fatalf("%d checks under way", n)
		}
		start := time.Since(w.start)
		w.mu.Lock()
		w.offset.suspended += time.Minute
		w.mu.Unlock()
		w.expect("main", failover.VerdictUnknown, "distrusts itself: suspended for 1m0s")
		synctest.Wait()
		if n := w.underWay(); n != 1 {
			t.Errorf("%d checks under way after the freeze, want a new one", n)
		}
		if last := w.verdict("main").Probes["run"]; last.Verdict != failover.VerdictUp {
			t.Errorf("a check that was broken off is told as the last: %+v", last)
		}
		// From unknown without a hint: the first timeout is waited for.
		w.expectDown(start, ms(0, 500, 700, 900, 1100), timeout+retry+timeout)
	})
}

// Overlapping checks are extra: they never take the slots that others need, and do not count as late without one.
func TestOverlapTakesHalfOfTheSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4)
		var targets []Target
		for i := range 3 {
			target := execTarget(fmt.Sprint("hanging", i))
			targets = append(targets, target)
			w.set(target.App, hangs)
		}
		targets = append(targets, execTarget("well"))
		w.targets(targets...)
		w.run()
		defer w.stop()
		for range 10_000 {
			w.pass(time.Millisecond)
			if n := len(w.prober.slots); n > 4 {
				t.Fatalf("%d checks under way", n)
			}
			if late := w.prober.Overdue(); late != 0 {
				t.Fatalf("overdue by %v", late)
			}
		}
		if n := len(w.times("well")); n < 10 {
			t.Errorf("the app that is well was asked %d times", n)
		}
		w.expect("well", failover.VerdictUp, "")
		for _, target := range targets[:3] {
			w.expect(target.App, failover.VerdictDown, "no answer within 500ms")
		}
	})
}

// frozen is a real server that can stop answering the way a stopped process does: the kernel goes on accepting
// connections, and nobody reads from them.
type frozen struct {
	net.Listener
	mu      sync.Mutex // held while frozen
	accepts atomic.Int32
}

func (f *frozen) Accept() (net.Conn, error) {
	conn, err := f.Listener.Accept()
	f.accepts.Add(1)
	f.wait()
	return conn, err
}

func (f *frozen) wait() {
	f.mu.Lock()
	defer f.mu.Unlock()
}

func TestRealServerThatHangs(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &frozen{Listener: listener}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		f.wait()
		_, _ = io.WriteString(w, "ok")
	}))
	_ = server.Listener.Close()
	server.Listener = f
	server.Start()
	defer server.Close()

	p, changes, alarms := live(t, prometheus.NewRegistry(), "")
	target := Target{Group: "shop", App: "main", Revision: 1, Probes: []failover.Probe{httpProbe(server.URL)}, Probing: rhythm}
	target.Probing.Interval = time.Hour
	target.Probing.RetryInterval = 100 * time.Millisecond
	target.Probing.Timeout = 2 * time.Second
	if err := p.SetTargets([]Target{target}); err != nil {
		t.Fatal(err)
	}
	await(t, changes, failover.VerdictUp)
	f.mu.Lock()
	unfreeze := sync.OnceFunc(f.mu.Unlock)
	defer unfreeze()
	start := time.Now()
	p.Poke("shop", "main")
	v := await(t, changes, failover.VerdictDown)
	took := time.Since(start)
	want := 2*target.Probing.RetryInterval + target.Probing.Timeout
	if took < want || took > 2*target.Probing.Timeout {
		t.Errorf("down after %v, want %v and a little", took, want)
	}
	if v.Reason != "no answer within 2s" {
		t.Errorf("reason %q", v.Reason)
	}
	<-alarms
	if late := p.Overdue(); late > time.Second {
		t.Errorf("overdue by %v", late)
	}
	unfreeze()
	thawed := time.Now()
	await(t, changes, failover.VerdictUp)
	if took := time.Since(thawed); took > target.Probing.Timeout {
		t.Errorf("up %v after it was thawed", took)
	}
	// The first connection is kept, was used by one check at a time, and all others were dialled for one check.
	if n := f.accepts.Load(); n < 3 {
		t.Errorf("%d connections for overlapping checks", n)
	}
}
