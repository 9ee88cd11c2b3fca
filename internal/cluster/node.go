// Package cluster is the agreement between the watchers: it keeps their common log with hashicorp/raft, applies it with
// failover.State.Apply, and publishes the state that comes out. Whatever a watcher wants to change goes through Propose,
// whichever watcher leads.
//
// One TCP port carries raft's own streams and the watchers' requests to one another: heartbeats that tell the leader
// whom it may count, changed verdicts on their way to the log, forwarded commands. A leader acts only after a barrier
// and a first Tick in its own term, and every command it proposes carries the list of the watchers it has heard in that
// term.
//
// The package refuses to vote under a name whose data is gone: a watcher with an empty data directory joins only when
// every configured peer agrees, on disk, that this very directory takes part in the cluster's first start.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// Errors that callers may ask for.
var (
	// ErrNoLeader means that the command was not proposed: nothing was done.
	ErrNoLeader = errors.New("there is no leader")
	// ErrUnknown means that the command may or may not have been committed. Sent again with the same id, it is still
	// applied only once.
	ErrUnknown = errors.New("the outcome is unknown")
)

const (
	// proposeTimeout bounds Propose when its context has no deadline.
	proposeTimeout = 10 * time.Second
	// stopTimeout bounds each part of the orderly stop: the hand-over, raft, and the goroutines.
	stopTimeout = 10 * time.Second
)

// Peer is one watcher of the cluster as the configuration names it.
type Peer struct {
	Name    string   `json:"name"`
	Address string   `json:"address"` // host:port
	DNS     []string `json:"dns,omitempty"`
}

// Timing is how patient the watchers are with one another. Zero fields take the values of LAN.
type Timing struct {
	Heartbeat     time.Duration // without a leader's word, until an election is prepared
	Election      time.Duration // of one round
	Lease         time.Duration // without a majority's word, until the leader steps down
	CommitTimeout time.Duration // until followers hear of a commit when nothing else is sent and the push was lost
}

// LAN and WAN are the two named timings. Raft's own heartbeats leave every Heartbeat/10 or so.
var (
	LAN = Timing{Heartbeat: time.Second, Election: time.Second, Lease: 500 * time.Millisecond, CommitTimeout: 200 * time.Millisecond}
	WAN = Timing{Heartbeat: 3 * time.Second, Election: 3 * time.Second, Lease: 1500 * time.Millisecond, CommitTimeout: 400 * time.Millisecond}
)

// Options are what a Node is made of. Funcs left nil are not called.
type Options struct {
	Name    string // of this watcher, among Peers
	Cluster string
	Listen  string // host:port
	DataDir string
	Peers   []Peer // all watchers, this one included, for the first start
	Timing  Timing
	Version string
	Log     zerolog.Logger
	// Registerer gets the package's metrics; nil: none are kept.
	Registerer prometheus.Registerer
	// Credentials are asked for with each new connection between watchers; they are never changed in place. Nil: the
	// watchers speak in plain, and every address has to be loopback.
	Credentials func() Credentials
	// Bootstrap gives the policy that the first leader of an empty cluster proposes.
	Bootstrap func() failover.Policy
	// Overdue says by how much this watcher's most belated probe is overdue.
	Overdue func() time.Duration
	// Lead runs in its own goroutine while this watcher leads: after its barrier and first Tick have been applied, until
	// ctx ends, which it does when leadership is lost or is to be handed over. In the latter case the watcher still leads until
	// Lead returns, so last outcomes can be journaled. Nothing else of the next term happens before Lead has returned;
	// if it takes longer than leadPatience for that, Run ends with an error.
	Lead func(ctx context.Context, l Leadership)
	// OnPoke is called when another watcher has seen an app fail for the first time. It must not block.
	OnPoke func(group, app string)
	// OnRehearse tries what a group's plan would need on this watcher, changing nothing, until ctx ends at the latest. More than
	// one call at a time comes; nil: nothing is found.
	OnRehearse func(ctx context.Context, group string) []failover.Finding
	// Network is what the watchers talk over; nil: TCP. OpenDisk opens what raft keeps its log, term and vote on; nil: a file in
	// DataDir. A simulation gives both.
	Network  Network
	OpenDisk func(path string) (Disk, error)

	listener    net.Listener    // instead of Listen
	disk        func(Disk) Disk // puts a disk with faults in the place of the real one
	haltMembers *atomic.Bool    // in tests: the leader leaves raft's configuration as it is

	leadPatience time.Duration // 0: leadPatience
}

