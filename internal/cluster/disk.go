package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

// A watcher that cannot write its log must neither lead nor vote, but it can go on answering DNS: disks fill up on all
// watchers at the same time, and the names of apps that are well have to be answered all the same. So when a write fails,
// or the leader's write hangs, the watcher sits out: raft is stopped for good, in this process, as if the process had been
// killed, which raft is made to survive; nothing of it reaches the others any more, and one of them takes over. The rest
// of the process goes on, from the last state. When the disk can be written again the process ends with ErrDiskBack, to be
// started anew by its supervisor.

// ErrDiskBack is what Run ends with when a watcher has sat out a disk that could not be written, and now it can be.
var ErrDiskBack = errors.New("the disk can be written again")

const (
	// diskTimeout is how long the leader's log store may take for one write. Raft goes on sending heartbeats while its
	// disk hangs, so that nobody else would take over (hashicorp/raft #503).
	diskTimeout = 10 * time.Second
	// diskRetry is how often a watcher that sits out tries its disk.
	diskRetry = time.Second
	// diskTrial is what has to fit on the disk before it counts as good again: the largest command.
	diskTrial = 4 << 20
	trialFile = "trial"
)

// Disk is where raft keeps its log, its term and its vote.
type Disk interface {
	raft.LogStore
	raft.StableStore
	io.Closer
}

// store is the disk with an eye on it: it knows since when a write has been running and tells when one has failed.
type store struct {
	Disk
	fault chan error  // one slot: the first write that failed or hung
	born  atomic.Bool // raft runs on it; see SetUint64

	mu      sync.Mutex
	writing map[uint64]time.Time // guarded by mu: when each write in progress began
	writes  uint64               // guarded by mu
}

func newStore(d Disk) *store {
	return &store{Disk: d, fault: make(chan error, 1), writing: map[uint64]time.Time{}}
}

// StoreLogs implements raft.LogStore.
func (s *store) StoreLogs(logs []*raft.Log) error {
	return s.write(func() error { return s.Disk.StoreLogs(logs) })
}

// StoreLog implements raft.LogStore.
func (s *store) StoreLog(log *raft.Log) error { return s.StoreLogs([]*raft.Log{log}) }

// DeleteRange implements raft.LogStore.
func (s *store) DeleteRange(from, to uint64) error {
	return s.write(func() error { return s.Disk.DeleteRange(from, to) })
}

// Set implements raft.StableStore.
func (s *store) Set(key, value []byte) error {
	return s.write(func() error { return s.Disk.Set(key, value) })
}

// SetUint64 implements raft.StableStore. Raft panics when it cannot keep its term (raft.go, setCurrentTerm), which would
// take the whole watcher along, name server and all. Its goroutine is ended instead: raft is about to be stopped anyway.
// The first time is different, for NewRaft keeps the term it has found in its caller's goroutine; see startRaft.
func (s *store) SetUint64(key []byte, value uint64) error {
	err := s.write(func() error { return s.Disk.SetUint64(key, value) })
	if born := s.born.Swap(true); err != nil && born && string(key) == "CurrentTerm" {
		runtime.Goexit()
	}
	return err
}

func (s *store) write(do func() error) error {
	s.mu.Lock()
	s.writes++
	number := s.writes
	s.writing[number] = time.Now()
	s.mu.Unlock()
	err := do()
	s.mu.Lock()
	delete(s.writing, number)
	s.mu.Unlock()
	if err != nil {
		s.fail(fmt.Errorf("cannot write the log: %w", err))
	}
	return err
}

// fail tells of a fault; only the first counts.
func (s *store) fail(err error) {
	select {
	case s.fault <- err:
	default:
	}
}

// hanging is how long the oldest write in progress has taken; 0: there is none.
func (s *store) hanging() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	var longest time.Duration
	for _, began := range s.writing {
		longest = max(longest, time.Since(began))
	}
	return longest
}

// checkDisk makes a leader whose disk hangs sit out, so that another one can be elected. It is called with every
// heartbeat and returns for how many in a row a write has been too long: one look is not enough, since the process
// may just have been thawed in the middle of a write.
func (n *Node) checkDisk(before int) int {
	took := n.store.hanging()
	if took < diskTimeout || n.term.Load() == nil {
		return 0
	}
	if before >= 2 {
		n.store.fail(fmt.Errorf("cannot go on as leader: a write to %q has taken %s; check the disk", filepath.Join(n.o.DataDir, logFile), took.Round(time.Second)))
	}
	return before + 1
}

// diskFault is why a watcher sits out.
type diskFault struct{ error }

// sitOut waits until the disk can be written again. It returns nil if ctx ended first.
func (n *Node) sitOut(ctx context.Context, fault diskFault) error {
	began := time.Now()
	why := fault.Error()
	n.waiting.Store(&why)
	hint := "check the disk"
	if isFull(fault.error) {
		hint = "make room in " + n.o.DataDir
	}
	n.log.Error().Err(fault.error).Str("hint", hint).Msg("this watcher sits out: it neither leads nor votes, and answers DNS from its last state, until its disk can be written")
	for n.setLeader(""); pause(ctx, diskRetry); n.setLeader("") { // again: the goroutine that follows raft may have had a last word
		n.waiting.Store(&why)
		if n.store.hanging() > 0 || n.tryDisk(ctx) != nil {
			continue
		}
		return fmt.Errorf("%w after %s (%v); start the process again", ErrDiskBack, time.Since(began).Round(time.Second), fault.error)
	}
	return nil
}

// isFull reports whether a write failed for want of space.
func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// tryDisk writes what may have to be written. A try that hangs is waited for until ctx ends, and is then left behind in a
// process that ends.
func (n *Node) tryDisk(ctx context.Context) error {
	tried := make(chan error, 1)
	go func() { tried <- writeTrial(filepath.Join(n.o.DataDir, trialFile)) }()
	select {
	case err := <-tried:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func writeTrial(name string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, diskTrial))
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close(), os.Remove(name))
}
