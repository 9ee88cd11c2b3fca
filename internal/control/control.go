// Package control is how people and programs ask a watcher: HTTP/1.1 over a Unix socket for reading and changing, and
// an optional TCP listener that only reads (metrics, liveness, readiness, a status page).
//
// It decides nothing. Reads answer from the state that this watcher has applied, with or without a leader; changes are
// proposed to the log, and the reply is what the rules answered there. Who may change is decided here alone, from the
// caller's uid as the kernel tells it (SO_PEERCRED), never from anything that the caller says of itself.
//
// Everything from outside is bounded: connections, headers, bodies, and the time that each may take. A status tool that
// hangs must not take the daemon with it.
package control

import (
	"context"
	"errors"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// What Backend.Propose may fail with, beside the context's error; the daemon maps its own errors to these.
var (
	// ErrNoLeader says that no leader was found and nothing was done.
	ErrNoLeader = errors.New("no leader")
	// ErrUnknown says that the order may or may not have been committed.
	ErrUnknown = errors.New("outcome unknown")
)

// Backend is the daemon as the socket sees it. All methods may be called at once from many goroutines.
type Backend interface {
	// State is the newest applied state; never nil, never changed afterwards.
	State() *failover.State
	// Watch returns a channel that is closed when a state newer than the present one is published.
	Watch() <-chan struct{}
	// Propose commits a command and returns what Apply answered, forwarding it to the leader if need be.
	Propose(ctx context.Context, c failover.Command) (failover.Result, error)
	// Transfer has leadership handed to a watcher, empty: to any other one, and returns when another one leads. The result
	// is a refusal if that cannot be done now.
	Transfer(ctx context.Context, to string) (failover.Result, error)
	// Rehearse has every watcher try what a group's plan needs, changing nothing, and tells what they found.
	Rehearse(ctx context.Context, group string) []failover.Finding
	// Local is what only this watcher knows.
	Local() Local
}

// Local is what this watcher knows beside the replicated state.
type Local struct {
	Watcher      string
	Version      string
	Cluster      string // name from its file; shown while the state has none
	Leader       string // empty: none is known
	Term         uint64
	CommitIndex  uint64
	AppliedIndex uint64
	HasQuorum    bool
	NoQuorumFor  time.Duration // how long HasQuorum has been false; 0: unknown
	Stuck        string        // why the log is not applied, though there is something to apply; empty: it is
	Behind       string        // why this watcher does not follow the log, restart or not; empty: it does
	Isolated     bool          // no contact with a quorum, or applied too far behind, for longer than its bound
	CatchingUp   bool          // it has not reached yet what was committed when it started; its name server answers what it did before
	FileDiffers  bool          // its file proposes another policy than the one in force
	LowDisk      string        // what is running out, for a warning; empty: nothing
	ZoneLacks    string        // what its name server leaves out of the zone, or that it answers an old one, and why; empty: nothing
	Waiting      string        // why this watcher does not take part yet; empty: it does
	MembersWait  string        // on the leader: what a change of the members waits for; empty: nothing
	Watchers     map[string]WatcherLocal
	// Databases are this watcher's own last sights, by group and app; Probes its own last results.
	Databases    map[string]map[string]failover.Observation
	Probes       map[string]map[string][]ProbeLocal
	Certificates []Certificate
}

// WatcherLocal is what this watcher knows of one member. State empty: worked out from Leader and Silent.
type WatcherLocal struct {
	Address string // shown while the state does not know the members yet
	State   string // leader, follower, candidate, unknown
	Silent  bool
	Version string
}

// ProbeLocal is the last result of one probe.
type ProbeLocal struct {
	Name   string
	Up     bool
	Reason string
	Since  time.Time
}

// Certificate is a certificate of this watcher's own, or one that its probes saw.
type Certificate struct {
	Name    string
	Expires time.Time
}
