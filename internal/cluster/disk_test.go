package cluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// brokenDisk fails or hangs when the test wants it to.
type brokenDisk struct {
	Disk
	full *atomic.Bool
	hang *atomic.Pointer[chan struct{}] // writes wait until it is closed; nil: they do not
}

func newBrokenDisk() *brokenDisk {
	return &brokenDisk{full: &atomic.Bool{}, hang: &atomic.Pointer[chan struct{}]{}}
}

func (b *brokenDisk) around(d Disk) Disk { return &brokenDisk{Disk: d, full: b.full, hang: b.hang} }

func (b *brokenDisk) fault() error {
	if gate := b.hang.Load(); gate != nil {
		<-*gate
	}
	if b.full.Load() {
		return &os.PathError{Op: "write", Path: logFile, Err: syscall.ENOSPC}
	}
	return nil
}

func (b *brokenDisk) StoreLogs(logs []*raft.Log) error {
	if err := b.fault(); err != nil {
		return err
	}
	return b.Disk.StoreLogs(logs)
}

func (b *brokenDisk) SetUint64(key []byte, value uint64) error {
	if err := b.fault(); err != nil {
		return err
	}
	return b.Disk.SetUint64(key, value)
}

// brokenRig is a cluster whose watcher with that name has a disk of the test's.
func brokenRig(t *testing.T, watcher string, b *brokenDisk) *rig {
	return newRig(t, 3, func(o *Options) {
		if o.Name == watcher {
			o.disk = b.around
		}
	})
}

// leadWith makes the named watcher lead.
func (r *rig) leadWith(name string) *run {
	r.t.Helper()
	until(r.t, name+" leads", func() bool {
		leader := r.leader()
		if leader.Name() == name {
			return true
		}
		if t := leader.term.Load(); t != nil {
			t.giveWay(handover{reason: "the test wants " + name + " to lead", to: []string{name}})
		}
		return false
	})
	return r.runs[name]
}

// sitsOut waits until a watcher takes no part any more.
func sitsOut(t *testing.T, n *run) {
	t.Helper()
	until(t, n.Name()+" sits out", func() bool {
		st := n.Status()
		return st.Waiting != "" && st.Leader == "" && !st.Leads && !st.HasQuorum
	})
}

