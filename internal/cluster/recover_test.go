package cluster

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// lost ends all watchers at once, as when nobody can say what the others still had.
func (r *rig) lost() {
	for _, n := range r.living() {
		r.kill(n)
	}
}

// recoverOn makes a recovery on one watcher's directory.
func (r *rig) recoverOn(name string, keep ...string) *Prospect {
	r.t.Helper()
	s, err := OpenSurvivor(name, "prod", filepath.Join(r.base, name), false)
	if err != nil {
		r.t.Fatal(err)
	}
	defer s.Close()
	p, result := s.Prospect(keep, failover.OpenUnsaid)
	if !result.Accepted {
		r.t.Fatalf("recover on %s: %+v", name, result)
	}
	if err := s.Recover(p); err != nil {
		r.t.Fatal(err)
	}
	return p
}

// ended waits until a watcher has ended by itself, and takes it out of the rig.
func (r *rig) ended(name string) error {
	r.t.Helper()
	n := r.runs[name]
	until(r.t, name+" ends", func() bool {
		select {
		case <-n.done:
			return true
		default:
			return false
		}
	})
	n.stop()
	r.mu.Lock()
	delete(r.runs, name)
	r.mu.Unlock()
	return n.err
}

func TestRecoverFromALostQuorum(t *testing.T) {
	r := newRig(t, 3, nil)
	leader := r.up()
	if _, err := leader.Propose(seconds(t, 10), pauseCommand("", "before the loss", 0)); err != nil {
		t.Fatal(err)
	}
	until(t, "w1 has it", func() bool { return pauseReason(r.runs["w1"]) == "before the loss" })
	if _, err := OpenSurvivor("w1", "prod", filepath.Join(r.base, "w1"), false); !errors.Is(err, ErrInUse) {
		t.Errorf("recover beside a running daemon: %v", err)
	}
	serial := r.runs["w1"].State().Serial
	r.lost()
	p := r.recoverOn("w1")
	if again := r.recoverOn("w1"); !again.Done || again.State.Hash() != p.State.Hash() {
		t.Errorf("the same command again: done %t", again.Done)
	}

	r.start("w1")
	w1 := r.leader()
	until(t, "the first entry", func() bool { return w1.State().Recovery.Begun != 0 })
	s := w1.State()
	if s.Generation != 1 || len(s.Members) != 1 || pauseReason(w1) != "before the loss" || s.Serial <= serial || s.Groups["shop"].Unconfirmed == nil {
		t.Errorf("generation %d, members %v, serial %d, group %+v", s.Generation, s.Members, s.Serial, s.Groups["shop"])
	}
	if result, err := w1.Propose(seconds(t, 10), failover.Command{Ack: &failover.GroupOrder{Group: "shop"}}); err != nil || !result.Accepted {
		t.Errorf("ack: %+v, %v", result, err)
	}

	// A majority of the old cluster returns with its old data.
	r.start("w2", "w3")
	for _, name := range []string{"w2", "w3"} {
		n := r.runs[name]
		if err := r.ended(name); err == nil || !strings.Contains(err.Error(), "left behind in generation 0 of 1") || !strings.Contains(err.Error(), "watchover members add "+name) {
			t.Errorf("%s ended with %v", name, err)
		}
		if n.raft.Load() != nil {
			t.Errorf("%s has voted", name)
		}
		if _, err := Open(r.options(name)); err == nil || !strings.Contains(err.Error(), "left behind") {
			t.Errorf("%s starts once more: %v", name, err)
		}
		if _, err := OpenSurvivor(name, "prod", filepath.Join(r.base, name), false); err == nil || !strings.Contains(err.Error(), "left behind") {
			t.Errorf("%s can be recovered: %v", name, err)
		}
	}

	// The recovered one is lost too, and nothing but what it left behind is there.
	r.lost()
	w2, err := OpenSurvivor("w2", "prod", filepath.Join(r.base, "w2"), true)
	if err != nil {
		t.Fatal(err)
	}
	last, result := w2.Prospect(nil, failover.OpenUnsaid)
	if !result.Accepted || last.State.Generation != 2 {
		t.Fatalf("%+v", result)
	}
	if err := w2.Recover(last); err != nil {
		t.Fatal(err)
	}
	w2.Close()
	r.start("w2", "w1")
	if err := r.ended("w1"); err == nil || !strings.Contains(err.Error(), "left behind in generation 1 of 2") {
		t.Errorf("w1 ended with %v", err)
	}
}

