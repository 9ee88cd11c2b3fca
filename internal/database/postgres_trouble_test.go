//go:build servers

package database

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/internal/dbtest"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// A primary that hangs keeps the receiver's status at "streaming"; what has not been heard of for longer than a sign of life
// may take does not stream. One that is killed leaves a replica that knows no timeline, and can be promoted.
func TestPostgresReplicaOfAMainThatIsGone(t *testing.T) {
	main, standby := dbtest.NewPostgresPair(t, "wal_receiver_timeout = 12s") // so it hears of its main every 6 s at least
	main.Freeze()
	dbtest.Until(t, "the stream counts as broken", func() bool { return !see(t, standby).Streaming })
	if status := standby.Query(t, "SELECT status FROM pg_stat_wal_receiver"); status != "streaming" {
		t.Errorf("the receiver itself says %q, so it proves nothing that the stream counts as broken", status)
	}
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	d, err := Open("postgres", Options{DSN: main.DSN(), PasswordFile: main.PasswordFile(t)})
	if err != nil {
		t.Fatal(err)
	}
	if o, err := d.Observe(short); err == nil || o.Role != failover.RoleUnknown {
		t.Errorf("the main that hangs: %+v, %v", o, err)
	}
	d.Close()
	main.Thaw()
	dbtest.Until(t, "it streams again", func() bool { return see(t, standby).Streaming })
	main.Kill()
	dbtest.Until(t, "the receiver is gone", func() bool { return !see(t, standby).Streaming })
	dbtest.Until(t, "the timeline is not known", func() bool { return see(t, standby).Timeline == 0 })
	standby.Exec(t, "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()") // as of an earlier freeze
	young := hands(t, standby)
	before := standby.AutoConf(t)
	do(t, young.StopReplication)
	t.Log(do(t, young.Promote))
	do(t, young.Promote) // twice is once
	if o := see(t, standby); o.Role != failover.RolePrimary || o.Timeline != 2 || !o.Frozen {
		t.Errorf("promoted: %+v", o)
	}
	if after := standby.AutoConf(t); sorted(after) != sorted(before) {
		t.Errorf("settings after the promotion:\n%s\nbefore:\n%s", after, before)
	}
	do(t, with("", young.Unfreeze))
	if o := see(t, standby); o.Frozen {
		t.Errorf("unfrozen: %+v", o)
	}
	connectApp(t, standby).exec(t, "INSERT INTO orders VALUES (1)")
}

func TestPostgresReplicaThatDoesNotApply(t *testing.T) {
	main, standby := dbtest.NewPostgresPair(t)
	standby.Exec(t, "SELECT pg_wal_replay_pause()")
	connectApp(t, main).exec(t, "INSERT INTO orders VALUES (1)")
	old, young := hands(t, main), hands(t, standby)
	position := do(t, old.Position)
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := young.CatchUp(short, position); err == nil || !strings.Contains(err.Error(), "cannot catch up to "+position+" (received ") {
		t.Errorf("paused: %v", err)
	}
	if _, err := hands(t, main).CatchUp(t.Context(), position); err == nil || !strings.Contains(err.Error(), "no replica") {
		t.Errorf("a primary: %v", err)
	}
	standby.Exec(t, "SELECT pg_wal_replay_resume()")
	do(t, with(position, hands(t, standby).CatchUp))
}

func TestPostgresOfAnotherCluster(t *testing.T) {
	main, other := dbtest.NewPostgres(t), dbtest.NewPostgresCluster(t)
	if a, b := see(t, main), see(t, other); a.ID == b.ID || a.ID == "" {
		t.Errorf("ids %q and %q", a.ID, b.ID)
	}
}

// A server that has no connection left lives, but nothing is known of its database.
func TestPostgresAtItsConnectionLimit(t *testing.T) {
	main := dbtest.NewPostgres(t)
	o := Options{DSN: main.DSN(), PasswordFile: main.PasswordFile(t)}
	for taken := 0; ; taken++ {
		s, err := dbtest.PostgresSession(t.Context(), main.AppDSN())
		if err != nil {
			t.Logf("after %d sessions: %v", taken, err)
			break
		}
		t.Cleanup(s.Close)
	}
	if err := Ping(t.Context(), "postgres", o); err != nil {
		t.Errorf("a probe: %v", err)
	}
	if seen, err := look(t, main); err == nil || seen.Role != failover.RoleUnknown || !strings.Contains(err.Error(), "remaining connection slots") {
		t.Errorf("a look: %+v, %v", seen, err)
	}
}

func TestPostgresPing(t *testing.T) {
	main := dbtest.NewPostgres(t)
	o := Options{DSN: main.DSN(), PasswordFile: main.PasswordFile(t)}
	if err := Ping(t.Context(), "postgres", o); err != nil {
		t.Errorf("alive: %v", err)
	}
	bad := o
	if err := os.WriteFile(o.PasswordFile+".bad", []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	bad.PasswordFile += ".bad"
	if err := Ping(t.Context(), "postgres", bad); err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "password authentication failed") {
		t.Errorf("wrong password: %v", err)
	}
	bad.PasswordFile = "/nonexistent"
	if err := Ping(t.Context(), "postgres", bad); !errors.Is(err, ErrFile) {
		t.Errorf("no password file: %v", err)
	}
	if err := Ping(t.Context(), "postgres", Options{DSN: o.DSN, PasswordEnv: inVariable(t, o.PasswordFile)}); err != nil {
		t.Errorf("alive, the password in a variable: %v", err)
	}
	main.Stop(t)
	if err := Ping(t.Context(), "postgres", o); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("stopped: %v", err)
	}
}

