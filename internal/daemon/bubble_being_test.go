package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/internal/cluster"
	"github.com/watchover-ha/watchover/internal/switchover"
)

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
		l.leave(w.kept[name])
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

// files are what a data directory holds beside the log, by name.
type files map[string][]byte

// left reads the files that a life would leave behind if it ended now. Each is replaced as a whole, so each is the old one or
// the new one.
func (l *being) left() files {
	list := files{}
	for _, name := range []string{"identity.json", "boot", servedFile} {
		if text, err := os.ReadFile(filepath.Join(l.dir, name)); err == nil {
			list[name] = text
		}
	}
	return list
}

// leave puts files into a new life's directory.
func (l *being) leave(list files) {
	err := os.MkdirAll(l.dir, 0o700)
	for name, text := range list {
		err = errors.Join(err, os.WriteFile(filepath.Join(l.dir, name), text, 0o600))
	}
	if err != nil {
		panic(err) // the disk of this machine is full, or the like
	}
}

// slowness is how long a write to a log takes: mostly nothing, so that time passes only where something else happens meanwhile.
// Where the disks are slow there is time between any two entries, in which all else goes on.
func (w *bubble) slowness() time.Duration {
	w.talk.Lock()
	defer w.talk.Unlock()
	if most := w.writing.Load(); most > 0 {
		return time.Duration(most/2 + w.random.Int64N(most/2+1))
	}
	if w.random.IntN(8) > 0 {
		return 0
	}
	return time.Duration(w.random.IntN(60)) * time.Millisecond
}

// stuckRaft is what a watcher says that could not stop raft in time and leaves it behind in a process that ends. It happens,
// seldom, to hashicorp/raft 1.8.0 itself: its pipelineSend waits in AppendEntries for a place that pipelineDecode would make, which has
// ended because the follower had refused an entry or had seen a higher term (replication.go); nobody closes that pipeline.
const stuckRaft = "cannot stop raft within"

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
		w.kept[l.name] = l.left()
	}
	stopped := l.stopped
	w.mu.Unlock()
	l.kill()
	switch {
	case l.err != nil && strings.Contains(l.err.Error(), stuckRaft):
		w.stuck.Store(true)
		w.tell("%s cannot stop its raft, and leaves it to the end of its process", l.name)
	case stopped && l.err != nil:
		w.fault("%s cannot stop: %v", l.name, l.err)
	case own && !stopped && strings.Contains(fmt.Sprint(l.err), "start the process again"):
		w.tell("%s ends by itself, for its supervisor to start it: %v", l.name, l.err)
	case own && !stopped:
		w.fault("%s ends by itself: %v", l.name, l.err)
	}
}

// crash ends a watcher as if its process was killed: nothing that it does from now on reaches anybody, nor its next life.
func (w *bubble) crash(name string) {
	w.mu.Lock()
	l := w.lives[name]
	delete(w.lives, name)
	if l != nil { // the files before the log: what they say of it must not be newer
		w.kept[name] = l.left()
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

// spoken is what a watcher's name server says of the group's name.
type spoken struct {
	serial  uint32
	address string
	ttl     time.Duration
}

// ask asks a watcher's name server; false: it answers nothing yet.
func (l *being) ask() (a spoken, ok bool) {
	for _, kind := range []uint16{dns.TypeSOA, dns.TypeA} {
		name := "ha.example.com."
		if kind == dns.TypeA {
			name = "shop." + name
		}
		query, err := new(dns.Msg).SetQuestion(name, kind).Pack()
		if err != nil {
			return spoken{}, false
		}
		reply := new(dns.Msg)
		if err := reply.Unpack(l.d.dns.Ask(query)); err != nil || reply.Rcode != dns.RcodeSuccess || len(reply.Answer) != 1 {
			return spoken{}, false
		}
		switch rr := reply.Answer[0].(type) {
		case *dns.SOA:
			a.serial = rr.Serial
		case *dns.A:
			ip, _ := netip.AddrFromSlice(rr.A.To4())
			a.address, a.ttl = ip.String(), time.Duration(rr.Hdr.Ttl)*time.Second
		}
	}
	return a, true
}
