package cluster

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

func waitsFor(t *testing.T, n *run, what string) {
	t.Helper()
	until(t, what, func() bool { return strings.Contains(n.Status().Waiting, what) })
}

func TestFirstStartNeedsEveryone(t *testing.T) {
	r := newRig(t, 3, nil)
	r.start("w1", "w2")
	w1 := r.runs["w1"]
	waitsFor(t, w1, "w3 is not reachable")
	if w1.raft.Load() != nil {
		t.Fatal("raft runs before all have agreed")
	}
	if isolated, _ := w1.Isolation(); !isolated {
		t.Error("a watcher that waits is not isolated")
	}
	if _, err := w1.Propose(func() context.Context {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}(), pauseCommand("", "", 0)); !errors.Is(err, ErrNoLeader) {
		t.Errorf("got %v, want ErrNoLeader", err)
	}
	r.start("w3")
	r.leader()
}

func TestWipedWatcherWaits(t *testing.T) {
	r := newRig(t, 3, nil)
	r.up()
	follower := r.follower()
	r.quit(follower)
	if err := os.RemoveAll(follower.o.DataDir); err != nil {
		t.Fatal(err)
	}
	r.start(follower.Name())
	back := r.runs[follower.Name()]
	waitsFor(t, back, "members add")
	if back.raft.Load() != nil {
		t.Error("a wiped watcher votes under its old identity")
	}
}

func TestLastOneStartsAfterTheOthers(t *testing.T) {
	r := newRig(t, 3, nil)
	r.up()
	// As if w3 had crashed after it confirmed, and before it began: the others have meanwhile written their log.
	w3 := r.runs["w3"]
	r.kill(w3)
	for _, name := range []string{logFile, "snapshots"} {
		if err := os.RemoveAll(filepath.Join(w3.o.DataDir, name)); err != nil {
			t.Fatal(err)
		}
	}
	i := w3.dir.identity
	i.Stage = stageEmpty
	d := dataDir{path: w3.o.DataDir}
	if err := d.save(i); err != nil {
		t.Fatal(err)
	}
	r.start("w3")
	until(t, "w3 follows", func() bool { return r.runs["w3"].State().Cluster == "prod" })
}

func TestAgreementIsExchangedUntilSomeoneHasBegun(t *testing.T) {
	r := newRig(t, 3, nil)
	r.start("w1", "w2")
	w1 := r.runs["w1"]
	waitsFor(t, w1, "w3 is not reachable")
	mine := func(third string) *agreement {
		return &agreement{Section: w1.section, Nodes: map[string]string{
			"w1": w1.identity().Node, "w2": r.runs["w2"].identity().Node, "w3": third,
		}}
	}
	before := w1.joining.changes
	if a := w1.answerFirstStart("w2", joinQuestion{Agreement: mine("wiped later")}); !a.Confirmed || a.Begun {
		t.Fatalf("first agreement: %+v", a)
	}
	if why, _, err := w1.begin(mine("wiped later"), before); why == "" || err != nil {
		t.Errorf("began with confirmations from before the exchange: %q, %v", why, err)
	}
	foreign := mine("x")
	foreign.Nodes["w1"] = "another directory"
	if a := w1.answerFirstStart("w2", joinQuestion{Agreement: foreign}); a.Confirmed {
		t.Error("confirmed an agreement that names another directory")
	}
	r.start("w3") // another id than the one agreed on
	r.leader()
	until(t, "w1 has begun too", func() bool { return w1.identity().Stage != stageEmpty })
	if a := w1.answerFirstStart("w2", joinQuestion{Agreement: mine("wiped later")}); a.Confirmed || !a.Begun {
		t.Errorf("exchanged the agreement after the start: %+v", a)
	}
}

func TestOtherConfigurationsAreRefused(t *testing.T) {
	t.Run("another section", func(t *testing.T) {
		r := newRig(t, 3, nil)
		r.each = func(o *Options) {
			if o.Name == "w3" {
				o.Peers = append([]Peer(nil), o.Peers...)
				o.Peers[0].DNS = []string{"192.0.2.53"}
			}
		}
		r.start(r.names()...)
		waitsFor(t, r.runs["w1"], "differs from that of w3")
		waitsFor(t, r.runs["w3"], "differs from that of w1, w2")
	})
	t.Run("another cluster", func(t *testing.T) {
		r := newRig(t, 3, nil)
		r.each = func(o *Options) {
			if o.Name == "w3" {
				o.Cluster = "test"
			}
		}
		r.start(r.names()...)
		waitsFor(t, r.runs["w1"], `belongs to cluster "prod", this one to "test"`)
	})
	t.Run("two of one name", func(t *testing.T) {
		r := newRig(t, 2, nil)
		r.each = func(o *Options) {
			if o.DataDir = filepath.Join(r.base, o.Listen); o.Name == "w2" {
				o.Name = "w1"
			}
		}
		r.start("w1", "w2")
		waitsFor(t, r.runs["w1"], "calls itself")
	})
}

