package pki

import (
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// made is a directory with an authority and the certificates of the named watchers.
func made(t *testing.T, names ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "pki")
	if _, err := Init(dir, CADays, now); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if _, err := Issue(dir, name, nil, LeafDays, now); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func filesIn(dir, name string) Files {
	return Files{CA: filepath.Join(dir, CAFile), Cert: filepath.Join(dir, name+".pem"), Key: filepath.Join(dir, name+".key")}
}

func TestIssued(t *testing.T) {
	dir := made(t)
	w, err := Issue(dir, "w1", []string{"W1.Example.net.", "192.0.2.1", "2001:db8::1"}, 30, now)
	if err != nil {
		t.Fatal(err)
	}
	if want := now.Add(30 * day); !w.Expires.Equal(want) {
		t.Errorf("ends at %s, want %s", w.Expires, want)
	}
	id, err := Load(filesIn(dir, "w1"), "w1", now)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(id.Leaf.DNSNames, " "); got != "w1 w1.example.net" || len(id.Leaf.IPAddresses) != 2 {
		t.Errorf("made out to %q and %v", got, id.Leaf.IPAddresses)
	}
	if !id.Expires.Equal(w.Expires) || id.Overdue(now) != "" {
		t.Errorf("expires %s, overdue %q", id.Expires, id.Overdue(now))
	}
	for file, mode := range map[string]os.FileMode{"w1.key": 0o600, CAKeyFile: 0o600, "w1.pem": 0o644, CAFile: 0o644} {
		if info, err := os.Stat(filepath.Join(dir, file)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: mode %v, want %v (%v)", file, info.Mode(), mode, err)
		}
	}
	if filesIn(dir, "w1").Exposed() {
		t.Error("a new key counts as readable by others")
	}
}

func TestClocksMayBeBehind(t *testing.T) {
	id, err := Load(filesIn(made(t, "w1"), "w1"), "w1", now)
	if err != nil {
		t.Fatal(err)
	}
	if why := id.Overdue(now.Add(-skew / 2)); why != "" {
		t.Errorf("half an hour before its making it %s", why)
	}
	if why := id.Overdue(now.Add(-2 * skew)); !strings.Contains(why, "not good before") {
		t.Errorf("got %q", why)
	}
	if why := id.Overdue(now.Add((LeafDays + 1) * day)); !strings.Contains(why, "ended at 2028-02-29T12:00:00Z") {
		t.Errorf("got %q", why)
	}
}

func TestNothingIsOverwritten(t *testing.T) {
	dir := made(t, "w1")
	before, err := os.ReadFile(filepath.Join(dir, "w1.key"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Init(dir, CADays, now); !errors.Is(err, ErrExists) {
		t.Errorf("a second authority: %v", err)
	}
	if _, err := Issue(dir, "w1", nil, LeafDays, now); !errors.Is(err, ErrExists) {
		t.Errorf("a second certificate: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "w1.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := Issue(dir, "w1", nil, LeafDays, now); !errors.Is(err, ErrExists) {
		t.Errorf("over a lone key: %v", err)
	}
	if after, _ := os.ReadFile(filepath.Join(dir, "w1.key")); string(after) != string(before) {
		t.Error("the key has changed")
	}
	if err := os.Rename(filepath.Join(dir, "w1.key"), filepath.Join(dir, "w1.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := Issue(dir, "w1", nil, LeafDays, now); !errors.Is(err, ErrExists) {
		t.Errorf("over a lone certificate: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "w1.key")); err == nil {
		t.Error("a key was left without its certificate")
	}
}

func TestRefused(t *testing.T) {
	dir := made(t)
	for _, c := range []struct {
		name, host, want string
		days             int
	}{
		{"", "", "not a watcher's name", 1},
		{"W1", "", "not a watcher's name", 1},
		{"w1.example.net", "", "not a watcher's name", 1},
		{"../w1", "", "not a watcher's name", 1},
		{"-w1", "", "not a watcher's name", 1},
		{strings.Repeat("w", 64), "", "not a watcher's name", 1},
		{"ca", "", "the authority's own files", 1},
		{"w1", "w2", "of a watcher of that name too", 1},
		{"w1", "localhost", "of a watcher of that name too", 1},
		{"w1", "a b.c", "neither a host name nor an address", 1},
		{"w1", "*.example.net", "neither a host name nor an address", 1},
		{"w1", "w1.example.net", "out of range", 0},
		{"w1", "w1.example.net", "out of range", MaxDays + 1},
	} {
		hosts := []string{c.host}
		if c.host == "" {
			hosts = nil
		}
		if _, err := Issue(dir, c.name, hosts, c.days, now); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q with %q for %d days: got %v, want %q", c.name, c.host, c.days, err, c.want)
		}
	}
	if _, err := Issue(t.TempDir(), "w1", nil, 1, now); !errors.Is(err, ErrNoAuthority) {
		t.Errorf("without an authority: %v", err)
	}
	if _, err := Issue(dir, "w1", nil, 1, now.Add((CADays+1)*day)); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("with an authority that has ended: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 2 {
		t.Errorf("left behind: %v", left)
	}
}

func TestNoCertificateOutlivesItsAuthority(t *testing.T) {
	dir := t.TempDir()
	ca, err := Init(dir, 10, now)
	if err != nil {
		t.Fatal(err)
	}
	w, err := Issue(dir, "w1", nil, 20, now)
	if err != nil || !w.Expires.Equal(ca.Expires) {
		t.Errorf("ends at %s, its authority at %s (%v)", w.Expires, ca.Expires, err)
	}
}

// TestAuthorityIsAnEnd: who steals a watcher's key cannot issue with it.
func TestAuthorityIsAnEnd(t *testing.T) {
	id, err := Load(filesIn(made(t, "w1"), "w1"), "w1", now)
	if err != nil {
		t.Fatal(err)
	}
	if id.Leaf.IsCA || id.Leaf.KeyUsage&x509.KeyUsageCertSign != 0 {
		t.Error("a watcher's certificate can issue others")
	}
}