// Old watchers that could not reach the recovered one at their start stop as soon as it reaches them.
func TestThoseLeftBehindAreTold(t *testing.T) {
	r := newRig(t, 3, nil)
	r.up()
	r.lost()
	r.recoverOn("w1")
	r.start("w2", "w3")
	until(t, "the old majority leads", func() bool { return r.leader().Status().HasQuorum })
	r.start("w1")
	for _, name := range []string{"w2", "w3"} {
		if err := r.ended(name); err == nil || !strings.Contains(err.Error(), "generation") {
			t.Errorf("%s ended with %v", name, err)
		}
		if _, err := Open(r.options(name)); err == nil {
			t.Errorf("%s was not told for good", name)
		}
	}
	until(t, "w1 leads", func() bool { return r.runs["w1"].Status().Leads })
}

// Two survivors with logs of different length come up as one cluster, with what the longer one has, whoever starts first.
func TestTwoSurvivorsBecomeOneHistory(t *testing.T) {
	for _, first := range []string{"w1", "w2"} {
		t.Run(first+" first", func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 5, slow)
			r.up()
			r.kill(r.runs["w1"])
			w2 := r.runs["w2"]
			if _, err := w2.Propose(seconds(t, 10), pauseCommand("", "w1 has not heard this", 0)); err != nil {
				t.Fatal(err)
			}
			r.lost()
			a, b := r.recoverOn("w1", "w1", "w2"), r.recoverOn("w2", "w2", "w1")
			if a.State.Recovery.ID != b.State.Recovery.ID || a.State.Hash() == b.State.Hash() {
				t.Fatalf("recoveries %s and %s", a.State.Recovery.ID, b.State.Recovery.ID)
			}
			second := map[string]string{"w1": "w2", "w2": "w1"}[first]
			r.start(first)
			never(t, "one of two leads", func() bool { return r.runs[first].Status().Leads })
			r.start(second)
			if leader := r.leader(); leader.Name() != "w2" {
				t.Errorf("%s leads, its log is the shorter one", leader.Name())
			}
			until(t, "one state", func() bool {
				x, y := r.runs["w1"].State(), r.runs["w2"].State()
				return x.Recovery.Begun != 0 && len(x.Fresh) == 2 && x.Hash() == y.Hash()
			})
			if got := pauseReason(r.runs["w1"]); got != "w1 has not heard this" {
				t.Errorf("w1 shows %q", got)
			}
			r.start("w3")
			if err := r.ended("w3"); err == nil || !strings.Contains(err.Error(), "left behind") {
				t.Errorf("w3 ended with %v", err)
			}
		})
	}
}

// never looks for a while, longer than three elections.
func never(t *testing.T, what string, happened func() bool) {
	t.Helper()
	ctx := seconds(t, 2)
	for pause(ctx, testTiming.Heartbeat/10) {
		if happened() {
			t.Fatal(what)
		}
	}
}

// A watcher that the recovery counts on, and that was started before it was recovered itself, ends but is not lost.
func TestKeptButNotRecoveredYet(t *testing.T) {
	r := newRig(t, 5, nil)
	r.up()
	r.lost()
	r.recoverOn("w1", "w1", "w2")
	r.start("w1", "w2")
	if err := r.ended("w2"); err == nil || !strings.Contains(err.Error(), "run the same `watchover recover` here") {
		t.Errorf("w2 ended with %v", err)
	}
	r.recoverOn("w2", "w1", "w2")
	r.start("w2")
	leader := r.leader()
	until(t, "both follow", func() bool { return len(leader.State().Fresh) == 2 })
}

// Two recoveries apart from one another give two clusters that never become one.
func TestRecoveredApart(t *testing.T) {
	r := newRig(t, 3, nil)
	r.up()
	r.lost()
	a, b := r.recoverOn("w1"), r.recoverOn("w2")
	if a.State.Generation != b.State.Generation || a.State.Recovery.ID == b.State.Recovery.ID {
		t.Fatalf("recoveries %+v and %+v", a.State.Recovery, b.State.Recovery)
	}
	r.start("w1", "w2")
	w1 := r.runs["w1"]
	until(t, "each leads itself", func() bool { return w1.Status().Leads && r.runs["w2"].Status().Leads })
	_, err := w1.gate.dial(seconds(t, 5), "w2", r.peers[1].Address, kindRequest)
	if err == nil || !strings.Contains(err.Error(), "were recovered apart from one another") {
		t.Errorf("w2 says %v", err)
	}
}