// A disk that is full must not be the cluster's end, nor the watcher's: another one leads, the watcher goes on showing its
// last state, and nothing that was promised is lost when it returns.
func TestLeaderWithAFullDiskSitsOutUntilThereIsRoom(t *testing.T) {
	b := newBrokenDisk()
	r := brokenRig(t, "w1", b)
	r.up()
	old := r.leadWith("w1")
	if _, err := old.Propose(seconds(t, 10), pauseCommand("a", "kept", 0)); err != nil {
		t.Fatal(err)
	}
	// As a whole disk it is full for the trial as well: a directory stands in the trial file's place.
	trial := filepath.Join(old.o.DataDir, trialFile)
	if err := os.MkdirAll(filepath.Join(trial, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	b.full.Store(true)
	_, err := old.Propose(seconds(t, 10), failover.Command{Tick: &failover.Tick{}})
	if err == nil {
		t.Fatal("a command was committed by a leader that cannot write")
	}
	sitsOut(t, old)
	until(t, "another one leads", func() bool {
		for _, n := range r.living() {
			if n != old && n.Status().Leads {
				return true
			}
		}
		return false
	})
	other := r.follower()
	if other == old {
		other = r.leader()
	}
	if _, err := other.Propose(seconds(t, 10), pauseCommand("b", "without w1", 0)); err != nil {
		t.Fatal(err)
	}
	if got := pauseReason(old); got != "kept" {
		t.Errorf("the last state is gone: %q", got)
	}
	if isolated, _ := old.Isolation(); !isolated {
		t.Error("its answers pass for current ones")
	}
	select {
	case <-old.done:
		t.Fatalf("it has ended while the disk is full: %v", old.err)
	default:
	}

	b.full.Store(false)
	if err := os.RemoveAll(trial); err != nil {
		t.Fatal(err)
	}
	<-old.done
	if !errors.Is(old.err, ErrDiskBack) {
		t.Fatalf("ended with %v", old.err)
	}
	r.start("w1")
	back := r.runs["w1"]
	until(t, "w1 follows again", func() bool { return pauseReason(back) == "without w1" })
}

// Raft panics when it cannot keep its term. That must not take the process along.
func TestFollowerWithAFullDiskSurvivesAnElection(t *testing.T) {
	b := newBrokenDisk()
	r := brokenRig(t, "w1", b)
	r.up()
	r.leadWith("w2")
	broken := r.runs["w1"]
	if err := os.MkdirAll(filepath.Join(broken.o.DataDir, trialFile, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	b.full.Store(true)
	r.leadWith("w3") // a new term, which w1 cannot keep
	sitsOut(t, broken)
	b.full.Store(false)
	if err := os.RemoveAll(filepath.Join(broken.o.DataDir, trialFile)); err != nil {
		t.Fatal(err)
	}
	<-broken.done
	if !errors.Is(broken.err, ErrDiskBack) {
		t.Fatalf("ended with %v", broken.err)
	}
	r.start("w1")
	until(t, "w1 follows again", func() bool { return r.runs["w1"].Status().HasQuorum })
}

// A leader whose disk hangs would lead for ever: raft goes on sending heartbeats.
func TestLeaderWithAHangingDiskSitsOut(t *testing.T) {
	b := newBrokenDisk()
	r := brokenRig(t, "w1", b)
	r.up()
	old := r.leadWith("w1")
	gate := make(chan struct{})
	b.hang.Store(&gate)
	lost := make(chan error, 1)
	go func() {
		_, err := old.Propose(seconds(t, 60), failover.Command{Tick: &failover.Tick{}})
		lost <- err
	}()
	// The wait of ten seconds is cut short: the write is made older than it is.
	until(t, "the write hangs", func() bool { return old.store.hanging() > 0 })
	old.store.mu.Lock()
	for number := range old.store.writing {
		old.store.writing[number] = time.Now().Add(-diskTimeout)
	}
	old.store.mu.Unlock()
	sitsOut(t, old)
	until(t, "another one leads", func() bool {
		for _, n := range r.living() {
			if n != old && n.Status().Leads {
				return true
			}
		}
		return false
	})
	b.hang.Store(nil)
	close(gate)
	<-old.done
	if !errors.Is(old.err, ErrDiskBack) {
		t.Fatalf("ended with %v", old.err)
	}
	<-lost
	r.start("w1")
	until(t, "w1 follows again", func() bool { return r.runs["w1"].Status().HasQuorum })
}

// A watcher that sits out can be stopped in order.
func TestStopWhileSittingOut(t *testing.T) {
	b := newBrokenDisk()
	r := newRig(t, 1, func(o *Options) { o.disk = b.around })
	n := r.up()
	if err := os.MkdirAll(filepath.Join(n.o.DataDir, trialFile, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	b.full.Store(true)
	_, _ = n.Propose(seconds(t, 5), failover.Command{Tick: &failover.Tick{}})
	sitsOut(t, n)
	r.quit(n)
	if n.err != nil {
		t.Errorf("stopped with %v", n.err)
	}
}

func TestTrialLeavesNothingBehind(t *testing.T) {
	n := &Node{o: Options{DataDir: t.TempDir()}}
	if err := n.tryDisk(context.Background()); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(n.o.DataDir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	n.o.DataDir = filepath.Join(n.o.DataDir, "none")
	if err := n.tryDisk(context.Background()); err == nil {
		t.Error("a directory that is not there can be written")
	}
}

func TestWhenSpaceIsLow(t *testing.T) {
	const gib = 1 << 30
	for _, tc := range []struct {
		name        string
		free, total uint64
		before, low bool
	}{
		{"plenty", 40 * gib, 100 * gib, false, false},
		{"little of much", 300 << 20, 100 * gib, false, false},
		{"too little of much", 255 << 20, 100 * gib, false, true},
		{"a small disk of which most is free", 200 << 20, gib / 2, false, false},
		{"a small disk that fills", 25 << 20, gib / 2, false, true},
		{"at the edge it stays low", 300 << 20, 100 * gib, true, true},
		{"well above the edge it is enough", 330 << 20, 100 * gib, true, false},
		{"nothing", 0, 100 * gib, false, true},
	} {
		if got := isLow(Space{Free: tc.free, Total: tc.total}, tc.before); got != tc.low {
			t.Errorf("%s: low %t", tc.name, got)
		}
	}
}
