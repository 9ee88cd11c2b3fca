package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/watchover-ha/watchover/internal/cluster"
	"github.com/watchover-ha/watchover/internal/control"
	"github.com/watchover-ha/watchover/internal/control/controltest"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// files are snapshots as the daemon writes and reads them.
type files struct{}

func (files) Write(w io.Writer, s *failover.State) error { return cluster.WriteSnapshot(w, s) }
func (files) Read(r io.Reader) (*failover.State, error)  { return cluster.ReadSnapshot(r) }

// saved saves what a backend has.
func saved(t *testing.T, b *controltest.Backend) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.snap")
	if code, _, stderr := run(t, serving(t, b), "", "snapshot", "save", path); code != exitDone {
		t.Fatalf("save: exit %d, %q", code, stderr)
	}
	return path
}

func TestSnapshotSaveAndInspect(t *testing.T) {
	b := up()
	socket := serving(t, b)
	dir := t.TempDir()
	path := filepath.Join(dir, "a.snap")
	code, stdout, stderr := run(t, socket, "", "snapshot", "save", path)
	if code != exitDone || !strings.Contains(stdout, "saved "+path) || !strings.Contains(stdout, "group shop: active main, writer main, epoch 0") {
		t.Fatalf("exit %d, %q, %q", code, stdout, stderr)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if code, _, stderr := run(t, socket, "", "snapshot", "save", path); code != exitRefused || !strings.Contains(stderr, "it exists\nhint: ") {
		t.Errorf("over an old one: exit %d, %q", code, stderr)
	}
	if code, _, stderr := run(t, socket, "", "snapshot", "save", path, "--overwrite"); code != exitDone {
		t.Errorf("--overwrite: exit %d, %q", code, stderr)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("files left behind: %v, %v", left, err)
	}
	if code, _, stderr := run(t, socket, "", "snapshot", "save", filepath.Join(dir, "none", "a")); code != exitFailed || !strings.Contains(stderr, "no such file") {
		t.Errorf("no directory: exit %d, %q", code, stderr)
	}
	code, stdout, stderr = run(t, "/nonexistent", "", "snapshot", "inspect", path, "-o", "json")
	var c snapshotContents
	if err := json.Unmarshal([]byte(stdout), &c); code != exitDone || err != nil || c.Cluster != "prod" || c.Hash != b.State().Hash() || len(c.Members) != 3 || len(c.Groups) != 1 {
		t.Errorf("inspect: exit %d, %q, %q", code, stdout, stderr)
	}
}

func TestSnapshotSaveWithoutAQuorum(t *testing.T) {
	b := up()
	b.EditLocal(func(l *control.Local) { l.HasQuorum = false })
	socket, path := serving(t, b), filepath.Join(t.TempDir(), "a.snap")
	if code, _, stderr := run(t, socket, "", "snapshot", "save", path); code != exitNoLeader || !strings.Contains(stderr, "--stale") {
		t.Errorf("exit %d, %q", code, stderr)
	}
	if code, _, stderr := run(t, socket, "", "snapshot", "save", path, "--stale"); code != exitDone {
		t.Errorf("--stale: exit %d, %q", code, stderr)
	}
}

func TestDamagedSnapshotsAreNamed(t *testing.T) {
	whole, err := os.ReadFile(saved(t, up()))
	if err != nil {
		t.Fatal(err)
	}
	socket := serving(t, up())
	for name, c := range map[string]struct{ text, want string }{
		"empty":    {"", "it has no header, so it is damaged or no snapshot at all"},
		"no text":  {"hello\n", "it has no header, so it is damaged or no snapshot at all"},
		"cut off":  {string(whole[:len(whole)-7]), "it is cut off: it should have"},
		"longer":   {string(whole) + "x", "something follows the"},
		"one byte": {strings.Replace(string(whole), "standby", "standbx", 1), "bytes are damaged (the digest differs)"},
		"future":   {strings.Replace(string(whole), `"format":1`, `"format":9`, 1), "its format is 9, this program reads 1; use the version that wrote it"},
	} {
		path := filepath.Join(t.TempDir(), "x.snap")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"snapshot", "inspect", path}, {"snapshot", "restore", path, "--yes"}} {
			code, _, stderr := run(t, socket, "", args...)
			if code != exitFailed || !strings.HasPrefix(stderr, "watchover: cannot use "+path+": cannot read snapshot: ") || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
				t.Errorf("%s, %s: exit %d, %q", name, args[1], code, stderr)
			}
		}
	}
}

