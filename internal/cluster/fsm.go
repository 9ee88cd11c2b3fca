package cluster

import (
	"fmt"
	"io"

	"github.com/hashicorp/raft"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// fsm gives raft's committed entries to failover.State.Apply and publishes what comes out. Raft calls it from one
// goroutine.
type fsm struct{ n *Node }

// Apply implements raft.FSM. Its response is a failover.Result.
func (f *fsm) Apply(l *raft.Log) any {
	c, err := failover.DecodeCommand(l.Data)
	if err != nil {
		// Every watcher of this version fails the same way, so the states stay equal: the entry changes nothing.
		f.n.log.Error().Err(err).Uint64(keyIndex, l.Index).Msg("committed entry cannot be read; is a newer watcher in the cluster?")
		f.n.noteApplied(l.Index, l.Term)
		return failover.Result{Code: failover.CodeInvalid, Detail: err.Error(), Index: l.Index}
	}
	s, result := f.n.State().Apply(failover.Entry{Index: l.Index, Term: l.Term, Command: c})
	f.n.setState(s)
	f.n.noteApplied(l.Index, l.Term)
	if t := f.n.term.Load(); t != nil {
		t.push(l.Index, l.Term)
	}
	return result
}

// Snapshot implements raft.FSM. The state is immutable, so it is only pointed at.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) { return &snapshot{state: f.n.State()}, nil }

// Restore implements raft.FSM.
func (f *fsm) Restore(r io.ReadCloser) error {
	defer func() { _ = r.Close() }()
	s, err := ReadSnapshot(r)
	if err != nil {
		return err
	}
	f.n.setState(s)
	f.n.noteApplied(s.Index, s.Term)
	return nil
}

// snapshot is a state on its way to the snapshot store.
type snapshot struct{ state *failover.State }

// Persist implements raft.FSMSnapshot.
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	if err := WriteSnapshot(sink, s.state); err != nil {
		_ = sink.Cancel()
		return err
	}
	if err := sink.Close(); err != nil {
		return fmt.Errorf("cannot close snapshot %s: %w", sink.ID(), err)
	}
	return nil
}

// Release implements raft.FSMSnapshot.
func (s *snapshot) Release() {}