func TestJudgeLineage(t *testing.T) {
	n := &Node{o: Options{Name: "w1", Cluster: "prod", Peers: []Peer{{Name: "w1"}, {Name: "w2"}}}, curious: make(chan struct{}, 1)}
	s := failover.NewState()
	s.ClusterID, s.Generation, s.Former = "new", 3, []string{"old"}
	s.Members = []failover.Member{{Name: "w1"}, {Name: "w2"}}
	s.Recovery = &failover.Recovery{ID: "r2", Generation: 2, Left: []failover.Member{{Name: "w3"}}}
	n.setState(s)
	for _, c := range []struct {
		name, want   string
		h            hello
		behind, kept bool
	}{
		{name: "the same", h: hello{Name: "w2", ClusterID: "new", Generation: 2, Recovery: "r2"}},
		{name: "none yet", h: hello{Name: "w2"}},
		{name: "left behind", h: hello{Name: "w3", ClusterID: "new", Generation: 1, Recovery: "r1"}, want: "left behind in generation 1, the cluster has generation 3", behind: true},
		{name: "never recovered", h: hello{Name: "w3", ClusterID: "new"}, want: "generation 0", behind: true},
		{name: "counted on", h: hello{Name: "w2", ClusterID: "new"}, want: "run the same", behind: true, kept: true},
		{name: "restored into this one", h: hello{Name: "w2", ClusterID: "old", Generation: 9}, want: "left behind", behind: true},
		{name: "another cluster", h: hello{Name: "w2", ClusterID: "else"}, want: "another cluster that is also called"},
		{name: "apart", h: hello{Name: "w2", ClusterID: "new", Generation: 2, Recovery: "rx"}, want: "recovered apart"},
		{name: "newer", h: hello{Name: "w2", ClusterID: "new", Generation: 4, Recovery: "r4"}, want: `"w1" was left behind`},
	} {
		err := n.judgeLineage(c.h)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if err == nil {
			continue
		}
		text := refusalAnswer(err)
		if len(text) > maxHello {
			t.Errorf("%s: the answer has %d bytes", c.name, len(text))
		}
		read := readRefusal([]byte(text))
		if read.Error() != err.Error() || (read.behind != nil) != c.behind || c.behind && read.behind.Kept != c.kept {
			t.Errorf("%s: read as %+v", c.name, read)
		}
		if asks := len(n.curious) == 1; asks != (c.name == "newer") {
			t.Errorf("%s: asks around: %t", c.name, asks)
		}
	}
}

// A recovery that was cut off is finished by the same command, and the watcher does not start in between.
func TestRecoveryIsRepeatedAfterACrash(t *testing.T) {
	for name, steps := range map[string]func(t *testing.T, s *Survivor, p *Prospect){
		"after the plan": func(*testing.T, *Survivor, *Prospect) {},
		"after the beginning": func(t *testing.T, s *Survivor, p *Prospect) {
			if err := s.writeBeginning(p); err != nil {
				t.Fatal(err)
			}
		},
		"after the log": func(t *testing.T, s *Survivor, p *Prospect) {
			if err := errors.Join(s.writeBeginning(p), s.dropLog()); err != nil {
				t.Fatal(err)
			}
		},
		"before the plan is removed": func(t *testing.T, s *Survivor, p *Prospect) {
			if err := errors.Join(s.writeBeginning(p), s.dropLog(), s.n.dir.save(s.newIdentity(p))); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 3, nil)
			r.up()
			r.lost()
			s, err := OpenSurvivor("w1", "prod", filepath.Join(r.base, "w1"), false)
			if err != nil {
				t.Fatal(err)
			}
			p, result := s.Prospect(nil, failover.OpenUnsaid)
			if !result.Accepted {
				t.Fatal(result)
			}
			if err := s.writePlan(p); err != nil {
				t.Fatal(err)
			}
			steps(t, s, p)
			s.Close()
			if _, err := Open(r.options("w1")); err == nil || !strings.Contains(err.Error(), "run `watchover recover` again") {
				t.Errorf("the watcher starts on half a recovery: %v", err)
			}
			again := r.recoverOn("w1")
			if again.State.Hash() != p.State.Hash() {
				t.Error("the same command gave another beginning")
			}
			r.start("w1")
			if leader := r.leader(); leader.State().Generation != 1 {
				t.Errorf("generation %d", leader.State().Generation)
			}
		})
	}
}

