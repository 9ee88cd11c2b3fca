package daemon

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/internal/cluster"
	"github.com/watchover-ha/watchover/internal/config"
	"github.com/watchover-ha/watchover/internal/switchover"
	"github.com/watchover-ha/watchover/pkg/failover"
)

const group = "shop"

// bubble is a cluster of whole watchers in fake time: all but sockets and processes. Their network, their logs' disks and
// the apps are the bubble's own.
type bubble struct {
	plan   *plan
	names  []string
	base   string // directory of the data directories
	file   *config.File
	wire   *wire
	town   *town
	ledger *ledger
	began  time.Time
	every  uint64 // each how many-th index of a state is compared whole
	log    io.Writer

	clients  sync.WaitGroup // orders under way
	stopping sync.WaitGroup // watchers that are being stopped in order
	lasted   time.Duration  // from the beginning to the end

	mu     sync.Mutex // guards what follows
	lives  map[string]*being
	past   []*being
	disk   map[string]*memDisk
	said   map[string]uint32 // watcher: last serial that it answered
	orders []*order
	random *rand.Rand

	talk   sync.Mutex // guards what follows
	story  []string
	faults []string
}

// being is one watcher from a start to an end.
type being struct {
	name    string
	number  int
	dir     string
	d       *Daemon
	disk    *memDisk
	outlet  *outlet
	hands   context.Context // ends with the watcher's process, and with it every program
	kill    context.CancelFunc
	stop    context.CancelFunc
	done    chan struct{} // closed when Run has returned and the ledger has seen all
	err     error         // of Run; set when done is closed
	stopped bool          // on purpose
}

func newBubble(p *plan, base string) (*bubble, error) {
	w := &bubble{
		plan: p, base: base, wire: newWire(), began: time.Now(), every: 8, log: io.Discard,
		lives: map[string]*being{}, disk: map[string]*memDisk{}, said: map[string]uint32{}, random: rand.New(rand.NewPCG(p.seed, 2)),
	}
	for i := range p.watchers {
		w.names = append(w.names, fmt.Sprintf("w%d", i+1))
		w.wire.owner[address(i)] = w.names[i]
	}
	var err error
	if w.file, err = p.file(); err != nil {
		return nil, err
	}
	w.ledger = newLedger(w)
	w.town = newTown(w, p.apps, p.database, rand.New(rand.NewPCG(p.seed, 3)))
	return w, nil
}

func address(i int) string { return fmt.Sprintf("127.0.0.1:%d", 7001+i) }

// file is the configuration that all watchers share, but for their own names and directories.
func (p *plan) file() (*config.File, error) {
	var b strings.Builder
	b.WriteString("watcher: {name: w1, data_dir: data, socket: sock, dns_listen: [\"127.0.0.1:53\"], http_listen: \"\"}\ncluster:\n  name: prod\n  timing: wan\n  watchers:\n")
	for i := range p.watchers {
		fmt.Fprintf(&b, "    w%d: {address: %q, dns: [192.0.2.%d]}\n", i+1, address(i), 50+i)
	}
	mode := "automatic"
	if p.observe {
		mode = "observe"
	}
	fmt.Fprintf(&b, `
zone: {name: ha.example.com}
groups:
  shop:
    record: shop
    probe: {interval: 6s, retry_interval: 1s, timeout: 2s, fall: 2, rise: 2}
    failover: {mode: %s, confirm_for: 3s, cooldown: 90s}
    apps:
`, mode)
	for i, app := range p.apps {
		ctl := func(verb string) string { return fmt.Sprintf("[/bin/true, %s, %s]", app, verb) }
		fmt.Fprintf(&b, `
      - name: %s
        address: [192.0.2.%d]
        probes: [{kind: exec, exec: %s}]
        maintenance: {on: {exec: %s}, off: {exec: %s}, check: {exec: %s}}
`, app, 10+i, ctl("probe"), ctl("on"), ctl("off"), ctl("check"))
		if p.database {
			fmt.Fprintf(&b, "        database: {kind: exec, role: %s, freeze: %s, unfreeze: %s, catch_up: %s, stop_replication: %s, resume_replication: %s, promote: %s}\n",
				ctl("role"), ctl("freeze"), ctl("unfreeze"), ctl("catch_up"), ctl("stop"), ctl("resume"), ctl("promote"))
		}
	}
	return checks().Parse("bubble.yaml", []byte(b.String()), "/")
}