func TestOpenRefuses(t *testing.T) {
	base := Options{
		Name: "w1", Cluster: "prod", Listen: "127.0.0.1:0", Log: zerolog.Nop(), Timing: testTiming,
		Peers: []Peer{{Name: "w1", Address: "127.0.0.1:7653"}},
	}
	open := func(t *testing.T, change func(o *Options)) error {
		t.Helper()
		o := base
		o.DataDir = t.TempDir()
		change(&o)
		n, err := Open(o)
		if err == nil {
			ended, cancel := context.WithCancel(context.Background())
			cancel()
			_ = n.Run(ended)
		}
		return err
	}
	for _, c := range []struct {
		name, want string
		change     func(o *Options)
	}{
		{"listening on all addresses", "needs mutual TLS", func(o *Options) { o.Listen = "0.0.0.0:0" }},
		{"a peer elsewhere", "needs mutual TLS", func(o *Options) {
			o.Peers = []Peer{{Name: "w1", Address: "127.0.0.1:1"}, {Name: "w2", Address: "192.0.2.2:1"}}
		}},
		{"a peer by name", "needs mutual TLS", func(o *Options) { o.Peers = []Peer{{Name: "w1", Address: "w1.example.net:1"}} }},
		{"an address without a port", "missing port", func(o *Options) { o.Listen = "127.0.0.1" }},
		{"not a member", "not among its watchers", func(o *Options) { o.Name = "w9" }},
		{"a log without an identity", "has a log but no identity.json", func(o *Options) {
			writeFile(t, filepath.Join(o.DataDir, logFile), "x")
		}},
		{"a damaged boot counter", "boot", func(o *Options) {
			_ = open(t, func(first *Options) { first.DataDir = o.DataDir })
			writeFile(t, filepath.Join(o.DataDir, bootFile), "many")
		}},
		{"another watcher's directory", `belongs to watcher "w1" of cluster "prod"`, func(o *Options) {
			_ = open(t, func(first *Options) { first.DataDir = o.DataDir })
			o.Name, o.Peers = "w2", []Peer{{Name: "w2", Address: "127.0.0.1:1"}}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := open(t, c.change); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want something with %q", err, c.want)
			}
		})
	}
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestSecondProcessOnADirectoryIsRefused(t *testing.T) {
	r := newRig(t, 1, nil)
	n := r.up()
	o := r.options("w1")
	o.Listen = "127.0.0.1:0"
	_, err := Open(o)
	if err == nil || !strings.Contains(err.Error(), "in use by process "+strconv.Itoa(os.Getpid())) {
		t.Errorf("got %v", err)
	}
	r.quit(n)
	r.start("w1") // the lock goes with its holder
	r.leader()
}

func TestLostLogIsRefused(t *testing.T) {
	r := newRig(t, 1, nil)
	n := r.up()
	r.quit(n)
	if err := os.Remove(filepath.Join(n.o.DataDir, logFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(r.options("w1")); err == nil || !strings.Contains(err.Error(), "its log") {
		t.Errorf("got %v", err)
	}
}

// TestASnapshotIsNoMemoryOfVotes: whoever deletes a damaged log and leaves the snapshots has a watcher that has forgotten
// for whom it voted and what it confirmed.
func TestASnapshotIsNoMemoryOfVotes(t *testing.T) {
	r := newRig(t, 1, nil)
	n := r.up()
	if err := n.raft.Load().Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	r.quit(n)
	if err := os.Remove(filepath.Join(n.o.DataDir, logFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(r.options("w1")); err == nil || !strings.Contains(err.Error(), "may have voted") {
		t.Errorf("got %v", err)
	}
}

// TestASectionChangedInTheMiddleOfTheFirstStartWaits: raft's first configuration must be the same on all watchers.
func TestASectionChangedInTheMiddleOfTheFirstStartWaits(t *testing.T) {
	r := newRig(t, 1, nil)
	n := r.up()
	r.quit(n)
	n.dir.identity.Stage = stageBegun
	n.dir.identity.Agreement.Section = "of another file"
	again := &Node{o: n.o, section: n.section, dir: n.dir}
	if why, _, err := again.joinOnce(t.Context()); err != nil || !strings.Contains(why, "was changed after") {
		t.Errorf("got %q, %v", why, err)
	}
}

func TestWaitingEndsWithItsContext(t *testing.T) {
	r := newRig(t, 2, nil)
	r.start("w1")
	w1 := r.runs["w1"]
	waitsFor(t, w1, "w2 is not reachable")
	r.quit(w1)
	if w1.err != nil {
		t.Errorf("stopped while waiting: %v", w1.err)
	}
}

func TestRejectionIsLoggedButNotForEver(t *testing.T) {
	var out bytes.Buffer
	l := newLimiter(time.Hour)
	log := zerolog.New(&out)
	for range 100 {
		if ok, _ := l.allow("same"); ok {
			log.Warn().Msg("refused")
		}
	}
	if got := strings.Count(out.String(), "refused"); got != 1 {
		t.Errorf("logged %d times", got)
	}
}
