package cluster

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/watchover-ha/watchover/pkg/failover"
)

func TestSnapshotEnvelope(t *testing.T) {
	policy := testPolicy()
	s, result := failover.NewState().Apply(failover.Entry{Index: 42, Term: 1, Command: failover.Command{
		Term: 1, Init: &failover.Init{Cluster: "prod", ClusterID: "id", Members: []failover.Member{{Name: "w1"}}, Policy: policy},
	}})
	if !result.Accepted {
		t.Fatal(result)
	}
	var whole bytes.Buffer
	if err := WriteSnapshot(&whole, s); err != nil {
		t.Fatal(err)
	}
	back, err := ReadSnapshot(bytes.NewReader(whole.Bytes()))
	if err != nil || back.Hash() != s.Hash() {
		t.Fatalf("read back: %v, %v", back, err)
	}
	text := whole.String()
	for name, damaged := range map[string]string{
		"empty":          "",
		"half a header":  text[:10],
		"truncated":      text[:len(text)-1],
		"one bit":        strings.Replace(text, "prod", "prof", 1),
		"longer":         text + " ",
		"newer format":   strings.Replace(text, `"format":1`, `"format":2`, 1),
		"claims a lot":   `{"format":1,"length":1099511627776,"sha256":""}` + "\n",
		"claims minus 1": `{"format":1,"length":-1,"sha256":""}` + "\n",
		"no header":      strings.Repeat("x", 2*maxHeader),
	} {
		if _, err := ReadSnapshot(strings.NewReader(damaged)); err == nil {
			t.Errorf("%s: read without an error", name)
		}
	}
}

func TestSnapshotRestoreAndTail(t *testing.T) {
	r := newRig(t, 3, nil)
	leader := r.up()
	if _, err := leader.Propose(seconds(t, 10), pauseCommand("", "in the snapshot", 0)); err != nil {
		t.Fatal(err)
	}
	follower := r.follower()
	if err := follower.raft.Load().Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	if _, err := leader.Propose(seconds(t, 10), pauseCommand("", "in the tail", 0)); err != nil {
		t.Fatal(err)
	}
	r.kill(follower)
	r.start(follower.Name())
	back := r.runs[follower.Name()]
	until(t, "snapshot and tail", func() bool { return pauseReason(back) == "in the tail" })
	until(t, "equal states", func() bool { return back.State().Hash() == leader.State().Hash() })

	r.kill(back)
	files, err := filepath.Glob(filepath.Join(back.o.DataDir, "snapshots", "*", "state.bin"))
	if err != nil || len(files) != 1 {
		t.Fatalf("snapshot files: %v, %v", files, err)
	}
	info, err := os.Stat(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(files[0], info.Size()/2); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(r.options(back.Name())); err == nil || !strings.Contains(err.Error(), "snapshot") {
		t.Errorf("a truncated snapshot: got %v", err)
	}
}

// FuzzReadSnapshot: whatever is in a file, reading it ends with an error or with a state that is written alike.
func FuzzReadSnapshot(f *testing.F) {
	s, _ := failover.NewState().Apply(failover.Entry{Index: 42, Term: 1, Command: failover.Command{
		Term: 1, Init: &failover.Init{Cluster: "prod", ClusterID: "id", Members: []failover.Member{{Name: "w1"}}, Policy: testPolicy()},
	}})
	var whole bytes.Buffer
	if err := WriteSnapshot(&whole, s); err != nil {
		f.Fatal(err)
	}
	f.Add(whole.Bytes())
	f.Add([]byte(`{"format":1,"length":2,"sha256":"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}` + "\n{}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ReadSnapshot(bytes.NewReader(text))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := WriteSnapshot(&again, s); err != nil {
			t.Fatal(err)
		}
		if back, err := ReadSnapshot(&again); err != nil || back.Hash() != s.Hash() {
			t.Fatalf("written again: %v", err)
		}
	})
}

// FuzzReadRefusal: an answer from another watcher is never more than it says.
func FuzzReadRefusal(f *testing.F) {
	f.Add([]byte("watcher \"w2\" was left behind\n{\"generation\":1}"))
	f.Add([]byte("no\n{"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if r := readRefusal(text); r.behind != nil && r.behind.Generation == 0 {
			t.Fatal("left behind by nothing")
		}
	})
}
