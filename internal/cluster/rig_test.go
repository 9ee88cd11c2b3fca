package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// rig is a cluster of watchers in this process, each with its own data directory and loopback port.
type rig struct {
	t     testing.TB
	peers []Peer          // of the first start
	added map[string]Peer // watchers that only their own files name
	base  string
	each  func(o *Options) // changes the options before a watcher starts
	mu    sync.Mutex
	runs  map[string]*run
	first map[string]net.Listener // held so that no other test gets the ports before the first start
}

// run is one life of one watcher.
type run struct {
	*Node
	stop context.CancelFunc
	done chan struct{}
	err  error // set when done is closed
}

var errKilled = errors.New("killed by the test")

var testTiming = Timing{Heartbeat: 300 * time.Millisecond, Election: 300 * time.Millisecond, Lease: 150 * time.Millisecond, CommitTimeout: 100 * time.Millisecond}

// slow is for tests in which leadership must not change by itself, however loaded the machine is.
func slow(o *Options) {
	o.Timing = Timing{Heartbeat: time.Second, Election: time.Second, Lease: 500 * time.Millisecond, CommitTimeout: 100 * time.Millisecond}
}

// ownLoopback is an address that no other process listens on or calls from: a port on it is still free when a watcher is
// started again.
func ownLoopback() string {
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d", 64+pid>>16&63, pid>>8&255, pid&255)
}

func newRig(t testing.TB, watchers int, each func(o *Options)) *rig {
	r := &rig{t: t, base: t.TempDir(), each: each, runs: map[string]*run{}, added: map[string]Peer{}, first: map[string]net.Listener{}}
	for i := range watchers {
		name := fmt.Sprintf("w%d", i+1)
		ln, err := net.Listen("tcp", ownLoopback()+":0")
		if err != nil {
			t.Fatal(err)
		}
		r.first[name] = ln
		r.peers = append(r.peers, Peer{Name: name, Address: ln.Addr().String()})
	}
	t.Cleanup(func() {
		for _, ln := range r.first {
			_ = ln.Close()
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, n := range r.runs {
			n.stop()
		}
		for name, n := range r.runs {
			<-n.done
			if n.err != nil && !errors.Is(n.err, errKilled) && !errors.Is(n.err, context.Canceled) {
				t.Errorf("%s ended with %v", name, n.err)
			}
		}
	})
	return r
}

func (r *rig) names() []string {
	var names []string
	for _, p := range r.peers {
		names = append(names, p.Name)
	}
	return append(names, slices.Sorted(maps.Keys(r.added))...)
}

func (r *rig) options(name string) Options {
	o := Options{
		Name: name, Cluster: "prod", DataDir: filepath.Join(r.base, name), Peers: r.peers, Timing: testTiming, Version: "1.2.3", Log: zerolog.Nop(),
		Bootstrap: testPolicy, haltMembers: new(atomic.Bool),
	}
	if p, ok := r.added[name]; ok {
		o.Peers = append(slices.Clone(r.peers), p)
	}
	for _, p := range o.Peers {
		if p.Name == name {
			o.Listen = p.Address
		}
	}
	if ln := r.first[name]; ln != nil {
		o.listener = ln
		delete(r.first, name)
	}
	if r.each != nil {
		r.each(&o)
	}
	return o
}

func (r *rig) start(names ...string) {
	r.t.Helper()
	for _, name := range names {
		n, err := Open(r.options(name))
		if err != nil {
			r.t.Fatalf("%s: %v", name, err)
		}
		ctx, stop := context.WithCancel(context.Background())
		life := &run{Node: n, stop: stop, done: make(chan struct{})}
		go func() {
			life.err = n.Run(ctx)
			close(life.done)
		}()
		r.mu.Lock()
		r.runs[name] = life
		r.mu.Unlock()
	}
}

// up starts all watchers and waits until one leads and all follow.
func (r *rig) up() *run {
	r.t.Helper()
	r.start(r.names()...)
	leader := r.leader()
	until(r.t, "all follow", func() bool {
		for _, n := range r.living() {
			if n.State().Cluster != "prod" || len(n.State().Fresh) != len(r.peers) {
				return false
			}
		}
		return true
	})
	return leader
}

func (r *rig) living() []*run {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []*run
	for _, name := range r.names() {
		if n := r.runs[name]; n != nil {
			select {
			case <-n.done:
			default:
				list = append(list, n)
			}
		}
	}
	return list
}

// leader waits for the one that leads with its term open.
func (r *rig) leader() *run {
	r.t.Helper()
	var leader *run
	until(r.t, "a leader", func() bool {
		for _, n := range r.living() {
			if n.Status().Leads {
				leader = n
				return true
			}
		}
		return false
	})
	return leader
}

func (r *rig) follower() *run {
	r.t.Helper()
	leader := r.leader()
	for _, n := range r.living() {
		if n != leader {
			return n
		}
	}
	r.t.Fatal("no follower")
	return nil
}

// kill ends a watcher without handing leadership over.
func (r *rig) kill(n *run) {
	n.fail(errKilled)
	<-n.done
	n.stop()
}

// quit stops a watcher in order.
func (r *rig) quit(n *run) {
	n.stop()
	<-n.done
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("waited too long for: %s", what)
		case <-tick.C:
		}
	}
}

