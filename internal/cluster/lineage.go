package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// Lineage. When a cluster has lost its quorum for good, Survivor makes a new one of what one watcher still has. The others
// may come back one day with their old data: together they would be a majority of the old cluster, and act. So
// watchers tell their lineage with each hello, a connection between two generations is refused, and whoever learns that
// it was left behind notes that in its data directory and ends, for good. It asks at its start, before it votes, and
// again whenever somebody tells of a higher generation; and the leader of a recovered cluster keeps telling those left behind.
//
// What this cannot prevent: old watchers that are a majority of the old cluster and reach no watcher of the recovered one.

const (
	// tellEvery is how often a recovered cluster tells those it left behind.
	tellEvery = 5 * time.Second
)

// lineage is which history a watcher belongs to. It is part of the handshake, so a recovery changes it and a restore does not: a
// follower that has not applied a restore yet is none of those left behind.
type lineage struct {
	ClusterID  string `json:"cluster_id,omitempty"`
	Generation uint64 `json:"generation,omitempty"` // of the last recovery
	Recovery   string `json:"recovery,omitempty"`   // its id
}

func lineageOf(s *failover.State) lineage {
	l := lineage{ClusterID: s.ClusterID}
	if r := s.Recovery; r != nil {
		l.Generation, l.Recovery = r.Generation, r.ID
	}
	return l
}

// behind says that a recovery left a watcher behind.
type behind struct {
	Generation uint64    `json:"generation"`     // that the cluster has now
	Kept       bool      `json:"kept,omitempty"` // the recovery counts on this watcher, but was not made on it yet
	By         string    `json:"by,omitempty"`   // address of the watcher that said so
	At         time.Time `json:"at,omitzero"`
}

// lineage is this watcher's, known before its log has been read.
func (n *Node) lineage() lineage {
	if l := n.descent.Load(); l != nil {
		return *l
	}
	return lineage{}
}