func TestSnapshotRestore(t *testing.T) {
	old := up()
	old.Verdicts("shop", "main", failover.VerdictDown, "refused")
	if !old.State().Groups["shop"].Switchover.Open() {
		t.Fatal("no switchover is open")
	}
	calm, open := saved(t, up()), saved(t, old)
	b := up()
	socket := serving(t, b)
	if code, _, stderr := run(t, socket, "", "snapshot", "restore", calm); code != exitUsage || !strings.Contains(stderr, "--yes") {
		t.Errorf("without a terminal: exit %d, %q", code, stderr)
	}
	if code, _, stderr := run(t, socket, "n\n", "snapshot", "restore", calm); code != exitFailed || !strings.Contains(stderr, "not confirmed; nothing was done") || !strings.Contains(stderr, "active main") {
		t.Errorf("not confirmed: exit %d, %q", code, stderr)
	}
	if code, _, stderr := run(t, socket, "", "snapshot", "restore", open, "--yes"); code != exitRefused || !strings.Contains(stderr, "open_switchovers") || !strings.Contains(stderr, "--open-switchovers=undo or keep") {
		t.Errorf("an open switchover: exit %d, %q", code, stderr)
	}
	if code, _, stderr := run(t, socket, "", "snapshot", "restore", open, "--yes", "--open-switchovers", "perhaps"); code != exitUsage || !strings.Contains(stderr, "perhaps") {
		t.Errorf("nonsense: exit %d, %q", code, stderr)
	}
	if b.State().Generation != 0 {
		t.Fatal("something was restored")
	}
	code, stdout, stderr := run(t, socket, "y\n", "snapshot", "restore", open, "--open-switchovers", "keep")
	if g := b.State().Groups["shop"]; code != exitDone || !strings.Contains(stdout, "watchover ack") || !g.Switchover.Open() || g.Unconfirmed == nil {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
}

func TestRecoverIsRefusedWithAWord(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "w1.yaml")
	text, err := os.ReadFile("../../internal/config/testdata/good/minimal.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), "watcher:\n", "watcher:\n  data_dir: "+dir+"/data\n", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"recover"}, exitUsage, "recover needs --config FILE"},
		{[]string{"recover", "now"}, exitUsage, `does not take "now"`},
		{[]string{"recover", "--config", "/nonexistent"}, exitUsage, "no such file"},
		{[]string{"recover", "--config", path, "--yes"}, exitFailed, "no watcher has used it"},
		{[]string{"snapshot"}, exitUsage, "snapshot needs a verb"},
		{[]string{"snapshot", "sav"}, exitUsage, `unknown verb "snapshot sav"`},
		{[]string{"snapshot", "save"}, exitUsage, "needs FILE"},
		{[]string{"snapshot", "save", "x"}, exitUnreachable, "no such socket"},
		{[]string{"snapshot", "inspect", "/nonexistent"}, exitUsage, "no such file"},
		{[]string{"snapshot", "inspect", path, "-o", "yaml"}, exitUsage, `unknown output "yaml"`},
	} {
		code, _, stderr := run(t, "/nonexistent/socket", "", c.args...)
		if code != c.code || !strings.HasPrefix(stderr, "watchover: cannot ") || !strings.Contains(stderr, c.want) {
			t.Errorf("%v: exit %d, %q", c.args, code, stderr)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "data")); !os.IsNotExist(err) {
		t.Errorf("recover has made a data directory: %v", err)
	}
}