func seconds(t testing.TB, s int) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(s)*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func testPolicy() failover.Policy {
	steps := failover.StepSettings{}
	for _, name := range failover.Plan {
		steps[name] = failover.StepSetting{Timeout: 10 * time.Second, Tries: 3, Backoff: time.Second}
	}
	app := func(name, address string) failover.App {
		return failover.App{Name: name, Address: []string{address}, Probes: []failover.Probe{{Kind: "tcp", Name: "tcp", Address: address + ":80"}}}
	}
	return failover.Policy{
		Zone: failover.Zone{Name: "ha.example.com.", TTL: 5 * time.Minute},
		Groups: []failover.Group{{
			Name: "shop", Record: "shop", Apps: []failover.App{app("main", "192.0.2.10"), app("standby", "198.51.100.10")},
			Probing:  failover.Probing{Interval: time.Second, RetryInterval: 200 * time.Millisecond, Timeout: 500 * time.Millisecond, Fall: 3, Rise: 2},
			Failover: failover.Rules{Mode: failover.ModeManual, Cooldown: time.Minute, RequireFence: failover.FenceAuto},
			Steps:    steps,
		}},
	}
}

// pauseCommand changes the state in a way that is easy to see.
func pauseCommand(id, reason string, d time.Duration) failover.Command {
	return failover.Command{ID: id, By: "uid:0", Pause: &failover.PauseOrder{Group: "shop", Reason: reason, For: d}}
}

func pauseReason(n *run) string {
	if g := n.State().Groups["shop"]; g != nil && g.Pause != nil {
		return g.Pause.Reason
	}
	return ""
}

// verdictOf is what the watcher's state says that another watcher found of shop/main.
func verdictOf(n *run, watcher string) failover.Verdict {
	if g := n.State().Groups["shop"]; g != nil && g.Apps["main"].Reports[watcher] != nil {
		return g.Apps["main"].Reports[watcher].Verdict
	}
	return ""
}

// knowsVersions reports whether every watcher has told of itself.
func (n *run) knowsVersions() bool {
	for _, m := range n.State().Members {
		if m.About.Version != "1.2.3" {
			return false
		}
	}
	return true
}

func (n *run) say(v failover.Verdict) {
	n.Report([]failover.Report{{
		Group: "shop", App: "main", Verdict: v, Since: time.Unix(1700000000, 0),
		Revision: n.State().Groups["shop"].Apps["main"].Revision,
	}}, failover.About{})
}

// switchable is a value that tests change while watchers read it.
type switchable struct{ v atomic.Int64 }

func (s *switchable) duration() time.Duration { return time.Duration(s.v.Load()) }
