package probe

import (
	"context"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

func witnessed(app string) Target {
	target := execTarget(app)
	target.Witnesses = []string{"witness:1"}
	return target
}

func (w *world) reach(answer func() bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reached = answer
}

func (w *world) checked() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.checks)
}

func TestWitnessesAreLeftAloneWhileAllIsWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		w.targets(witnessed("main"), witnessed("standby"))
		w.run()
		defer w.stop()
		w.pass(time.Minute)
		if n := w.checked(); n > 1 {
			t.Errorf("%d checks in a calm minute", n)
		}
		w.set("main", exits(1))
		w.pass(time.Minute)
		w.expect("main", failover.VerdictDown, "exit says main")
		if n := w.checked(); n < 10 || n > 15 {
			t.Errorf("%d checks in a minute of failures, want one in 5 s", n)
		}
	})
}

func TestNoWitnessNoVerdict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		w.targets(witnessed("main"), witnessed("standby"))
		w.run()
		defer w.stop()
		w.pass(3 * time.Second)
		w.reach(func() bool { return false })
		w.set("main", exits(1))
		w.pass(10 * time.Second)
		const lost = "distrusts itself: no witness reachable"
		w.expect("main", failover.VerdictUnknown, lost)
		w.expect("standby", failover.VerdictUnknown, lost)
		if got := w.told(); strings.Contains(got, "down") || !strings.HasSuffix(got, "main:unknown standby:unknown] [main]") {
			t.Errorf("told %s: down must never have been said", got)
		}
		// With the network back, what failed before counts no more: `fall` new failures are needed.
		w.reach(func() bool { return true })
		for w.verdict("standby").Verdict == failover.VerdictUnknown {
			w.pass(10 * time.Millisecond)
		}
		if v := w.verdict("main").Verdict; v != failover.VerdictUnknown {
			t.Errorf("main is %s as soon as a witness answers", v)
		}
		w.pass(3 * rhythm.RetryInterval)
		w.expect("main", failover.VerdictDown, "exit says main")
		w.expect("standby", failover.VerdictUp, "")
	})
}

// A check that began before the first failure proves nothing: the network may have died since.
func TestDownWaitsForACheckBegunAfterTheFirstFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		w.targets(witnessed("main"))
		w.run()
		defer w.stop()
		w.pass(3 * time.Second)
		answer := make(chan bool)
		w.prober.mu.Lock()
		w.prober.reach = func(_ context.Context, _ []string) bool { return <-answer }
		w.prober.mu.Unlock()
		w.prober.witnesses["shop"].ask() // begins while all is well
		w.pass(time.Millisecond)
		w.set("main", exits(1))
		w.pass(5 * time.Second)
		w.expect("main", failover.VerdictUp, "")
		answer <- true // of the old check
		w.pass(5 * time.Second)
		w.expect("main", failover.VerdictUp, "")
		answer <- true // of the one asked for by the failure
		synctest.Wait()
		w.expect("main", failover.VerdictDown, "exit says main")
		close(answer)
	})
}

func TestWitnessesTakenAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		w.reach(func() bool { return false })
		w.targets(witnessed("main"))
		w.run()
		defer w.stop()
		w.pass(3 * time.Second)
		w.expect("main", failover.VerdictUnknown, "distrusts itself: no witness reachable")
		w.set("main", exits(1))
		w.pass(3 * time.Second)
		w.targets(execTarget("main"))
		w.expect("main", failover.VerdictUnknown, "no full round of probes yet")
		w.set("main", nil)
		w.pass(time.Second)
		w.expect("main", failover.VerdictUp, "")
	})
}

func TestReachAny(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	open := listener.Addr().String()
	defer func() { _ = listener.Close() }()
	closed := closedAddress(t)
	tests := []struct {
		name      string
		addresses []string
		want      bool
	}{
		{"accepts", []string{open}, true},
		{"refuses", []string{closed}, true},
		{"unusable", []string{"127.0.0.1:99999"}, false},
		{"one of two", []string{"127.0.0.1:99999", open}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := reachAny(t.Context(), tt.addresses); got != tt.want {
				t.Errorf("reached: %v", got)
			}
		})
	}
}

// closedAddress is an address on loopback that refuses connections.
func closedAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}
