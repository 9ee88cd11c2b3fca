package cluster

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

const (
	snapshotsKept = 3
	// trailingLogs is raft's default. Fewer would send snapshots to followers that have a divergent longer tail, which
	// may then loop for ever (hashicorp/raft #697).
	trailingLogs = 10240
	// snapshotThreshold is how many entries may have to be replayed after a restart.
	snapshotThreshold = 2048
	logCacheSize      = 512
	// transportTimeout bounds one raft request. A slow disk must fit into it; a frozen peer holds up only its own stream.
	transportTimeout = 3 * time.Second
	// raftStreams bounds the idle raft connections to one peer. Each has buffers of 256 KiB on both ends.
	raftStreams = 3
)

// raftTermKey is where hashicorp/raft keeps the current term in its stable store (raft.go, keyCurrentTerm).
var raftTermKey = []byte("CurrentTerm")

// openFile is the disk of all watchers but simulated ones.
func openFile(path string) (Disk, error) {
	return raftboltdb.New(raftboltdb.Options{
		Path:                    path,
		BoltOptions:             &bbolt.Options{Timeout: time.Second, NoFreelistSync: true},
		MsgpackUseNewTimeFormat: true,
	})
}

func (n *Node) openStores() error {
	path := filepath.Join(n.o.DataDir, logFile)
	open := openFile
	if n.o.OpenDisk != nil {
		open = n.o.OpenDisk
	}
	d, err := open(path)
	if err != nil {
		return fmt.Errorf("cannot open log %q: %w", path, err)
	}
	n.store = newStore(n.o.onDisk(d))
	n.snaps, err = raft.NewFileSnapshotStoreWithLogger(n.o.DataDir, snapshotsKept, n.raftLogger())
	if err != nil {
		n.closeStores()
		return fmt.Errorf("cannot open snapshots in %q: %w", n.o.DataDir, err)
	}
	if n.base, err = checkNewestSnapshot(n.snaps); err != nil {
		n.closeStores()
		return err
	}
	if err := n.checkStage(); err != nil {
		n.closeStores()
		return err
	}
	if n.found, err = n.store.LastIndex(); err != nil {
		n.closeStores()
		return fmt.Errorf("cannot look into log %q: %w", path, err)
	}
	if n.base != nil {
		n.found = max(n.found, n.base.Index)
	}
	return nil
}

// Found is the index of the last entry that was in the log, or in the newest snapshot, when the node was opened. What a state up to it brings has been
// told before.
func (n *Node) Found() uint64 { return n.found }

func (n *Node) closeStores() { _ = n.store.Close() }

// hasState reports whether raft has ever run on this directory.
func (n *Node) hasState() (bool, error) {
	has, err := raft.HasExistingState(n.store, n.store, n.snaps)
	if err != nil {
		return false, fmt.Errorf("cannot look into log %q: %w", filepath.Join(n.o.DataDir, logFile), err)
	}
	return has, nil
}

// hasVoted reports whether the log's store remembers a term. A snapshot beside a store that was lost does not: this watcher
// may have voted in a term that it knows nothing of any more, and have confirmed entries that are gone.
func (n *Node) hasVoted() (bool, error) {
	term, err := n.store.GetUint64(raftTermKey)
	if err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return false, fmt.Errorf("cannot look into log %q: %w", filepath.Join(n.o.DataDir, logFile), err)
	}
	return term > 0, nil
}

func (n *Node) raftConfig() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(n.o.Name)
	c.HeartbeatTimeout = n.o.Timing.Heartbeat
	c.ElectionTimeout = n.o.Timing.Election
	c.LeaderLeaseTimeout = n.o.Timing.Lease
	c.CommitTimeout = n.o.Timing.CommitTimeout
	c.TrailingLogs = trailingLogs
	c.SnapshotThreshold = snapshotThreshold
	// Commands that are proposed together share one write to the disk.
	c.BatchApplyCh = true
	c.NotifyCh = n.notify
	c.NoLegacyTelemetry = true
	c.ShutdownOnRemove = false // standingLoop ends a watcher that was removed, with its reason
	c.Logger = n.raftLogger()
	return c
}

// startRaft starts voting. The cluster's first configuration is written if the directory is still empty; every watcher
// writes the same.
func (n *Node) startRaft() error {
	config := n.raftConfig()
	if err := raft.ValidateConfig(config); err != nil {
		return fmt.Errorf("cannot use cluster.timing: %w", err)
	}
	n.trans = raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: n.gate.stream(), MaxPool: raftStreams, Timeout: transportTimeout, Logger: config.Logger, MsgpackUseNewTimeFormat: true,
	})
	switch n.identity().Stage {
	case stageStarted, stageJoined: // a watcher that joins gets its first entry, and with it the configuration, from the leader
	default:
		err := raft.BootstrapCluster(config, n.store, n.store, n.snaps, n.trans, n.firstConfiguration())
		if err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
			return fmt.Errorf("cannot write the cluster's first configuration: %w", err)
		}
		if err := n.setStage(stageStarted); err != nil {
			return err
		}
	}
	cache, err := raft.NewLogCache(logCacheSize, n.store)
	if err != nil {
		return fmt.Errorf("cannot make the log's cache: %w", err)
	}
	r, err := n.newRaft(config, cache)
	if err != nil {
		return fmt.Errorf("cannot start raft on %q: %w", n.o.DataDir, err)
	}
	n.raft.Store(r)
	n.waiting.Store(nil)
	return nil
}

// newRaft is raft.NewRaft without its panic when the term cannot be written.
func (n *Node) newRaft(config *raft.Config, log raft.LogStore) (r *raft.Raft, err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("%v", fault)
		}
	}()
	n.store.born.Store(false)
	return raft.NewRaft(config, &fsm{n: n}, log, n.store, n.snaps, n.trans)
}

func (n *Node) firstConfiguration() raft.Configuration {
	var c raft.Configuration
	for _, p := range n.o.Peers {
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(p.Name), Address: raft.ServerAddress(p.Address)})
	}
	return c
}
