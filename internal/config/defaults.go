package config

import (
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// Defaults is what a file that leaves a key out gets.
type Defaults struct {
	Watcher Watcher
	Cluster Cluster
	Zone    failover.Zone
	Group   failover.Group
}

// Default returns every default of the format; nothing else in this package holds one, except the few that follow
// from other keys: watcher.listen and watcher.dns_listen from cluster.watchers, probe.retry_interval and isolation.ttl
// being capped by the interval and TTL that are given, and a probe's name from its kind.
func Default() Defaults {
	return Defaults{
		Watcher: Watcher{
			DataDir:    "/var/lib/watchover",
			Socket:     "/run/watchover/watchover.sock",
			HTTPListen: "127.0.0.1:9653",
			Log:        Log{Level: "info", Format: "auto"},
		},
		Cluster: Cluster{Timing: timings["lan"]},
		Zone: failover.Zone{
			TTL:       5 * time.Minute,
			Isolation: failover.Isolation{After: 10 * time.Second, TTL: 30 * time.Second},
		},
		Group: failover.Group{
			Probing: failover.Probing{
				Interval: 2 * time.Second, RetryInterval: 500 * time.Millisecond, Timeout: time.Second, Fall: 3, Rise: 2,
			},
			Failover: failover.Rules{
				Mode:          failover.ModeAutomatic,
				ConfirmFor:    10 * time.Second,
				Cooldown:      10 * time.Minute,
				MaxLag:        failover.MaxLag{Bytes: 16 << 20, Time: 30 * time.Second},
				RequireFence:  failover.FenceAuto,
				RehearseEvery: 10 * time.Minute,
			},
			Steps: defaultSteps(),
		},
	}
}

// defaultSteps has an entry for every step of the plan. Catch-up and verify are tried once, for long: they wait for
// something that goes on by itself, and asking again would only begin the wait anew.
func defaultSteps() failover.StepSettings {
	steps := failover.StepSettings{}
	for _, name := range failover.Plan {
		steps[name] = failover.StepSetting{Timeout: 10 * time.Second, Tries: 3, Backoff: time.Second}
	}
	steps[failover.StepCatchUp] = failover.StepSetting{Timeout: 30 * time.Second, Tries: 1, Backoff: time.Second}
	steps[failover.StepPromote] = failover.StepSetting{Timeout: time.Minute, Tries: 3, Backoff: time.Second}
	steps[failover.StepVerify] = failover.StepSetting{Timeout: 30 * time.Second, Tries: 1, Backoff: time.Second}
	return steps
}

// timings are the named rhythms of Raft. "lan" is hashicorp/raft's own default; "wan" leaves room for round trips of
// some hundred milliseconds, so that a slow link is not taken for a dead leader.
var timings = map[string]Timing{
	"lan": {
		Heartbeat: time.Second, Election: time.Second, Lease: 500 * time.Millisecond,
		Commit: 50 * time.Millisecond, Transport: time.Second,
	},
	"wan": {
		Heartbeat: 3 * time.Second, Election: 3 * time.Second, Lease: 1500 * time.Millisecond,
		Commit: 200 * time.Millisecond, Transport: 3 * time.Second,
	},
}
