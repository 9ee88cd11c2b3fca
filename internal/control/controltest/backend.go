// Package controltest is a daemon in memory for tests of what asks one: the real rules, but no cluster, no probes and
// no hands.
package controltest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/watchover-ha/watchover/internal/control"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// Start is the time of the first entry; each further one is a second later.
var Start = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// Backend applies whatever is proposed at once.
type Backend struct {
	mu       sync.Mutex // guards all below
	state    *failover.State
	news     chan struct{} // closed and replaced with every new state
	local    control.Local
	err      error // of the next proposals
	proposed []failover.Command
	found    []failover.Finding // of the next rehearsals
}

// Rehearse tells what SetFindings set.
func (b *Backend) Rehearse(context.Context, string) []failover.Finding {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.found
}

// SetFindings sets what rehearsals find.
func (b *Backend) SetFindings(found ...failover.Finding) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.found = found
}

// New is a cluster prod of watchers w1 to w3 with the policy, seen from w1; w2 leads. All watchers are fresh and silent
// about the apps.
func New(p failover.Policy) *Backend {
	b := &Backend{state: failover.NewState(), news: make(chan struct{})}
	members := []failover.Member{}
	b.local = control.Local{Watcher: "w1", Version: "0.1.0", Leader: "w2", Term: 4, HasQuorum: true, Watchers: map[string]control.WatcherLocal{}}
	for _, name := range []string{"w1", "w2", "w3"} {
		address := name + ".example.net:7653"
		members = append(members, failover.Member{Name: name, Address: address})
		b.local.Watchers[name] = control.WatcherLocal{Address: address, Version: "0.1.0"}
	}
	b.Commit(failover.Command{Init: &failover.Init{Cluster: "prod", ClusterID: "c1", Members: members, Policy: p}})
	return b
}

// Policy is a zone with groups of the apps main and standby, which have maintenance but no database.
func Policy(groups ...string) failover.Policy {
	p := failover.Policy{Zone: failover.Zone{Name: "ha.example.com.", TTL: 5 * time.Minute}}
	for _, name := range groups {
		steps := failover.StepSettings{}
		for _, step := range failover.Plan {
			steps[step] = failover.StepSetting{Timeout: 10 * time.Second, Tries: 3, Backoff: time.Second}
		}
		exec := func(word string) failover.Action {
			return failover.Action{Exec: []string{"/usr/local/bin/maintenance", word}}
		}
		app := func(app, address string) failover.App {
			return failover.App{
				Name: app, Address: []string{address}, Probes: []failover.Probe{{Kind: "tcp", Name: "tcp", Address: address + ":80"}},
				Maintenance: &failover.Maintenance{On: exec("on"), Off: exec("off")},
			}
		}
		p.Groups = append(p.Groups, failover.Group{
			Name: name, Record: name, Apps: []failover.App{app("main", "192.0.2.10"), app("standby", "198.51.100.10")},
			Probing:  failover.Probing{Interval: 2 * time.Second, RetryInterval: time.Second / 2, Timeout: time.Second, Fall: 3, Rise: 2},
			Failover: failover.Rules{Mode: failover.ModeAutomatic, Cooldown: 10 * time.Minute, RequireFence: failover.FenceAuto},
			Steps:    steps,
		})
	}
	return p
}

// Commit applies a command as the next entry and publishes the state.
func (b *Backend) Commit(c failover.Command) failover.Result {
	b.mu.Lock()
	defer b.mu.Unlock()
	c.Term = 4
	c.Time = Start.Add(time.Duration(b.state.Index) * time.Second)
	c.Fresh = []string{"w1", "w2", "w3"}
	next, result := b.state.Apply(failover.Entry{Index: b.state.Index + 1, Term: 4, Command: c})
	b.publish(next)
	return result
}

func (b *Backend) publish(s *failover.State) {
	b.state = s
	b.local.CommitIndex, b.local.AppliedIndex = s.Index, s.Index
	close(b.news)
	b.news = make(chan struct{})
}

// Verdicts lets every watcher report one verdict on an app.
func (b *Backend) Verdicts(group, app string, v failover.Verdict, reason string) {
	s := b.State()
	a := s.Groups[group].Apps[app]
	var reports failover.Reports
	for _, m := range s.Members {
		seq := uint64(1)
		if old := a.Reports[m.Name]; old != nil {
			seq = old.Seq + 1
		}
		reports.Reports = append(reports.Reports, failover.Report{
			Group: group, App: app, Watcher: m.Name, Boot: 1, Seq: seq, Revision: a.Revision, Verdict: v, Reason: reason, Since: s.Time,
		})
	}
	b.Commit(failover.Command{Reports: &reports})
}

// Edit publishes a changed copy of the state, for what takes many entries to come about. It panics if the state cannot
// be copied, which is a mistake in the test.
func (b *Backend) Edit(change func(*failover.State)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	text, err := b.state.Encode()
	if err != nil {
		panic(fmt.Sprintf("cannot copy state: %v", err))
	}
	next, err := failover.DecodeState(text)
	if err != nil {
		panic(fmt.Sprintf("cannot copy state: %v", err))
	}
	next.Index++
	change(next)
	b.publish(next)
}

// EditLocal changes what this watcher alone knows.
func (b *Backend) EditLocal(change func(*control.Local)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(&b.local)
}

// FailWith lets proposals fail; nil lets them be applied again.
func (b *Backend) FailWith(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

// Proposed lists the commands that were proposed and not failed.
func (b *Backend) Proposed() []failover.Command {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]failover.Command{}, b.proposed...)
}

// State is the newest state.
func (b *Backend) State() *failover.State {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state
}

// Watch is closed with the next state.
func (b *Backend) Watch() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.news
}

// Local is what this watcher alone knows.
func (b *Backend) Local() control.Local {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.local
}

// Transfer makes to the leader, or w1 if it is empty, unless FailWith was called.
func (b *Backend) Transfer(_ context.Context, to string) (failover.Result, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return failover.Result{}, b.err
	}
	if to == "" {
		to = "w1"
	}
	b.local.Leader = to
	return failover.Result{Accepted: true}, nil
}

// Propose applies the command unless FailWith was called.
func (b *Backend) Propose(_ context.Context, c failover.Command) (failover.Result, error) {
	b.mu.Lock()
	err := b.err
	if err == nil {
		b.proposed = append(b.proposed, c)
	}
	b.mu.Unlock()
	if err != nil {
		return failover.Result{}, err
	}
	result := b.Commit(c)
	if result.Accepted && c.RemoveMember != nil { // raft follows at once
		b.Commit(failover.Command{SettleMembers: &failover.Settle{Change: result.Index}})
	}
	return result, nil
}
