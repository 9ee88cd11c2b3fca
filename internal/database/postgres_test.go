package database

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/internal/localfile"
	"github.com/watchover-ha/watchover/internal/localfile/hung"
	"github.com/watchover-ha/watchover/pkg/failover"
)

func TestParseLSN(t *testing.T) {
	for text, want := range map[string]uint64{"0/0": 0, "0/3000028": 0x3000028, "16/B374D848": 0x16B374D848, "FFFFFFFF/FFFFFFFF": 1<<64 - 1} {
		if got, err := parseLSN(text); got != want || err != nil {
			t.Errorf("%s: %x, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "1", "/", "x/1", "1/x", "1/2/3", "100000000/0", "-1/0"} {
		if _, err := parseLSN(text); err == nil {
			t.Errorf("%q is read", text)
		}
	}
}

// An insert position behind the header of an empty page is where a replica that has everything stands before it.
func TestPositionWithoutHeader(t *testing.T) {
	for at, want := range map[uint64]uint64{
		0x3000028: 0x3000000, 0x3002018: 0x3002000, // headers alone
		0x3000060: 0x3000060, 0x3002028: 0x3002028, 0x3002000: 0x3002000, 0x3002020: 0x3002020, // records
	} {
		if got := withoutHeader(at); got != want {
			t.Errorf("%x: got %x, want %x", at, got, want)
		}
	}
}

func TestPostgresDSN(t *testing.T) {
	for _, dsn := range []string{"host=192.0.2.10 user=watchover dbname=postgres sslmode=verify-full", "postgres://watchover@192.0.2.10:5433/postgres", "host=192.0.2.10 user=w sslmode=prefer"} {
		if err := Check("postgres", dsn); err != nil {
			t.Errorf("%s: %v", dsn, err)
		}
	}
	for dsn, want := range map[string]string{
		"host=a,b user=watchover":                                "several hosts",
		"host=a port=x user=hunter2":                             "cannot read the dsn",
		"postgres://watchover@a:b:c/":                            "cannot read the dsn",
		"user=watchover dbname=postgres":                         "names no host",
		"host=192.0.2.10 dbname=postgres":                        "names no user",
		"host=192.0.2.10 user=w passfile=/etc/pgpass":            "use password_file",
		"host=192.0.2.10 user=w target_session_attrs=read-write": "target_session_attrs",
	} {
		if err := Check("postgres", dsn); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", dsn, err)
		}
	}
	if err := Check("oracle", "x"); err == nil || !strings.Contains(err.Error(), "postgres") {
		t.Errorf("an unknown kind: %v", err)
	}
}

func TestPasswordFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for text, want := range map[string]string{"secret": "secret", "secret\n": "secret", "secret\r\n": "secret", " two words \n": " two words ", "line\nline\n": "line\nline"} {
		if got, err := password(t.Context(), write("good", text), ""); got != want || err != nil {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	if got, err := password(t.Context(), "", ""); got != "" || err != nil {
		t.Errorf("none: %q, %v", got, err)
	}
	for name, path := range map[string]string{"missing": filepath.Join(dir, "none"), "empty": write("empty", "\n"), "directory": dir, "large": write("large", strings.Repeat("x", maxSecret+1))} {
		if _, err := password(t.Context(), path, ""); !errors.Is(err, ErrFile) || strings.Contains(err.Error(), "xxx") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := authorities(t.Context(), write("ca", "no certificate")); !errors.Is(err, ErrFile) {
		t.Errorf("authorities: %v", err)
	}
}

// A variable holds what a file would, and what is wrong with it is this watcher's fault, too.
func TestPasswordVariable(t *testing.T) {
	const name = "DATABASE_TEST_PASSWORD"
	if _, err := password(t.Context(), "", name); !errors.Is(err, ErrFile) || err.Error() != "cannot read environment variable "+name+": it is not set" {
		t.Errorf("not set: %v", err)
	}
	for text, want := range map[string]string{"secret": "secret", "secret\n": "secret", " two words ": " two words "} {
		t.Setenv(name, text)
		if got, err := password(t.Context(), "", name); got != want || err != nil {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{"": "it is empty", "\n": "it is empty", strings.Repeat("x", maxSecret+1): "larger than"} {
		t.Setenv(name, text)
		if _, err := password(t.Context(), "", name); !errors.Is(err, ErrFile) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "xxx") {
			t.Errorf("%d bytes: %v", len(text), err)
		}
	}
	a, b := Options{DSN: "x", PasswordEnv: "A"}, Options{DSN: "x", PasswordEnv: "B"}
	if a.server() == b.server() || a.server() == (Options{DSN: "x", PasswordFile: "A"}).server() {
		t.Error("kept sessions of one login are taken for another's")
	}
}

// Who makes a database a replica logs in at the new primary by its variable, too, before anything is changed.
func TestFollowReadsTheVariable(t *testing.T) {
	const name = "DATABASE_TEST_PASSWORD"
	to := failover.Database{DSN: "watchover@tcp(127.0.0.1:1)/", PasswordEnv: name}
	m := &mysql{dialect: &dialect{}}
	_, errStatements := m.followStatements(t.Context(), to)
	_, errRedis := (&redis{}).Follow(t.Context(), failover.Database{DSN: "redis://watchover@127.0.0.1:1", PasswordEnv: name})
	for what, err := range map[string]error{"mysql": m.nothingErrant(t.Context(), to), "its statements": errStatements, "redis": errRedis} {
		if !errors.Is(err, ErrFile) || !strings.Contains(err.Error(), "environment variable "+name+": it is not set") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// A password or the authorities lie on a mount that hangs: whoever asks waits until its deadline.
func TestAFileThatHangs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	hung.File(t, path)
	for kind, dsn := range map[string]string{
		"postgres": "host=127.0.0.1 port=1 user=watchover sslmode=verify-full", "mysql": "watchover@tcp(127.0.0.1:1)/?tls=true", "redis": "rediss://127.0.0.1:1",
	} {
		for name, o := range map[string]Options{"password": {DSN: dsn, PasswordFile: path}, "authorities": {DSN: dsn, CAFile: path}} {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			err := Ping(ctx, kind, o)
			cancel()
			if !errors.Is(err, ErrFile) || !errors.Is(err, localfile.ErrHangs) {
				t.Errorf("%s, %s: %v", kind, name, err)
			}
		}
	}
}

// A certificate's authorities are of use only where its name is looked at.
func TestPostgresCAFileWantsVerifyFull(t *testing.T) {
	for mode, ok := range map[string]bool{"disable": false, "prefer": false, "require": false, "verify-ca": false, "verify-full": true} {
		if _, err := Open("postgres", Options{DSN: "host=192.0.2.10 user=watchover sslmode=" + mode, CAFile: "/ca.pem"}); (err == nil) != ok {
			t.Errorf("%s: %v", mode, err)
		}
	}
}

// What the documentation tells people to grant is what the tests run with.
func TestGrantsAreThoseOfTheDocumentation(t *testing.T) {
	read := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	_, doc, _ := strings.Cut(read("../../docs/databases.md"), "```sql\n")
	doc, _, _ = strings.Cut(doc, "```")
	tell := func(text string) string {
		return strings.Join(strings.Fields(regexp.MustCompile(`--.*`).ReplaceAllString(text, "")), " ")
	}
	if got, want := tell(doc), tell(read("../../examples/postgres/watchover.sql")); got != want || !strings.Contains(want, "CREATE ROLE watchover") {
		t.Errorf("the page says\n%s\nthe file says\n%s", got, want)
	}
}

// Nothing acts without a token, or after its time.
func TestPostgresHandsAreRefused(t *testing.T) {
	o := Options{DSN: "host=127.0.0.1 port=1 user=watchover", Deadline: time.Now().Add(-time.Second)}
	d, err := Open("postgres", o)
	if err != nil {
		t.Fatal(err)
	}
	p, ok := d.(*postgres)
	if !ok {
		t.Fatal("another driver")
	}
	if err := p.act(t.Context(), "SELECT 1"); !errors.Is(err, errNotBegun) {
		t.Errorf("without a token: %v", err)
	}
	d.Begin(1)
	if err := p.act(t.Context(), "SELECT 1"); !errors.Is(err, errTooLate) {
		t.Errorf("after its time: %v", err)
	}
	d.Close()
	if _, err := d.Observe(t.Context()); !errors.Is(err, errClosed) {
		t.Errorf("after its end: %v", err)
	}
}

func TestStopSuffixIsStripped(t *testing.T) {
	for _, conninfo := range []string{"host=192.0.2.10 user=replica password='a b'", ""} {
		if got := stopped.ReplaceAllString(conninfo+stopSuffix(7)+stopSuffix(1<<41), ""); got != conninfo {
			t.Errorf("got %q, want %q", got, conninfo)
		}
	}
}
