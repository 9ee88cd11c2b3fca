// Package daemon is the only place where the parts of a watcher meet. It builds them from the configuration, carries
// what one says to the other (verdicts to the cluster, states to the name server), runs them, and stops them in order.
// It holds no rule: those are in pkg/failover.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/internal/cluster"
	"github.com/watchover-ha/watchover/internal/config"
	"github.com/watchover-ha/watchover/internal/control"
	"github.com/watchover-ha/watchover/internal/database"
	"github.com/watchover-ha/watchover/internal/guard"
	"github.com/watchover-ha/watchover/internal/nameserver"
	"github.com/watchover-ha/watchover/internal/notify"
	"github.com/watchover-ha/watchover/internal/probe"
	"github.com/watchover-ha/watchover/internal/switchover"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// Options are what a daemon is built from.
type Options struct {
	ConfigPath string
	Version    string
	Log        zerolog.Logger
	Manager    Manager // nil: there is none
	// SetLevel takes up watcher.log.level of a file that was read again; nil: Log stays as it is.
	SetLevel func(level string)

	outside *outside // in a simulation, what takes the place of sockets, disks and programs
}

// outside is the world that a simulated watcher lives in, which has neither a control socket nor http, nor
// files that a policy names.
type outside struct {
	network cluster.Network
	disk    func(path string) (cluster.Disk, error)
	program switchover.Program
	probe   probe.ExecFunc
}

// Daemon is one watcher.
type Daemon struct {
	o     Options
	log   zerolog.Logger
	start time.Time

	guard    *guard.Guard // of actions, hooks and databases
	probing  *guard.Guard // of exec probes: those that hang must take no place from hooks, nor hooks from them
	node     *cluster.Node
	prober   *probe.Prober
	observer *switchover.Observer
	runner   *switchover.Runner
	notifier *notify.Notifier
	warm     database.Warm // sessions with databases, between looks and attempts
	pagers   *guard.Guard  // of notifications' programs: those of switchovers must not wait for a place behind them
	dns      *nameserver.Server
	voice    *voice
	control  *control.Server
	web      *control.Web // nil: http_listen is off
	desk     *desk
	stage    *stage
	trust    *trust // nil: cluster.tls is not set

	began *config.File // as read at the start; what is not taken up by a reload stays as it says

	mu   sync.Mutex   // guards file and base
	file *config.File // as last read
	base *config.File // as last read, but for files whose proposal failed: what a change is measured against
}

// New builds a watcher and binds its addresses. Whatever it opened is closed again if it fails.
func New(o Options) (*Daemon, error) {
	file, err := LoadConfig(o.ConfigPath)
	if err != nil {
		return nil, err
	}
	return newDaemon(o, file)
}

func newDaemon(o Options, file *config.File) (*Daemon, error) {
	d := &Daemon{o: o, log: o.Log.With().Str("watcher", file.Watcher.Name).Logger(), start: time.Now(), began: file, file: file, base: file}
	if err := d.build(file); err != nil {
		return nil, errors.Join(err, d.release())
	}
	for _, warning := range file.Warnings {
		d.log.Warn().Str("file", o.ConfigPath).Msg(warning)
	}
	return d, nil
}

func (d *Daemon) build(f *config.File) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	d.guard = guard.New(guard.Options{Log: d.part("guard")})
	d.probing = guard.New(guard.Options{Log: d.part("guard")})
	d.desk = newDesk(d)
	d.stage = newStage(d)
	hands := switchover.Options{Watcher: f.Watcher.Name, Dir: f.Dir, Run: d.program, Log: d.part("switchover"), UpSince: d.desk.upSince, Databases: d.openDatabase}
	d.runner = switchover.New(hands)
	d.observer = switchover.NewObserver(hands, d.desk.sighted)
	d.pagers = guard.New(guard.Options{Log: d.part("guard")})
	d.notifier = notify.New(notify.Options{Watcher: f.Watcher.Name, Dir: f.Dir, Run: d.pagerProgram, Log: d.part("notify")})
	var err error
	if d.prober, err = probe.New(probe.Options{
		Watcher: f.Watcher.Name, Dir: f.Dir, Exec: d.probeProgram, Ping: d.pingDatabase, OnChange: d.desk.verdict, OnFirstFailure: d.desk.firstFailure,
		Log: d.part("probe"), Registerer: registry,
	}); err != nil {
		return err
	}
	if d.trust, err = openTrust(f, d.part("trust")); err != nil {
		return err
	}
	if d.node, err = cluster.Open(d.clusterOptions(f, registry)); err != nil {
		return err
	}
	if d.dns, err = nameserver.New(nameserver.Options{Listen: f.Watcher.DNSListen, Log: d.part("nameserver"), Registerer: registry, Isolation: d.node.Isolation, Deaf: d.o.outside != nil}); err != nil {
		return err
	}
	d.voice = newVoice(d.dns, f.Watcher.DataDir, d.node.Current(), d.part("nameserver"))
	if d.o.outside != nil {
		return nil
	}
	if d.control, err = control.Listen(control.Options{Path: f.Watcher.Socket, Group: f.Watcher.SocketGroup, Operators: f.Watcher.Operators, Backend: backend{d}, Policy: PolicyText{}, Snapshots: snapshots{}, Log: d.part("control")}); err != nil {
		return err
	}
	if err := control.Register(registry, backend{d}); err != nil {
		return err
	}
	if f.Watcher.HTTPListen == "" {
		return nil
	}
	d.web, err = control.ListenWeb(control.WebOptions{Listen: f.Watcher.HTTPListen, Backend: backend{d}, Gatherer: registry, Log: d.part("http")})
	return err
}