// tell adds a line to the story.
func (w *bubble) tell(format string, args ...any) {
	w.talk.Lock()
	defer w.talk.Unlock()
	w.story = append(w.story, fmt.Sprintf("%10s  ", time.Since(w.began))+fmt.Sprintf(format, args...))
}

// fault notes that something is not as it should be.
func (w *bubble) fault(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.tell("!!! %s", text)
	w.talk.Lock()
	defer w.talk.Unlock()
	w.faults = append(w.faults, text)
}

func (w *bubble) failed() bool {
	w.talk.Lock()
	defer w.talk.Unlock()
	return len(w.faults) > 0
}

// at is a moment as the story tells it.
func (w *bubble) at(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Sub(w.began).String()
}

// rare says at which indexes states are compared whole: that costs more than all the rest.
func (w *bubble) rare(index uint64) bool { return index%w.every == w.plan.seed%w.every }

// start begins a watcher's next life, if it has none.
func (w *bubble) start(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lives[name] != nil {
		return
	}
	l := &being{name: name, number: len(w.past), done: make(chan struct{}), outlet: &outlet{w: w.wire, name: name}}
	l.dir = filepath.Join(w.base, fmt.Sprintf("%s.%d", name, l.number))
	if l.disk = w.disk[name]; l.disk == nil {
		l.disk = newMemDisk(w.slowness)
		l.disk.stored = w.ledger.noteStored
	} else {
		l.disk = l.disk.kept()
		if err := os.CopyFS(l.dir, os.DirFS(w.lastDir(name))); err != nil {
			w.fault("cannot copy a data directory: %v", err)
			return
		}
	}
	l.hands, l.kill = context.WithCancel(context.Background())
	file := *w.file
	file.Watcher.Name, file.Watcher.DataDir, file.Watcher.Listen = name, l.dir, file.Cluster.Watchers[name].Address
	var err error
	l.d, err = newDaemon(Options{Version: "0.0.0", Log: zerolog.New(w.log), outside: &outside{
		network: l.outlet,
		disk:    func(string) (cluster.Disk, error) { return l.disk, nil },
		program: func(ctx context.Context, p switchover.Process) ([]byte, int, error) {
			return w.town.run(ctx, l, p.Argv, p.Env)
		},
		probe: func(ctx context.Context, argv, env []string) ([]byte, int, error) {
			return w.town.run(ctx, l, argv, env)
		},
	}}, &file)
	if err != nil {
		w.fault("%s cannot start: %v", name, err)
		return
	}
	w.lives[name], w.disk[name] = l, l.disk
	w.past = append(w.past, l)
	w.tell("%s starts", name)
	var ctx context.Context
	ctx, l.stop = context.WithCancel(context.Background())
	go w.live(ctx, l)
}

// lastDir is where the last life of a watcher had its data. The caller holds mu.
func (w *bubble) lastDir(name string) string {
	for _, l := range slices.Backward(w.past) {
		if l.name == name {
			return l.dir
		}
	}
	return ""
}

// slowness is how long a write to a log takes: mostly nothing, so that time passes only where something else happens meanwhile.
func (w *bubble) slowness() time.Duration {
	w.talk.Lock()
	defer w.talk.Unlock()
	if w.random.IntN(8) > 0 {
		return 0
	}
	return time.Duration(w.random.IntN(60)) * time.Millisecond
}

// live runs a watcher and follows what it publishes.
func (w *bubble) live(ctx context.Context, l *being) {
	defer close(l.done)
	following, end := context.WithCancel(context.Background())
	var follows sync.WaitGroup
	follows.Go(func() {
		var last uint64
		for {
			changed := l.d.node.Watch()
			s := l.d.node.State()
			if s.Index < last {
				w.fault("%s goes back from %d to %d", l.name, last, s.Index)
			}
			if last = s.Index; l.hands.Err() == nil {
				w.ledger.note(l, s)
			}
			select {
			case <-changed:
			case <-following.Done():
				return
			}
		}
	})
	l.err = l.d.Run(ctx)
	end()
	follows.Wait()
	l.outlet.kill()
	w.mu.Lock()
	own := w.lives[l.name] == l
	if own {
		delete(w.lives, l.name)
	}
	stopped := l.stopped
	w.mu.Unlock()
	l.kill()
	switch {
	case stopped && l.err != nil:
		w.fault("%s cannot stop: %v", l.name, l.err)
	case own && !stopped:
		w.tell("%s ends by itself: %v", l.name, l.err)
		w.fault("%s ends by itself: %v", l.name, l.err)
	}
}