// Node is this watcher's part of the cluster.
type Node struct {
	o       Options
	log     zerolog.Logger
	dir     *dataDir
	section string // digest of cluster name and peers
	opened  time.Time

	base  *failover.State // of the newest snapshot at Open; nil: there was none
	store *store
	found uint64 // last index of the log at Open
	snaps raft.SnapshotStore
	gate  *gate
	trans *raft.NetworkTransport
	raft  atomic.Pointer[raft.Raft] // nil until the cluster has agreed to begin

	public  atomic.Pointer[published]
	descent atomic.Pointer[lineage]
	view    atomic.Pointer[leaderView]
	term    atomic.Pointer[term] // that this watcher leads in; nil: it does not
	contact atomic.Int64         // nanoseconds after opened at which a quorum was last known to be in contact
	behind  atomic.Pointer[commitMark]
	current currency
	applied atomic.Pointer[commitMark] // as Stuck last saw it
	waiting atomic.Pointer[string]     // why this watcher takes no part
	space   atomic.Pointer[Space]      // as last measured

	joining joining
	doubts  chan struct{} // one slot: another watcher refuses this one; see standingLoop
	copies  copies
	learned atomic.Pointer[[]Peer] // the members as another watcher told them to this one, which joins
	waits   atomic.Pointer[string] // what a change of the members waits for; told by the leader
	reports *reports
	pokes   *pokes
	peersMu sync.Mutex
	peers   map[string]*peer // guarded by peersMu

	curious  chan struct{} // one slot: another watcher has told of a higher generation
	notify   chan bool     // raft's word on leadership; read by watchLeadership until the node stops
	kick     chan struct{} // one slot; wakes the heartbeat
	fatal    chan error    // one slot; ends Run
	stopping atomic.Bool
	down     chan struct{} // closed by close when raft has been shut down
	stopped  raft.Future   // of raft's end; set by hangUp, for Run alone. Nil: raft has not been told to end
	proposal chan struct{} // slots for forwarded commands in work
	limit    *limiter
	metrics  *metrics // nil without a registerer

	wg        sync.WaitGroup
	work      sync.Mutex
	workEnded bool // guarded by work: no goroutine may start any more
}

// published is one state and the word that it is no longer the latest.
type published struct {
	state *failover.State
	next  chan struct{} // closed by the publisher of the next one
}

// leaderView is who leads as far as this watcher knows. Its context ends when that changes.
type leaderView struct {
	id      string
	changed context.Context
	end     context.CancelFunc
}

// commitMark is a commit index the leader announced and when this watcher first stood behind it.
type commitMark struct {
	index uint64
	since time.Time
}

// Open takes the data directory and the port. It fails if another process holds the directory, if the directory belongs
// to another watcher or cluster, if its newest snapshot is damaged, or if an address is not loopback and there are no Credentials. Whoever opened a
// node must Run it, if only with an ended context, to give both back.
func Open(o Options) (*Node, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	n := &Node{
		o: o, log: o.Log, section: sectionDigest(o.Cluster, o.Peers), opened: time.Now(),
		peers: map[string]*peer{}, curious: make(chan struct{}, 1), notify: make(chan bool, 64), kick: make(chan struct{}, 1), fatal: make(chan error, 1), down: make(chan struct{}), doubts: make(chan struct{}, 1),
		proposal: make(chan struct{}, maxProposals), limit: newLimiter(5 * time.Second),
	}
	n.current.reached = make(chan struct{})
	n.setState(failover.NewState())
	n.setLeader("")
	var err error
	if n.dir, err = openDataDir(o.DataDir, o.Name, o.Cluster); err != nil {
		return nil, err
	}
	if err := n.openLineage(); err != nil {
		n.dir.close()
		return nil, err
	}
	n.reports = newReports(o.Name, n.dir.boot, o.Version)
	n.reports.identify(n.dir.word, n.dir.identity.Node)
	n.pokes = newPokes()
	if err := n.openStores(); err != nil {
		n.dir.close()
		return nil, err
	}
	if err := n.listen(); err != nil {
		n.closeStores()
		n.dir.close()
		return nil, err
	}
	if err := n.register(o.Registerer); err != nil {
		n.gate.close()
		n.closeStores()
		n.dir.close()
		return nil, err
	}
	return n, nil
}

