package probe

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// world is a Prober in fake time whose apps are exec probes: the program's name is the app's, its behaviour is set by
// the test. It needs no socket and no process.
type world struct {
	t      *testing.T
	prober *Prober
	stop   func()

	mu        sync.Mutex
	behaviour map[string]func(ctx context.Context) (int, error)
	asked     map[string][]time.Duration // since the start
	changes   []string
	changed   []time.Duration // when
	alarms    []string
	reached   func() bool
	checks    []time.Duration
	offset    reading // added to the clocks
	start     time.Time
}

func newWorld(t *testing.T, maxDials int) *world {
	w := &world{t: t, behaviour: make(map[string]func(context.Context) (int, error)), asked: make(map[string][]time.Duration),
		reached: func() bool { return true }, start: time.Now()}
	prober, err := New(Options{
		Watcher: "w1", Exec: w.exec, MaxDials: maxDials, Registerer: prometheus.NewRegistry(),
		OnChange: func(v Verdict) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.changes = append(w.changes, fmt.Sprintf("%s:%s", v.App, v.Verdict))
			w.changed = append(w.changed, time.Since(w.start))
		},
		OnFirstFailure: func(_, app string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.alarms = append(w.alarms, app)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	prober.clock = func() reading {
		w.mu.Lock()
		defer w.mu.Unlock()
		return reading{wall: time.Now().Add(w.offset.wall.Sub(time.Time{})), monotonic: time.Since(w.start) + w.offset.monotonic,
			suspended: w.offset.suspended}
	}
	prober.reach = func(context.Context, []string) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.checks = append(w.checks, time.Since(w.start))
		return w.reached()
	}
	w.prober = prober
	return w
}

func (w *world) exec(ctx context.Context, argv, _ []string) ([]byte, int, error) {
	w.mu.Lock()
	behave := w.behaviour[argv[0]]
	w.asked[argv[0]] = append(w.asked[argv[0]], time.Since(w.start))
	w.mu.Unlock()
	if behave == nil {
		return nil, 0, nil
	}
	code, err := behave(ctx)
	return []byte("exit says " + argv[0]), code, err
}

func (w *world) set(name string, behave func(context.Context) (int, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.behaviour[name] = behave
}

func (w *world) run() {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- w.prober.Run(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	}
}

func (w *world) pass(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
	synctest.Wait()
}

func (w *world) targets(targets ...Target) {
	w.t.Helper()
	if err := w.prober.SetTargets(targets); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) verdict(app string) Verdict {
	w.t.Helper()
	for _, v := range w.prober.Verdicts() {
		if v.App == app {
			return v
		}
	}
	w.t.Fatalf("no verdict of %s", app)
	return Verdict{}
}

func (w *world) expect(app string, want failover.Verdict, reason string) {
	w.t.Helper()
	if v := w.verdict(app); v.Verdict != want || v.Reason != reason {
		w.t.Fatalf("%s is %s, %q; want %s, %q", app, v.Verdict, v.Reason, want, reason)
	}
}

func (w *world) times(app string) []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]time.Duration(nil), w.asked[app]...)
}

// lastChange is when the last verdict was told, and which.
func (w *world) lastChange() (time.Duration, string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed[len(w.changed)-1], w.changes[len(w.changes)-1]
}

func (w *world) told() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return fmt.Sprint(w.changes, w.alarms)
}

var rhythm = failover.Probing{Interval: time.Second, RetryInterval: 200 * time.Millisecond, Timeout: 500 * time.Millisecond, Fall: 3, Rise: 2}

func execTarget(app string) Target {
	return Target{Group: "shop", App: app, Revision: 1, Probing: rhythm, Probes: []failover.Probe{{Kind: "exec", Name: "run", Exec: []string{app}}}}
}

func exits(code int) func(context.Context) (int, error) {
	return func(context.Context) (int, error) { return code, nil }
}

func hangs(ctx context.Context) (int, error) {
	<-ctx.Done()
	return -1, nil
}
