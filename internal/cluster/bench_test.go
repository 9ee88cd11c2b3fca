package cluster

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestFollowersHearOfCommitsAtOnce would fail without the pushes: CommitTimeout is so long that raft's own message
// would come seconds later.
func TestFollowersHearOfCommitsAtOnce(t *testing.T) {
	ca := newAuthority(t, "good CA")
	for name, secure := range map[string]bool{"in plain": false, "over TLS": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 3, func(o *Options) {
				o.Timing.CommitTimeout = 5 * time.Second
				if secure {
					o.Credentials = ca.of(o.Name)
				}
			})
			r.start(r.names()...)
			leader := r.leader()
			lags := measureLag(t, r, leader, 50)
			slices.Sort(lags)
			t.Logf("leader's apply to last follower's: median %s, 90%% %s, maximum %s", lags[len(lags)/2], lags[len(lags)*9/10], lags[len(lags)-1])
			if lags[len(lags)*9/10] > time.Second {
				t.Errorf("followers lag by %s", lags[len(lags)*9/10])
			}
		})
	}
}

func measureLag(t testing.TB, r *rig, leader *run, times int) []time.Duration {
	var lags []time.Duration
	for i := range times {
		reason := fmt.Sprint("r", i)
		seen := make(chan time.Time, len(r.peers))
		for _, n := range r.living() {
			go func() {
				for {
					next := n.Watch()
					if pauseReason(n) == reason {
						seen <- time.Now()
						return
					}
					<-next
				}
			}()
		}
		if _, err := leader.Propose(seconds(t, 10), pauseCommand("", reason, 0)); err != nil {
			t.Fatal(err)
		}
		var first, last time.Time
		for range r.peers {
			at := <-seen
			if first.IsZero() || at.Before(first) {
				first = at
			}
			if at.After(last) {
				last = at
			}
		}
		lags = append(lags, last.Sub(first))
	}
	return lags
}

// BenchmarkFollowerLag measures the time from the first watcher's apply to the last one's.
func BenchmarkFollowerLag(b *testing.B) {
	r := newRig(b, 3, func(o *Options) { o.Timing = LAN })
	leader := r.up()
	b.ResetTimer()
	lags := measureLag(b, r, leader, b.N)
	slices.Sort(lags)
	b.ReportMetric(float64(lags[len(lags)/2].Microseconds()), "median-us")
	b.ReportMetric(float64(lags[len(lags)-1].Microseconds()), "max-us")
}

// BenchmarkPropose measures one durable command at a time, on the leader and through a follower.
func BenchmarkPropose(b *testing.B) {
	r := newRig(b, 3, func(o *Options) { o.Timing = LAN })
	leader := r.up()
	for name, n := range map[string]*run{"leader": leader, "follower": r.follower()} {
		b.Run(name, func(b *testing.B) {
			for i := range b.N {
				if _, err := n.Propose(seconds(b, 10), pauseCommand("", fmt.Sprint(i), 0)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkProposeTwo measures two commands that share a write to the disk.
func BenchmarkProposeTwo(b *testing.B) {
	r := newRig(b, 3, func(o *Options) { o.Timing = LAN })
	leader := r.up()
	for i := range b.N {
		one := leader.ProposeAsync(pauseCommand("", fmt.Sprint("a", i), 0))
		two := leader.ProposeAsync(pauseCommand("", fmt.Sprint("b", i), 0))
		for _, wait := range []func() error{
			func() error { _, err := one(seconds(b, 10)); return err },
			func() error { _, err := two(seconds(b, 10)); return err },
		} {
			if err := wait(); err != nil {
				b.Fatal(err)
			}
		}
	}
}
