package daemon

import (
	"errors"
	"testing"

	"github.com/watchover-ha/watchover/internal/config"
	"github.com/watchover-ha/watchover/internal/database"
	"github.com/watchover-ha/watchover/internal/probe"
	"github.com/watchover-ha/watchover/internal/switchover"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// A file that is missing here is looked for beside this watcher's own file, and is this watcher's fault, not the server's.
func TestDatabaseFilesAreThisWatchersOwn(t *testing.T) {
	dir := t.TempDir()
	d := &Daemon{file: &config.File{Dir: dir}}
	p := failover.Probe{Kind: "postgres", DSN: "host=127.0.0.1 port=1 user=watchover", PasswordFile: "pg.pass"}
	err := d.pingDatabase(t.Context(), p)
	if !errors.Is(err, probe.ErrNotAsked) || !errors.Is(err, database.ErrFile) {
		t.Errorf("without its password file: %v", err)
	}
	db, err := d.openDatabase(switchover.Opening{Policy: &failover.Database{Kind: p.Kind, DSN: p.DSN, PasswordFile: p.PasswordFile}, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Observe(t.Context()); !errors.Is(err, database.ErrFile) {
		t.Errorf("a look without its password file: %v", err)
	}
	p.PasswordFile, p.PasswordEnv = "", "DAEMON_TEST_PASSWORD"
	if err := d.pingDatabase(t.Context(), p); !errors.Is(err, probe.ErrNotAsked) {
		t.Errorf("without its variable: %v", err)
	}
	inEnvironment, err := d.openDatabase(switchover.Opening{Policy: &failover.Database{Kind: p.Kind, DSN: p.DSN, PasswordEnv: p.PasswordEnv}, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer inEnvironment.Close()
	if _, err := inEnvironment.Observe(t.Context()); !errors.Is(err, database.ErrFile) {
		t.Errorf("a look without its variable: %v", err)
	}
	p.PasswordEnv = ""
	if err := d.pingDatabase(t.Context(), p); err == nil || errors.Is(err, probe.ErrNotAsked) {
		t.Errorf("a server that is not there: %v", err)
	}
}
