//go:build servers

package database

import (
	"context"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/internal/dbtest"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// hands opens a driver that may act for a minute.
func hands(t *testing.T, p *dbtest.Postgres) Driver {
	t.Helper()
	d, err := Open("postgres", Options{DSN: p.DSN(), PasswordFile: p.PasswordFile(t), Deadline: time.Now().Add(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	d.Begin(7)
	return d
}

// inVariable puts the password of a file into a variable of this process's environment.
func inVariable(t *testing.T, file string) failover.Variable {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	name := "DATABASE_" + t.Name() // of its own: these tests run beside one another, so t.Setenv refuses
	if err := os.Setenv(name, string(text)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Unsetenv(name) })
	return failover.Variable(name)
}

func see(t *testing.T, p *dbtest.Postgres) failover.Observation {
	t.Helper()
	o, err := look(t, p)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func look(t *testing.T, p *dbtest.Postgres) (failover.Observation, error) {
	t.Helper()
	d, err := Open("postgres", Options{DSN: p.DSN(), PasswordFile: p.PasswordFile(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return d.Observe(ctx)
}

// do runs an act that has to succeed and returns its output.
func do(t *testing.T, act func(context.Context) (string, error)) string {
	t.Helper()
	output, err := act(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return output
}

func with(text string, act func(context.Context, string) (string, error)) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) { return act(ctx, text) }
}

func found(t *testing.T, d Driver, step failover.StepName) string {
	t.Helper()
	text, err := d.Found(t.Context(), step)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestPostgresPlannedSwitchover(t *testing.T) {
	main, standby := dbtest.NewPostgresPair(t)
	a, b := see(t, main), see(t, standby)
	if a.Role != failover.RolePrimary || b.Role != failover.RoleReplica || !b.Streaming || a.ID == "" || a.ID != b.ID || a.Timeline != 1 || b.Timeline != 1 || a.Frozen || b.Frozen {
		t.Fatalf("before: %+v, %+v", a, b)
	}
	client := main.Super(t, "shop")
	if _, err := client.Exec(t.Context(), "SET synchronous_commit = off; INSERT INTO orders VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	old, young := hands(t, main), hands(t, standby)
	if output := do(t, old.Freeze); !strings.Contains(output, "; 1 of superusers could not be") {
		t.Errorf("a superuser's session stays, and the freeze tells: %q", output)
	}
	if o := see(t, main); !o.Frozen || o.Role != failover.RolePrimary {
		t.Errorf("frozen: %+v", o)
	}
	position := do(t, old.Position)
	do(t, with(position, young.CatchUp))
	if n := standby.QueryIn(t, "shop", "SELECT count(*) FROM orders"); n != "1" {
		t.Errorf("%s orders on the caught-up replica", n)
	}
	before := standby.AutoConf(t)
	do(t, young.StopReplication)
	if o := see(t, standby); o.Streaming {
		t.Errorf("stopped: %+v", o)
	}
	output := do(t, young.Promote)
	if o := see(t, standby); o.Role != failover.RolePrimary || o.Timeline != 2 || o.Frozen {
		t.Errorf("promoted: %+v", o)
	}
	if after := standby.AutoConf(t); after != before {
		t.Errorf("settings after the promotion:\n%s\nbefore:\n%s", after, before)
	}
	standby.ExecIn(t, "shop", "INSERT INTO orders VALUES (2)")
	t.Log(output)
}

// Every session that may have been writing is ended, whatever it was doing; who connects again may read.
func TestPostgresFreezeEndsWriters(t *testing.T) {
	main := dbtest.NewPostgres(t)
	app := func() *dbtestConn { return connectApp(t, main) }
	idle, open, stubborn := app(), app(), app()
	open.exec(t, "BEGIN; INSERT INTO orders VALUES (1)")
	stubborn.exec(t, "SET default_transaction_read_only = off")
	d := hands(t, main)
	do(t, d.Freeze)
	do(t, d.Position)
	for name, c := range map[string]*dbtestConn{"idle": idle, "open": open, "stubborn": stubborn} {
		if err := c.try(t, "INSERT INTO orders VALUES (2)"); err == nil {
			t.Errorf("the %s session still writes", name)
		}
	}
	again := app()
	if err := again.try(t, "INSERT INTO orders VALUES (3)"); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("a new session: %v", err)
	}
	again.exec(t, "SELECT count(*) FROM orders")
	// What the freeze does not stop is not overlooked.
	again.exec(t, "SET default_transaction_read_only = off")
	again.exec(t, "BEGIN; INSERT INTO orders VALUES (4)")
	if p, err := d.Position(t.Context()); err == nil || !strings.Contains(err.Error(), "1 sessions write although the database is frozen, among them app") {
		t.Errorf("with a session that writes all the same: %q, %v", p, err)
	}
	again.exec(t, "COMMIT")
	do(t, d.Position)
	// A second freeze ends that one too and changes nothing else.
	before := main.AutoConf(t)
	do(t, d.Freeze)
	if after := main.AutoConf(t); after != before {
		t.Errorf("frozen twice:\n%s\nonce:\n%s", after, before)
	}
}

// A freeze is not done as long as a session is there that has been told to end.
func TestPostgresFreezeWaitsForSessions(t *testing.T) {
	main := dbtest.NewPostgres(t)
	client := connectApp(t, main)
	client.exec(t, "BEGIN; INSERT INTO orders VALUES (1)")
	backend := int(client.conn.PgConn().PID())
	signal := func(s syscall.Signal) {
		if err := syscall.Kill(backend, s); err != nil {
			t.Errorf("cannot send %v to the client's process: %v", s, err)
		}
	}
	signal(syscall.SIGSTOP)
	thaw := sync.OnceFunc(func() { signal(syscall.SIGCONT) })
	t.Cleanup(thaw)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if output, err := hands(t, main).Freeze(ctx); err == nil || !strings.Contains(err.Error(), "1 sessions of clients do not end") {
		t.Errorf("with a session that does not end: %q, %v", output, err)
	}
	thaw()
	d := hands(t, main)
	do(t, d.Freeze)
	do(t, d.Position)
	if n := main.QueryIn(t, "shop", "SELECT count(*) FROM orders"); n != "0" {
		t.Errorf("%s orders, want what was not committed gone", n)
	}
}

// An undone freeze leaves postgresql.auto.conf as it was, byte by byte, and so does an undone stop.
func TestPostgresUndoPutsBack(t *testing.T) {
	for _, tc := range []struct {
		name, before string
		found        string
	}{
		{"nothing was set", "", "unset"},
		{"off was set", "ALTER SYSTEM SET default_transaction_read_only = off", "set off"},
		{"another word was set", "ALTER SYSTEM SET default_transaction_read_only = 'no'", "set no"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			main, standby := dbtest.NewPostgresPair(t)
			main.Exec(t, "ALTER SYSTEM SET work_mem = '5MB'")
			if tc.before != "" {
				main.Exec(t, tc.before)
			}
			auto := [2]string{main.AutoConf(t), standby.AutoConf(t)}
			old, young := hands(t, main), hands(t, standby)
			freeze, stop := found(t, old, failover.StepFreeze), found(t, young, failover.StepStopReplication)
			if freeze != tc.found || stop != "postgresql.auto.conf" {
				t.Errorf("found %q and %q", freeze, stop)
			}
			do(t, old.Freeze)
			do(t, young.StopReplication)
			do(t, with(stop, young.ResumeReplication))
			do(t, with(freeze, old.Unfreeze))
			if got := [2]string{main.AutoConf(t), standby.AutoConf(t)}; got != auto {
				t.Errorf("settings after the undo:\n%q\nbefore:\n%q", got, auto)
			}
			if o := see(t, main); o.Frozen {
				t.Errorf("unfrozen: %+v", o)
			}
			dbtest.Until(t, "the replica streams again", func() bool { return see(t, standby).Streaming })
			connectApp(t, main).exec(t, "INSERT INTO orders VALUES (1)")
		})
	}
}

// A primary_conninfo of postgresql.conf is hidden by ours while stopped, and comes out again.
func TestPostgresConninfoOfAnotherFile(t *testing.T) {
	main, standby := dbtest.NewPostgresPair(t)
	standby.Stop(t)
	standby.Set(t, "primary_conninfo = "+dbtest.Quote(main.Conninfo()))
	standby.Unset(t, "primary_conninfo")
	standby.Start(t)
	before := standby.AutoConf(t)
	d := hands(t, standby)
	dbtest.Until(t, "it streams", func() bool { return see(t, standby).Streaming })
	text := found(t, d, failover.StepStopReplication)
	do(t, d.StopReplication)
	if again := found(t, d, failover.StepStopReplication); text != "another file" || again != text {
		t.Errorf("found %q before the stop and %q after it", text, again)
	}
	do(t, d.StopReplication) // twice is once
	do(t, with("", d.ResumeReplication))
	if after := standby.AutoConf(t); after != before {
		t.Errorf("settings after the undo:\n%s\nbefore:\n%s", after, before)
	}
	dbtest.Until(t, "it streams again", func() bool { return see(t, standby).Streaming })
	standby.Exec(t, "ALTER SYSTEM SET primary_conninfo = 'postgres://replica@127.0.0.1/'", "SELECT pg_reload_conf()")
	if _, err := d.Found(t.Context(), failover.StepStopReplication); err == nil || !strings.Contains(err.Error(), "is a URL") {
		t.Errorf("a URL: %v", err)
	}
}
