package daemon

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/watchover-ha/watchover/internal/config"
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
	writing  atomic.Int64   // how long a write to a log takes at most, in nanoseconds, where every one takes long; 0: mostly nothing
	stuck    atomic.Bool    // a watcher could not stop its raft; see stuckRaft

	mu     sync.Mutex // guards what follows
	lives  map[string]*being
	past   []*being
	disk   map[string]*memDisk
	kept   map[string]files  // of the data directories of watchers that do not run
	said   map[string]uint32 // watcher: last serial that it answered
	orders []*order
	random *rand.Rand

	talk   sync.Mutex // guards what follows
	story  []string
	faults []string
}

func newBubble(p *plan, base string) (*bubble, error) {
	w := &bubble{
		plan: p, base: base, wire: newWire(), began: time.Now(), every: 8, log: io.Discard,
		lives: map[string]*being{}, disk: map[string]*memDisk{}, kept: map[string]files{}, said: map[string]uint32{}, random: rand.New(rand.NewPCG(p.seed, 2)),
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
		got, ok := l.ask()
		if !ok {
			w.mu.Lock()
			before := w.said[l.name]
			w.mu.Unlock()
			if before != 0 {
				w.fault("guarantee 6: %s answers nothing, though it has answered serial %d before", l.name, before)
			}
			continue
		}
		w.ledger.note(l, l.d.node.State()) // what is answered was applied before, but the ledger may not have been told yet
		w.ledger.mu.Lock()
		want, known := w.ledger.names[got.serial]
		w.ledger.mu.Unlock()
		w.mu.Lock()
		last := w.said[l.name]
		w.said[l.name] = max(last, got.serial)
		w.mu.Unlock()
		switch {
		case got.serial < last:
			w.fault("guarantee 6: %s answers with serial %d after %d", l.name, got.serial, last)
		case known && want != got.address:
			w.fault("guarantee 6: %s answers %s with serial %d, committed was %s", l.name, got.address, got.serial, want)
		case !known:
			w.fault("guarantee 6: %s answers with serial %d, which was never committed", l.name, got.serial)
		}
		zone := w.file.Policy.Zone
		if deaf := w.wire.deaf(l.name); deaf > zone.Isolation.After+onItsWay && got.ttl > zone.Isolation.TTL {
			w.fault("guarantee 6: %s has heard nobody for %s and answers with a TTL of %s", l.name, deaf, got.ttl)
		}
	}
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