// What the first version wrote is read: a watcher's directory with a snapshot, a log and a failover in them. Later versions
// remember more from the same entries, so states are compared by what that version knew.
func TestDirectoryOfTheFirstVersionIsRead(t *testing.T) {
	dir := unpack(t, "testdata/generation0.tar.gz")
	s, err := OpenSurvivor("w1", "test", dir, false)
	if err != nil {
		t.Fatal(err)
	}
	if s.Last.Index != 97 || s.Last.Snapshot != 75 {
		t.Errorf("index %d, snapshot %d", s.Last.Index, s.Last.Snapshot)
	}
	g := s.State.Groups["shop"]
	if s.State.Serial != 1795564929 || s.State.PolicyRevision != 4 || s.State.EventSeq != 64 || s.State.Term != 2 || g.Epoch != 1 || s.State.Voters() != 3 {
		t.Errorf("serial %d, revision %d, events %d, term %d, epoch %d, %d voters", s.State.Serial, s.State.PolicyRevision, s.State.EventSeq, s.State.Term, g.Epoch, s.State.Voters())
	}
	var steps []string
	for _, step := range g.History[0].Steps {
		steps = append(steps, fmt.Sprintf("%s %s %d", step.Name, step.State, step.Token))
	}
	if want := []string{"maintenance-on marked 56", "freeze marked 62", "catch-up skipped 0", "stop-replication done 70", "promote done 72",
		"maintenance-off done 79", "switch-dns done 80", "verify done 80"}; !slices.Equal(steps, want) {
		t.Errorf("steps %q", steps)
	}
	if g.Active != "standby" || len(g.History) != 1 || g.Apps["main"].Mark == nil || g.Pause.Reason != "upgrade" {
		t.Errorf("group %+v", g)
	}
	p, result := s.Prospect(nil, failover.OpenUnsaid)
	if !result.Accepted {
		t.Fatalf("recover: %+v", result)
	}
	if err := s.Recover(p); err != nil {
		t.Fatal(err)
	}
	s.Close()
	back, err := OpenSurvivor("w1", "test", dir, false)
	if err != nil || back.State.Hash() != p.State.Hash() {
		t.Fatalf("after recover: %v", err)
	}
	back.Close()
}

func unpack(t *testing.T, archive string) string {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.Clean("/"+h.Name))
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o700)
		} else if text, e := io.ReadAll(r); e != nil {
			err = e
		} else {
			err = os.WriteFile(path, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestRestoreReachesAllWatchers(t *testing.T) {
	r := newRig(t, 3, nil)
	leader := r.up()
	saved := leader.State()
	if _, err := leader.Propose(seconds(t, 10), pauseCommand("", "since then", 0)); err != nil {
		t.Fatal(err)
	}
	c, err := failover.NewRestore(saved, failover.OpenUnsaid)
	if err != nil {
		t.Fatal(err)
	}
	if result, err := r.follower().Propose(seconds(t, 10), failover.Command{ID: "once", By: "uid:0", Restore: c}); err != nil || !result.Accepted {
		t.Fatalf("restore: %+v, %v", result, err)
	}
	until(t, "all have it", func() bool {
		for _, n := range r.living() {
			if n.State().Generation != 1 || pauseReason(n) != "" || n.State().Hash() != leader.State().Hash() {
				return false
			}
		}
		return true
	})
	// None of them was left behind: a restore is an entry like any other.
	follower := r.follower()
	r.kill(follower)
	r.start(follower.Name())
	until(t, "it is back", func() bool { return len(r.leader().State().Fresh) == 3 })
}

// A person recovers as root what the daemon opens as its own user.
func TestRecoveredDirectoryIsItsOwners(t *testing.T) {
	dir := unpack(t, "testdata/generation0.tar.gz")
	owner := os.Getuid()
	if owner == 0 {
		owner = 12345
		if err := os.Chown(dir, owner, owner); err != nil {
			t.Fatal(err)
		}
	}
	s, err := OpenSurvivor("w1", "test", dir, false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	p, result := s.Prospect(nil, failover.OpenUnsaid)
	if !result.Accepted {
		t.Fatal(result)
	}
	if err := s.Recover(p); err != nil {
		t.Fatal(err)
	}
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if got := info.Sys().(*syscall.Stat_t).Uid; int(got) != owner {
			t.Errorf("%s belongs to %d", path, got)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