// openLineage takes the lineage from the data directory, unless that is not to be used.
func (n *Node) openLineage() error {
	i := n.dir.identity
	if i.Behind != nil {
		return i.Behind.explain(n.o, i.Lineage)
	}
	if _, err := n.dir.read(planFile); err == nil {
		return fmt.Errorf("cannot open data directory %q: a recovery of it has not been finished; run `watchover recover` again", n.o.DataDir)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	n.descent.Store(&i.Lineage)
	return nil
}

// noteLineage keeps the lineage of a state that is about to be published. It is on disk before anybody sees the state.
func (n *Node) noteLineage(s *failover.State) {
	l := lineageOf(s)
	if l.ClusterID == "" || l == n.lineage() {
		return
	}
	n.descent.Store(&l)
	if n.dir == nil {
		return
	}
	n.joining.mu.Lock()
	defer n.joining.mu.Unlock()
	i := n.dir.identity
	i.Lineage = l
	if err := n.dir.save(i); err != nil {
		n.fail(fmt.Errorf("cannot keep the cluster's generation: %w", err))
	}
}

// judgeLineage says why a watcher with another lineage is not let in; nil if it has the same, or none yet.
func (n *Node) judgeLineage(h hello) error {
	own := n.lineage()
	if h.ClusterID == "" || own.ClusterID == "" {
		return nil
	}
	s := n.lastKnown()
	former := slices.Contains(s.Former, h.ClusterID)
	switch {
	case h.ClusterID != own.ClusterID && !former:
		return fmt.Errorf("watcher %q belongs to another cluster that is also called %q (id %s, this one %s); wipe the data directory of the one that is wrong here, "+
			"then `watchover members add` it", h.Name, h.Cluster, h.ClusterID, own.ClusterID)
	case former, h.Generation < own.Generation:
		return &refusedBehind{name: h.Name, generation: h.Generation, behind: behind{Generation: max(s.Generation, own.Generation), Kept: !former && countsOn(s, h.Name)}}
	case h.Generation > own.Generation:
		n.wonder()
		return fmt.Errorf("watcher %q was left behind in generation %d, %q brings generation %d", n.o.Name, own.Generation, h.Name, h.Generation)
	case h.Recovery != own.Recovery:
		return fmt.Errorf("watchers %q and %q were recovered apart from one another (recoveries %.8s and %.8s, both with generation %d): choose one, wipe the data directory of the other, "+
			"then `watchover members add` it; two that are to go on together need the very same `watchover recover` command", n.o.Name, h.Name, own.Recovery, h.Recovery, own.Generation)
	}
	return nil
}

// wonder has the others asked whether this watcher was left behind.
func (n *Node) wonder() {
	select {
	case n.curious <- struct{}{}:
	default:
	}
}

// lastKnown is the state, or that of the newest snapshot until raft has read it.
func (n *Node) lastKnown() *failover.State {
	if s := n.State(); s.ClusterID != "" || n.base == nil {
		return s
	}
	return n.base
}

// countsOn reports whether the recovery that a state comes from was to go on with a watcher.
func countsOn(s *failover.State, name string) bool {
	r := s.Recovery
	member := slices.ContainsFunc(s.Members, func(m failover.Member) bool { return m.Name == name })
	return r != nil && member && !slices.ContainsFunc(r.Left, func(m failover.Member) bool { return m.Name == name })
}

// refusedBehind is the answer to a watcher that was left behind.
type refusedBehind struct {
	name       string
	generation uint64
	behind     behind
}

func (e *refusedBehind) Error() string {
	if e.behind.Kept {
		return fmt.Sprintf("watcher %q brings generation %d, the cluster has generation %d: run the same `watchover recover` on it first", e.name, e.generation, e.behind.Generation)
	}
	return fmt.Sprintf("watcher %q was left behind in generation %d, the cluster has generation %d", e.name, e.generation, e.behind.Generation)
}

// refusalAnswer is what a watcher that is not let in is told: a line for people and, if it was left behind, one for itself.
func refusalAnswer(err error) string {
	var b *refusedBehind
	if !errors.As(err, &b) {
		return err.Error()
	}
	text, e := json.Marshal(b.behind)
	if e != nil {
		return err.Error()
	}
	return err.Error() + "\n" + string(text)
}

// readRefusal reads what refusalAnswer wrote.
func readRefusal(answer []byte) *refusal {
	reason, more, found := strings.Cut(string(answer), "\n")
	r := &refusal{reason: reason}
	var b behind
	if found && json.Unmarshal([]byte(more), &b) == nil && b.Generation > 0 {
		r.behind = &b
	}
	return r
}

// checkLineage asks all others whether this watcher was left behind, before it votes. Those that do not answer within a
// heartbeat's patience hold it up no longer.
func (n *Node) checkLineage(ctx context.Context) error {
	if n.lineage().ClusterID == "" {
		return nil // it has never followed anybody, so it cannot have been left
	}
	if b := n.askAround(ctx); b != nil {
		return n.leave(*b)
	}
	return nil
}

// askAround says hello to all watchers that the file or the state names.
func (n *Node) askAround(ctx context.Context) *behind {
	ctx, cancel := context.WithTimeout(ctx, n.o.Timing.Heartbeat)
	defer cancel()
	type place struct{ name, address string }
	places := map[place]bool{}
	for _, p := range slices.Concat(n.o.Peers, n.members()) {
		if p.Name != n.o.Name {
			places[place{p.Name, p.Address}] = true
		}
	}
	var (
		mu     sync.Mutex
		asking sync.WaitGroup
		found  *behind
	)
	for p := range places {
		asking.Go(func() {
			if b := n.askOne(ctx, p.name, p.address); b != nil {
				mu.Lock()
				defer mu.Unlock()
				found = b
			}
		})
	}
	asking.Wait()
	return found
}

func (n *Node) askOne(ctx context.Context, name, address string) *behind {
	c, err := n.gate.dial(ctx, name, address, kindRequest)
	if err == nil {
		_ = c.Close()
		return nil
	}
	var r *refusal
	if !errors.As(err, &r) || r.behind == nil {
		return nil
	}
	b := *r.behind
	b.By, b.At = address, time.Now().UTC().Truncate(time.Second)
	return &b
}

// leave notes for good that this watcher was left behind, and returns what to say. One that the recovery counts on may still
// be recovered, so that is not noted.
func (n *Node) leave(b behind) error {
	n.joining.mu.Lock()
	defer n.joining.mu.Unlock()
	i := n.dir.identity
	if !b.Kept {
		i.Behind = &b
		if err := n.dir.save(i); err != nil {
			n.log.Error().Err(err).Msg("cannot note that this watcher was left behind")
		}
	}
	return b.explain(n.o, i.Lineage)
}

func (b *behind) explain(o Options, own lineage) error {
	if b.Kept {
		return fmt.Errorf("cannot take part in cluster %q: it was recovered and counts on this watcher, whose directory %q still has generation %d of %d (says %s): "+
			"run the same `watchover recover` here", o.Cluster, o.DataDir, own.Generation, b.Generation, b.By)
	}
	return fmt.Errorf("cannot take part in cluster %q: it was recovered without this watcher, whose directory %q is left behind in generation %d of %d (says %s): "+
		"move that directory away, then run `watchover members add %s` on a watcher of the recovered cluster", o.Cluster, o.DataDir, own.Generation, b.Generation, b.By, o.Name)
}

// lineageLoop asks around when somebody has told of a higher generation, and tells those left behind while this watcher leads.
func (n *Node) lineageLoop(ctx context.Context) {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		select {
		case <-n.curious:
			if b := n.askAround(ctx); b != nil {
				n.fail(n.leave(*b))
			} else if ctx.Err() == nil {
				// Only somebody of this cluster can have told. Whoever it was, to go on would be to act beside it.
				n.fail(fmt.Errorf("cannot go on: a watcher of cluster %q has told of a higher generation than %d and cannot be asked about it", n.o.Cluster, n.lineage().Generation))
			}
		case <-tick.C:
			n.tellLeft(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// tellLeft says hello to those whom the recovery left behind. One that has been added anew has a watcher's connections already.
func (n *Node) tellLeft(ctx context.Context) {
	r := n.State().Recovery
	if r == nil || n.term.Load() == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, n.o.Timing.Heartbeat)
	defer cancel()
	var telling sync.WaitGroup
	for _, m := range r.Left {
		if _, member := n.member(m.Name); member || m.Name == n.o.Name {
			continue
		}
		telling.Go(func() { _ = n.askOne(ctx, m.Name, m.Address) })
	}
	telling.Wait()
}