// crash ends a watcher as if its process was killed: nothing that it does from now on reaches anybody, nor its next life.
func (w *bubble) crash(name string) {
	w.mu.Lock()
	l := w.lives[name]
	delete(w.lives, name)
	if l != nil {
		w.disk[name] = l.disk.kept()
	}
	w.mu.Unlock()
	if l == nil {
		return
	}
	l.kill()
	l.outlet.kill()
	w.tell("%s is killed", name)
	l.stop() // its remains are cleared away behind the scenes
}

// quit stops a watcher in order.
func (w *bubble) quit(name string) {
	w.mu.Lock()
	l := w.lives[name]
	if l != nil {
		l.stopped = true
	}
	w.mu.Unlock()
	if l == nil {
		return
	}
	w.tell("%s stops", name)
	l.stop()
	<-l.done
}

// living are the watchers that run.
func (w *bubble) living() []*being {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []*being
	for _, name := range w.names {
		if l := w.lives[name]; l != nil {
			list = append(list, l)
		}
	}
	return list
}

func (w *bubble) life(name string) *being {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lives[name]
}

// disks are what the watchers have on disk now, those that do not run included.
func (w *bubble) disks() map[string]*memDisk {
	w.mu.Lock()
	defer w.mu.Unlock()
	disks := map[string]*memDisk{}
	for name, d := range w.disk {
		disks[name] = d
	}
	return disks
}

// leader is the watcher that leads as far as it knows; nil: none does.
func (w *bubble) leader() *being {
	for _, l := range w.living() {
		if l.d.node.Status().Leads {
			return l
		}
	}
	return nil
}

// ask asks every watcher for the group's name: guarantee 6.
func (w *bubble) ask() {
	for _, l := range w.living() {
		serial, address, ok := l.ask()
		if !ok {
			w.mu.Lock()
			before := w.said[l.name]
			w.mu.Unlock()
			if before != 0 {
				w.fault("guarantee 6: %s answers nothing, though it has answered serial %d before", l.name, before)
			}
			continue
		}
		w.ledger.mu.Lock()
		want, known := w.ledger.names[serial]
		w.ledger.mu.Unlock()
		w.mu.Lock()
		last := w.said[l.name]
		w.said[l.name] = max(last, serial)
		w.mu.Unlock()
		switch {
		case serial < last:
			w.fault("guarantee 6: %s answers with serial %d after %d", l.name, serial, last)
		case known && want != address:
			w.fault("guarantee 6: %s answers %s with serial %d, committed was %s", l.name, address, serial, want)
		case !known:
			w.fault("guarantee 6: %s answers with serial %d, which was never committed", l.name, serial)
		}
	}
}

// ask asks a watcher's name server for the serial and the group's address; false: it answers nothing yet.
func (l *being) ask() (serial uint32, address string, ok bool) {
	for _, kind := range []uint16{dns.TypeSOA, dns.TypeA} {
		name := "ha.example.com."
		if kind == dns.TypeA {
			name = "shop." + name
		}
		query, err := new(dns.Msg).SetQuestion(name, kind).Pack()
		if err != nil {
			return 0, "", false
		}
		reply := new(dns.Msg)
		if err := reply.Unpack(l.d.dns.Ask(query)); err != nil || reply.Rcode != dns.RcodeSuccess || len(reply.Answer) != 1 {
			return 0, "", false
		}
		switch rr := reply.Answer[0].(type) {
		case *dns.SOA:
			serial = rr.Serial
		case *dns.A:
			ip, _ := netip.AddrFromSlice(rr.A.To4())
			address = ip.String()
		}
	}
	return serial, address, true
}

// end stops all and waits for every life.
func (w *bubble) end() {
	for _, l := range w.living() {
		w.mu.Lock()
		l.stopped = true
		w.mu.Unlock()
		l.stop()
	}
	w.mu.Lock()
	past := slices.Clone(w.past)
	w.mu.Unlock()
	for _, l := range past {
		<-l.done
	}
	w.clients.Wait()
	w.town.late.Wait()
}

// forced reports whether the switchover that is open was forced: a person has accepted that the old database may take writes.
func (w *bubble) forced() bool {
	s := w.state()
	o := s.Groups[group].Switchover
	return o.Open() && o.Force
}

// state is the newest state that any watcher has applied.
func (w *bubble) state() *failover.State {
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	return w.ledger.last
}