func (d *Daemon) clusterOptions(f *config.File, registry prometheus.Registerer) cluster.Options {
	o := cluster.Options{
		Name: f.Watcher.Name, Cluster: f.Cluster.Name, Listen: f.Watcher.Listen, DataDir: f.Watcher.DataDir, Version: d.o.Version,
		Log: d.part("cluster"), Registerer: registry, Overdue: d.prober.Overdue, Lead: d.lead, OnPoke: d.prober.Poke, OnRehearse: d.stage.rehearse,
		Credentials: d.trust.credentials(),
		Bootstrap:   func() failover.Policy { return d.configured().Policy },
		Timing: cluster.Timing{Heartbeat: f.Cluster.Timing.Heartbeat, Election: f.Cluster.Timing.Election,
			Lease: f.Cluster.Timing.Lease, CommitTimeout: f.Cluster.Timing.Commit},
	}
	if w := d.o.outside; w != nil {
		o.Network, o.OpenDisk = w.network, w.disk
	}
	for _, name := range sortedKeys(f.Cluster.Watchers) {
		m := f.Cluster.Watchers[name]
		peer := cluster.Peer{Name: name, Address: m.Address}
		for _, ip := range m.DNS {
			peer.DNS = append(peer.DNS, ip.String())
		}
		o.Peers = append(o.Peers, peer)
	}
	return o
}

// staleOrder is how old an order may be, by the clocks of whoever proposed it and of this watcher, when a new leader finds it
// with nothing done. Orders are never queued; one that reached the log just as the quorum broke would be one.
const staleOrder = 15 * time.Second

const abortRetry = 200 * time.Millisecond

// lead is what this watcher does beside everything else while it leads.
func (d *Daemon) lead(ctx context.Context, l cluster.Leadership) {
	d.abortStale(ctx, l)
	journal := leading{Node: d.node, l: l}
	var telling sync.WaitGroup
	telling.Go(func() { d.notifier.Lead(ctx, bound{journal}) })
	d.runner.Lead(ctx, journal)
	telling.Wait()
}

// abortStale takes back switchovers that a person asked for long ago and that nobody has begun. The clocks may differ; a
// wrong guess costs an order that has to be given again, since nothing has been touched.
func (d *Daemon) abortStale(ctx context.Context, l cluster.Leadership) {
	for _, w := range staleOrders(d.node.State(), time.Now()) {
		command := failover.Command{By: "watcher:" + d.node.Name(), Abort: &failover.GroupOrder{Group: w.Group}}
		result, err := l.Propose(ctx, command)
		for err != nil && sleep(ctx, abortRetry) { // the runner must not begin what is to be taken back
			result, err = l.Propose(ctx, command)
		}
		d.log.Warn().Err(err).Str("group", w.Group).Uint64("switchover", w.ID).Bool("accepted", result.Accepted).
			Msg("an old order had not been begun when leadership was lost, it is taken back")
	}
}