// A role that does not heed the server's setting would write on in a frozen database.
func TestPostgresFreezeThatWouldNotHold(t *testing.T) {
	main := dbtest.NewPostgres(t)
	main.Exec(t, "ALTER ROLE app SET default_transaction_read_only = off")
	before := main.AutoConf(t)
	if _, err := hands(t, main).Freeze(t.Context()); err == nil || !strings.Contains(err.Error(), "role app has a default_transaction_read_only of its own") {
		t.Errorf("a role of its own mind: %v", err)
	}
	if after := main.AutoConf(t); after != before {
		t.Errorf("touched: %s", after)
	}
	main.Exec(t, "ALTER ROLE app RESET default_transaction_read_only", "ALTER DATABASE shop SET default_transaction_read_only = off")
	if _, err := hands(t, main).Freeze(t.Context()); err == nil || !strings.Contains(err.Error(), "database shop has") {
		t.Errorf("a database of its own mind: %v", err)
	}
	main.Exec(t, "ALTER DATABASE shop RESET default_transaction_read_only", "ALTER ROLE watchover SET default_transaction_read_only = on")
	if o, err := look(t, main); err == nil || o.Role != failover.RoleUnknown {
		t.Errorf("a setting that hides the server's: %+v, %v", o, err)
	}
}

// Hands that come late have no session any more: the server has ended it at the attempt's deadline, by its own clock.
func TestPostgresEndsTheSessionAtTheDeadline(t *testing.T) {
	_, standby := dbtest.NewPostgresPair(t)
	d := hands(t, standby)
	p, ok := d.(*postgres)
	if !ok {
		t.Fatal("another driver")
	}
	if _, err := d.Observe(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.o.Deadline = time.Now().Add(2 * time.Second) // counted from when it is connected: the machine may be slow
	if err := p.arm(t.Context()); err != nil {
		t.Fatal(err)
	}
	dbtest.Until(t, "the session is gone", func() bool {
		return standby.Query(t, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'watchover 7'") == "0"
	})
	if time.Now().Before(p.o.Deadline.Add(-500 * time.Millisecond)) {
		t.Error("it was ended too early")
	}
	p.o.Deadline = time.Now().Add(time.Minute) // as hands that know nothing of the time would
	if _, err := d.Promote(t.Context()); err == nil {
		t.Error("promoted late")
	}
	if o := see(t, standby); o.Role != failover.RoleReplica {
		t.Errorf("%+v", o)
	}
}

// A session that is kept is taken again, one that has died is replaced before an attempt has used it and never after.
func TestPostgresWarmSessions(t *testing.T) {
	main := dbtest.NewPostgres(t)
	var warm Warm
	t.Cleanup(warm.Close)
	open := func() *postgres {
		d, err := Open("postgres", Options{DSN: main.DSN(), PasswordFile: main.PasswordFile(t), Warm: &warm})
		if err != nil {
			t.Fatal(err)
		}
		return d.(*postgres)
	}
	process := func(p *postgres) (pid string) {
		if err := p.ask(t.Context(), "SELECT pg_backend_pid()::text", &pid); err != nil {
			t.Fatal(err)
		}
		return pid
	}
	a := open()
	first := process(a)
	a.Close()
	b := open()
	if again := process(b); again != first {
		t.Error("the kept session was not taken")
	}
	b.Close()
	main.Exec(t, "SELECT pg_terminate_backend("+first+")")
	c := open()
	second := process(c)
	if second == first {
		t.Error("a dead session")
	}
	main.Exec(t, "SELECT pg_terminate_backend("+second+")")
	if _, err := c.Observe(t.Context()); err == nil {
		t.Error("a session that was lost was replaced within an attempt")
	}
	if _, err := c.Observe(t.Context()); err == nil {
		t.Error("a session that was lost was replaced within an attempt, the second time")
	}
	c.Close()
}

// With ca_file the server's certificate has to come from those authorities; without, from the system's.
func TestPostgresOverTLS(t *testing.T) {
	main := dbtest.NewPostgres(t)
	main.Stop(t)
	ca := main.EnableTLS(t)
	main.Start(t)
	o := Options{DSN: strings.Replace(main.DSN(), "sslmode=disable", "sslmode=verify-full", 1), PasswordFile: main.PasswordFile(t)}
	if err := Ping(t.Context(), "postgres", o); err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Errorf("an authority that is not the system's: %v", err)
	}
	o.CAFile = ca
	d, err := Open("postgres", o)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	p, ok := d.(*postgres)
	if !ok {
		t.Fatal("another driver")
	}
	var encrypted bool
	if err := p.ask(t.Context(), "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &encrypted); err != nil || !encrypted {
		t.Errorf("encrypted: %t, %v", encrypted, err)
	}
}