func (o *Options) check() error {
	if o.Timing.Heartbeat == 0 {
		o.Timing.Heartbeat = LAN.Heartbeat
	}
	if o.Timing.Election == 0 {
		o.Timing.Election = max(LAN.Election, o.Timing.Heartbeat)
	}
	if o.Timing.Lease == 0 {
		o.Timing.Lease = min(LAN.Lease, o.Timing.Heartbeat)
	}
	if o.Timing.CommitTimeout == 0 {
		o.Timing.CommitTimeout = LAN.CommitTimeout
	}
	if o.leadPatience == 0 {
		o.leadPatience = leadPatience
	}
	var own bool
	for _, p := range o.Peers {
		own = own || p.Name == o.Name
		if err := checkLoopback(p.Address); err != nil && o.Credentials == nil {
			return err
		}
	}
	if !own {
		return fmt.Errorf("cannot open cluster %q: this watcher, %q, is not among its watchers; add it to cluster.watchers", o.Cluster, o.Name)
	}
	if o.listener != nil || o.Credentials != nil {
		return nil
	}
	return checkLoopback(o.Listen)
}

// onDisk is the disk that the log is kept on.
func (o *Options) onDisk(d Disk) Disk {
	if o.disk != nil {
		return o.disk(d)
	}
	return faulty(d)
}

func checkLoopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("cannot use address %q: %w", address, err)
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("cannot use address %q: it is not a loopback address, which needs mutual TLS: set cluster.tls", address)
}

// Name is this watcher's.
func (n *Node) Name() string { return n.o.Name }

// State is the latest applied state; it never changes.
func (n *Node) State() *failover.State { return n.public.Load().state }

// Watch returns a channel that is closed when the state is next published. Called before State, it misses nothing:
// either State already returns the newer one or the channel is closed.
func (n *Node) Watch() <-chan struct{} { return n.public.Load().next }

// setState publishes s. Only one goroutine does so at a time: Open, and then raft's for the state machine.
func (n *Node) setState(s *failover.State) {
	n.noteLineage(s)
	old := n.public.Swap(&published{state: s, next: make(chan struct{})})
	if old != nil {
		close(old.next)
	}
}

// setLeader notes who leads and ends the view before it. Open calls it first, then only the observer of raft.
func (n *Node) setLeader(id string) {
	v := &leaderView{id: id}
	v.changed, v.end = context.WithCancel(context.Background())
	if old := n.view.Swap(v); old != nil {
		old.end()
	}
}

// members are the cluster's watchers: those of the state. Until there is one, those that raft's log names, those that
// another watcher has told, or those of the configuration.
func (n *Node) members() []Peer {
	s := n.State()
	if len(s.Members) == 0 {
		if peers := n.configurationPeers(); len(peers) > 0 {
			return peers
		}
		if learned := n.learned.Load(); learned != nil {
			return *learned
		}
		return n.o.Peers
	}
	peers := make([]Peer, len(s.Members))
	for i, m := range s.Members {
		peers[i] = Peer{Name: m.Name, Address: m.Address, DNS: m.DNS}
	}
	return peers
}

func (n *Node) member(name string) (Peer, bool) {
	for _, p := range n.members() {
		if p.Name == name {
			return p, true
		}
	}
	return Peer{}, false
}

// fail ends Run with err; only the first counts.
func (n *Node) fail(err error) {
	select {
	case n.fatal <- err:
	default:
	}
}

// wake makes the next heartbeat leave at once.
func (n *Node) wake() {
	select {
	case n.kick <- struct{}{}:
	default:
	}
}

// CheckAddress refuses an address of another watcher that this one could not use.
func (n *Node) CheckAddress(address string) error {
	if n.o.Credentials != nil {
		return nil
	}
	return checkLoopback(address)
}