// sleep waits for t; false: ctx ended first.
func sleep(ctx context.Context, t time.Duration) bool {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func staleOrders(state *failover.State, now time.Time) (stale []*failover.Switchover) {
	for _, name := range state.GroupNames() {
		g := state.Groups[name]
		w := g.Switchover
		if g.Unconfirmed != nil {
			continue // a person decides about it with ack
		}
		if w.Open() && w.Untouched() && w.Kind != failover.KindFailover && now.Sub(w.StartedAt) >= staleOrder {
			stale = append(stale, w)
		}
	}
	return stale
}

// leading is the journal as the runner sees it.
type leading struct {
	*cluster.Node
	l cluster.Leadership
}

func (l leading) GiveWay(reason string, to ...string) { l.l.GiveWay(reason, to...) }

func (l leading) Begin(c failover.Command) func(context.Context) (failover.Result, error) {
	return l.l.ProposeAsync(c)
}

// bound is the journal as the notifier sees it: what it proposes is of this term or nothing.
type bound struct{ leading }

func (b bound) Propose(ctx context.Context, c failover.Command) (failover.Result, error) {
	return b.l.Propose(ctx, c)
}

// Run watches until ctx ends or a part fails. Parts are stopped in the reverse order of what they need: first nobody can
// give orders, then leadership is handed over, then eyes and hands rest; the name server answers until the end.
func (d *Daemon) Run(ctx context.Context) error {
	d.log.Info().Str("version", d.o.Version).Str("cluster", d.configured().Cluster.Name).Str("config", d.o.ConfigPath).Msg("watcher starts")
	var parts lifecycle
	parts.add("name server", d.dns.Run)
	parts.add("desk", d.desk.run)
	parts.add("probes", d.prober.Run)
	parts.add("observer", func(ctx context.Context) error { d.observer.Follow(ctx, d.node); return nil })
	parts.add("cluster", d.node.Run)
	parts.add("rehearsals", d.stage.run)
	if d.control != nil {
		parts.add("socket", d.control.Serve)
	}
	if d.web != nil {
		parts.add("http", d.web.Serve)
	}
	if d.o.Manager != nil {
		c := &clerk{d: d, log: d.part("manager")}
		parts.add("service manager", c.run)
	}
	err := parts.run(ctx, d.log)
	d.probing.Close()
	d.guard.Close()
	d.pagers.Close()
	d.warm.Close()
	d.log.Info().Dur("after", time.Since(d.start)).Msg("watcher has stopped")
	return err
}

// release closes what New opened before it failed.
func (d *Daemon) release() error {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	var errs []error
	if d.control != nil {
		errs = append(errs, d.control.Serve(ended))
	}
	if d.dns != nil {
		d.dns.Close()
	}
	if d.node != nil {
		errs = append(errs, d.node.Run(ended))
	}
	for _, g := range []*guard.Guard{d.probing, d.guard} {
		if g != nil {
			g.Close()
		}
	}
	if d.pagers != nil {
		d.pagers.Close()
	}
	return errors.Join(errs...)
}

func (d *Daemon) part(name string) zerolog.Logger { return d.log.With().Str("part", name).Logger() }

func (d *Daemon) configured() *config.File {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.file
}

// program runs an action, hook or database program under the guard.
func (d *Daemon) program(ctx context.Context, p switchover.Process) ([]byte, int, error) {
	if d.o.outside != nil {
		return d.o.outside.program(ctx, p)
	}
	r, err := d.guard.Run(ctx, guard.Command{Argv: p.Argv, Env: p.Env, Dir: p.Dir, Stdin: p.Stdin})
	return r.Output, r.ExitCode, err
}

// pagerProgram runs a program of notifications.
func (d *Daemon) pagerProgram(ctx context.Context, p notify.Process) ([]byte, int, error) {
	r, err := d.pagers.Run(ctx, guard.Command{Argv: p.Argv, Env: p.Env, Dir: p.Dir, Stdin: p.Stdin})
	return r.Output, r.ExitCode, err
}

// probeProgram runs an exec probe under a guard of its own kind.
func (d *Daemon) probeProgram(ctx context.Context, argv, env []string) ([]byte, int, error) {
	if d.o.outside != nil {
		return d.o.outside.probe(ctx, argv, env)
	}
	f := d.configured()
	argv = append([]string{config.Resolve(f.Dir, argv[0])}, argv[1:]...)
	env = append([]string{"PATH=" + os.Getenv("PATH"), "LANG=" + os.Getenv("LANG")}, env...)
	r, err := d.probing.Run(ctx, guard.Command{Argv: argv, Env: env, Dir: f.Dir})
	if err != nil && !r.Killed {
		err = fmt.Errorf("%w: %w", probe.ErrNotRun, err)
	}
	return r.Output, r.ExitCode, err
}

// LoadConfig reads a watcher's file and checks it with everything that the parts know about their own keys, the
// certificates that it names included.
func LoadConfig(path string) (*config.File, error) {
	o := checks()
	o.CheckTLS = checkTLS
	return o.Load(path)
}
