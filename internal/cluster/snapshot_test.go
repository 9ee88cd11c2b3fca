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
