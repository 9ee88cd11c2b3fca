// Package nameserver is the voice of a watcher: an authoritative DNS server for one zone, answering over UDP and TCP
// from a table that is built once per committed state and swapped whole.
//
// It decides nothing. It does not know why a group's record points where it does, it never invents a switch, and it
// keeps answering what it was last told: a watcher cut off from the others still serves the last committed state, with
// short TTLs and marked as stale (RFC 8914), because an old answer is usually right and no answer never is.
//
// It does no recursion, no zone transfer, no dynamic update and no DNSSEC, and it refuses names outside its zone, so it
// is of little use to attackers who want large answers sent elsewhere.
//
// Packets are read by hand, because the DNS library's own server has no deadline on writing and no bound on connections
// (one client that does not read pins a goroutine for ever), and allocates for every packet. The library parses master
// files and packs records, once per state; an answer is then copied together from packed records.
package nameserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// Isolation says whether this watcher is out of touch with the cluster, and for how long. It is asked with every query
// and must be cheap and safe for concurrent use.
type Isolation func() (isolated bool, since time.Duration)

// Options is what a Server needs.
type Options struct {
	// Listen are the addresses to answer on, over UDP and TCP: "192.0.2.53:53", "[2001:db8::53]:53", "0.0.0.0:53" (all of
	// IPv4), "[::]:53" (all of IPv6), ":53" (all of both).
	Listen     []string
	Log        zerolog.Logger
	Registerer prometheus.Registerer // nil: metrics are counted but not shown
	Isolation  Isolation             // nil: never isolated
	Limits     Limits
	Deaf       bool // binds nothing: a simulation has no sockets and uses Ask
}

// Limits bounds what clients can take of a watcher. Zero values mean the defaults.
type Limits struct {
	Sockets     int           // UDP sockets per address, each answered by one goroutine; default: one per CPU, at most 4
	Connections int           // TCP connections at once, over all addresses; default 256
	PerSource   int           // of these, from one client, which is an IPv4 address or an IPv6 /64; not of loopback; default 16
	Queries     int           // per TCP connection; default 1000
	Idle        time.Duration // a TCP connection without a query; default 10 s (RFC 7766, section 6.2.3: seconds)
	Read        time.Duration // from a query's first byte to its last, over TCP; default 2 s
	Write       time.Duration // for sending one answer; default 5 s
}

func (l Limits) withDefaults() Limits {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&l.Idle, 10*time.Second)
	set(&l.Read, 2*time.Second)
	set(&l.Write, 5*time.Second)
	if l.Sockets <= 0 {
		l.Sockets = min(runtime.GOMAXPROCS(0), 4)
	}
	if l.Connections <= 0 {
		l.Connections = 256
	}
	if l.PerSource <= 0 {
		l.PerSource = 16
	}
	if l.Queries <= 0 {
		l.Queries = 1000
	}
	return l
}

// errUsed is returned by the second Run.
var errUsed = errors.New("cannot run name server: it already ran or was closed")

// Server answers DNS queries. Create it with New.
type Server struct {
	log       zerolog.Logger
	faults    zerolog.Logger // sampled: for what a client can cause at will
	metrics   *metrics
	isolation Isolation
	limits    Limits
	bound     []*binding
	clients   clients
	answers   atomic.Pointer[Answers]
	used      atomic.Bool
}

// New binds all addresses. An error names the address that could not be bound; then none stays bound. Until Publish is
// called the server answers SERVFAIL. Call Run, or Close if it is not to run.
func New(opts Options) (*Server, error) {
	if opts.Deaf {
		opts.Listen = nil
	} else if len(opts.Listen) == 0 {
		return nil, errors.New("cannot start name server: no address to listen on")
	}
	m, err := newMetrics(opts.Registerer)
	if err != nil {
		return nil, fmt.Errorf("cannot start name server: %w", err)
	}
	s := &Server{
		log:       opts.Log,
		faults:    opts.Log.Sample(&zerolog.BurstSampler{Burst: 5, Period: time.Minute}),
		metrics:   m,
		isolation: opts.Isolation,
		limits:    opts.Limits.withDefaults(),
	}
	if s.isolation == nil {
		s.isolation = func() (bool, time.Duration) { return false, 0 }
	}
	s.clients.max, s.clients.perSource = s.limits.Connections, s.limits.PerSource
	for _, address := range opts.Listen {
		bound, err := bind(address, s.limits.Sockets)
		s.bound = append(s.bound, bound...)
		if err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

// Run answers queries until ctx ends. It has closed everything when it returns, and can be called once; the second call
// is its only error. Failures of the network are logged and outlived.
func (s *Server) Run(ctx context.Context) error {
	if s.used.Swap(true) {
		return errUsed
	}
	var wait sync.WaitGroup
	for _, b := range s.bound {
		for _, socket := range b.sockets {
			wait.Go(func() { s.serveUDP(ctx, socket, b.wildcard) })
		}
		wait.Go(func() { s.serveTCP(ctx, b.listener) })
		s.log.Info().Stringer("address", b.address).Msg("name server is listening")
	}
	<-ctx.Done()
	s.closeAll()
	wait.Wait()
	return nil
}

// Close frees the addresses of a server that is not running. It does nothing to a running one: end its context.
func (s *Server) Close() {
	if !s.used.Swap(true) {
		s.closeAll()
	}
}

func (s *Server) closeAll() {
	for _, b := range s.bound {
		b.close()
	}
	s.clients.close()
}

// Publish makes the server answer from a, which must not be nil. Queries that arrive after it returns are answered from
// a or a later one. Calls must not overlap: the last one wins.
func (s *Server) Publish(a *Answers) {
	old := s.answers.Swap(a)
	s.metrics.published(old, a)
	if old == nil || old.serial != a.serial {
		s.log.Debug().Str("zone", a.name).Uint32("serial", a.serial).Msg("name server answers a new state")
	}
}

// Serial is the serial of the zone as it is answered now; 0 before the first Publish.
func (s *Server) Serial() uint32 {
	if a := s.answers.Load(); a != nil {
		return a.serial
	}
	return 0
}

// Addrs are the addresses bound, in the order of Options.Listen, each for UDP and TCP.
func (s *Server) Addrs() []netip.AddrPort {
	addrs := make([]netip.AddrPort, len(s.bound))
	for i, b := range s.bound {
		addrs[i] = b.address
	}
	return addrs
}

// pause waits after a failure of the network, so that a lasting one does not keep a CPU busy. It returns false if the
// server is to stop instead.
func (s *Server) pause(ctx context.Context, err error) bool {
	if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
		return false
	}
	s.faults.Warn().Err(err).Msg("cannot receive DNS queries for a moment")
	timer := time.NewTimer(50 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
