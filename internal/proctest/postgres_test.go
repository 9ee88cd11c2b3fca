//go:build servers

package proctest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/internal/dbtest"
	"github.com/watchover-ha/watchover/pkg/client"
)

// postgresPair is a cluster of watchers whose databases are a PostgreSQL and its replica.
type postgresPair struct {
	*cluster
	db map[string]*dbtest.Postgres // by app
}

func newPostgresPair(t *testing.T, s settings) *postgresPair {
	t.Helper()
	p := preparePostgresPair(t, s)
	p.begin()
	return p
}

func preparePostgresPair(t *testing.T, s settings) *postgresPair {
	t.Helper()
	main, standby := dbtest.NewPostgresPair(t)
	p := &postgresPair{db: map[string]*dbtest.Postgres{"main": main, "standby": standby}}
	s.databases = map[string]string{}
	for app, db := range p.db {
		s.databases[app] = fmt.Sprintf("          kind: postgres\n          dsn: %q\n          password_file: %s\n", db.DSN(), db.PasswordFile(t))
	}
	s.steps = orElse(s.steps, "timeout: 10s, tries: 3, backoff: 200ms")
	p.cluster = prepare(t, s)
	return p
}

// write begins to write where the record says.
func (p *postgresPair) write() *dbtest.Writer {
	p.t.Helper()
	first := 0 // the watcher that answered last: others may be dead
	where := func() string {
		a, err := p.ask(names[first])
		if err != nil {
			first = (first + 1) % len(names)
			return ""
		}
		for app, address := range addresses {
			if a.address == address {
				return p.db[app].AppDSN()
			}
		}
		return ""
	}
	w := dbtest.StartWriter(where, dbtest.PostgresSession)
	p.t.Cleanup(w.Stop)
	eventually(p.t, "the client writes", func() (bool, any) { return len(w.Acks()) > 50, len(w.Acks()) })
	return w
}

// writesOn waits until a client's writes reach a server.
func (p *postgresPair) writesOn(w *dbtest.Writer, app string) {
	p.t.Helper()
	eventually(p.t, "the client writes to "+app, func() (bool, any) {
		acks := w.Acks()
		last := acks[len(acks)-1]
		return last.Server == p.db[app].AppDSN() && time.Since(last.At) < time.Second, last
	})
}

func (p *postgresPair) killMachine(app string) {
	p.t.Helper()
	p.db[app].Kill()
	p.killApp(app)
}

// Every acknowledged write is on the new primary, and the old one refuses writes.
func TestServersPostgresPlannedSwitchoverLosesNothing(t *testing.T) {
	t.Parallel()
	p := newPostgresPair(t, settings{})
	w := p.write()
	p.mustOrder("w2", "switchover", group, "--yes")
	p.writesOn(w, "standby")
	w.Stop()
	acks := w.Acks()
	if lost := dbtest.Lost(acks, p.db["standby"].Stored(t)); len(lost) > 0 {
		t.Errorf("%d of %d acknowledged writes are lost, among them %+v", len(lost), len(acks), lost[0])
	}
	gap, _ := dbtest.Gap(acks)
	o := p.history("w1")[0]
	t.Logf("%d acknowledged writes; longest gap %s; %s", len(acks), gap.Round(time.Millisecond), outputs(&o))
	if o.Result != "done" || o.AtRisk.Bytes == nil || *o.AtRisk.Bytes != 0 || !o.AtRisk.BytesExact {
		t.Errorf("%s", shown(o))
	}
	if d := databaseOf(p.status("w1"), "main"); d.Role != "primary" || d.Kind != "postgres" {
		t.Errorf("main's database: %s", shown(d))
	}
}

// outputs is how long each step took and what its driver said.
func outputs(w *client.Switchover) (text string) {
	for _, s := range w.Steps {
		if s.StartedAt != nil && s.EndedAt != nil {
			text += fmt.Sprintf("\n  %-17s %-8s %6.1f ms  %s %s", s.Name, s.State, s.EndedAt.Sub(s.StartedAt.Time).Seconds()*1000, s.Output, s.Error)
		}
	}
	return text
}

func databaseOf(s *client.Status, app string) client.Database {
	if d := appOf(&s.Groups[0], app).Database; d != nil {
		return *d
	}
	return client.Database{}
}

// A main that dies with its database: the standby takes over, what is at risk is told before and never too low, and the old
// main is frozen each time that it comes back writable.
func TestServersPostgresMainDies(t *testing.T) {
	t.Parallel()
	p := newPostgresPair(t, settings{})
	w := p.write()
	began := time.Now()
	p.killMachine("main")
	p.writesOn(w, "standby")
	w.Stop()
	acks := w.Acks()
	p.waitEnded(1)
	o := p.history("w1")[0]
	lost := dbtest.Lost(acks, p.db["standby"].Stored(t))
	gap, _ := dbtest.Gap(acks)
	t.Logf("%d acknowledged writes, %d lost; longest gap %s; at risk %s; %s", len(acks), len(lost), gap.Round(time.Millisecond), shown(o.AtRisk), outputs(&o))
	if o.Kind != "failover" || o.AtRisk.Seconds == nil {
		t.Fatalf("%s", shown(o))
	}
	if len(lost) > 0 && began.Sub(lost[0].At).Seconds() > *o.AtRisk.Seconds {
		t.Errorf("%s of writes were lost, %.3f s were said to be at risk", began.Sub(lost[0].At), *o.AtRisk.Seconds)
	}
	for round := 1; round <= 2; round++ {
		p.db["main"].Start(t)
		if round > 1 {
			p.db["main"].Exec(t, "ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")
		}
		back := time.Now()
		p.startApp("main", true)
		p.frozenBy(t, "main")
		t.Logf("round %d: frozen after %s", round, time.Since(back).Round(time.Millisecond))
		p.onAll("main in maintenance", func(_ *client.Status, g *client.Group) bool { return appOf(g, "main").Maintenance == "on" })
		p.killMachine("main")
		p.onAll("main gone", func(_ *client.Status, g *client.Group) bool { return appOf(g, "main").Health == "down" })
	}
	if d := databaseOf(p.status("w1"), "standby"); d.Role != "primary" {
		t.Errorf("standby's database: %s", shown(d))
	}
}

// frozenBy waits until a database refuses its clients' writes.
func (p *postgresPair) frozenBy(t *testing.T, app string) {
	t.Helper()
	dbtest.Until(t, app+" is frozen", func() bool {
		return p.db[app].Query(t, "SELECT current_setting('default_transaction_read_only')") == "on"
	})
	if err := p.insert(app); err == nil {
		t.Errorf("%s takes a write though it is frozen", app)
	}
}

// insert writes a row as a client of the app.
func (p *postgresPair) insert(app string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	s, err := dbtest.PostgresSession(ctx, p.db[app].AppDSN())
	if err != nil {
		return err
	}
	defer s.Close()
	return s.Write(ctx, time.Now().UnixNano())
}

// The app dies and its database lives: it is frozen and caught up with, and nothing is lost.
func TestServersPostgresMainAppDies(t *testing.T) {
	t.Parallel()
	p := newPostgresPair(t, settings{})
	w := p.write()
	p.killApp("main")
	p.writesOn(w, "standby")
	w.Stop()
	p.waitEnded(1)
	o := p.history("w1")[0]
	t.Logf("%s", outputs(&o))
	if lost := dbtest.Lost(w.Acks(), p.db["standby"].Stored(t)); len(lost) > 0 {
		t.Errorf("%d acknowledged writes are lost, among them %+v", len(lost), lost[0])
	}
	if o.AtRisk.Bytes == nil || *o.AtRisk.Bytes != 0 || !o.AtRisk.BytesExact {
		t.Errorf("at risk: %s", shown(o.AtRisk))
	}
	p.frozenBy(t, "main")
}

// A main that hangs, its database too, takes connections and answers nothing. When it goes on it is frozen before anything
// else of it counts.
func TestServersPostgresMainHangs(t *testing.T) {
	t.Parallel()
	p := newPostgresPair(t, settings{})
	w := p.write()
	p.db["main"].Freeze()
	p.apps["main"].signal(t, syscall.SIGSTOP)
	p.writesOn(w, "standby")
	w.Stop()
	p.waitEnded(1)
	o := p.history("w1")[0]
	t.Logf("at risk %s; %s", shown(o.AtRisk), outputs(&o))
	if !appOf(&p.status("w1").Groups[0], "main").Marked {
		t.Error("main is not marked")
	}
	p.db["main"].Thaw()
	p.apps["main"].signal(t, syscall.SIGCONT)
	p.frozenBy(t, "main")
	if n := len(p.history("w1")); n != 1 {
		t.Errorf("%d switchovers, want 1", n)
	}
}

// A planned switchover whose replica cannot catch up is taken back: main takes writes, and both servers' settings are byte for
// byte what they were.
func TestServersPostgresUndo(t *testing.T) {
	t.Parallel()
	p := newPostgresPair(t, settings{only: map[string]string{"catch-up": "timeout: 3s, tries: 1"}, rehearse: "0s"}) // a rehearsal would find the pause
	p.db["main"].Exec(t, "ALTER SYSTEM SET default_transaction_read_only = 'no'", "ALTER SYSTEM SET work_mem = '5MB'")
	p.db["standby"].Exec(t, "SELECT pg_wal_replay_pause()")
	before := p.db["main"].AutoConf(t) + p.db["standby"].AutoConf(t)
	w := p.write()
	exit, output := p.order("w1", "switchover", group, "--yes")
	if exit != 1 || !strings.Contains(output, "cannot catch up to") {
		t.Fatalf("exit %d: %s", exit, output)
	}
	t.Logf("%s", output)
	p.writesOn(w, "main")
	w.Stop()
	// What was set before us comes back as it was, the order of the lines apart: ALTER SYSTEM writes the last change last.
	if after := p.db["main"].AutoConf(t) + p.db["standby"].AutoConf(t); sortedLines(after) != sortedLines(before) {
		t.Errorf("settings after the undo:\n%s\nbefore:\n%s", after, before)
	}
	if lost := dbtest.Lost(w.Acks(), p.db["main"].Stored(t)); len(lost) > 0 {
		t.Errorf("%d acknowledged writes are lost", len(lost))
	}
}

// A standby whose receiver stopped long ago is not promoted, whatever it says of its lag; the blocker says so, and a person may
// still decide otherwise, after having been shown what that means.
func TestServersPostgresReceiverStoppedLongAgo(t *testing.T) {
	t.Parallel()
	p := newPostgresPair(t, settings{})
	p.db["standby"].Exec(t, "ALTER SYSTEM SET primary_conninfo = 'host=/nonexistent'", "SELECT pg_reload_conf()")
	p.onAll("the standby does not stream", func(_ *client.Status, g *client.Group) bool {
		return slices.ContainsFunc(appOf(g, "standby").NotReady, func(b client.Reason) bool { return b.Code == "not_streaming" })
	})
	// Longer than the outage's own first signs may take to be seen: two intervals, a timeout and three failing probes.
	during(t, 6*time.Second, "the standby does not stream", func() (bool, any) {
		s := p.status("w1")
		return s != nil && !appOf(&s.Groups[0], "standby").Ready, shown(s)
	})
	if err := p.insert("main"); err != nil {
		t.Fatal(err)
	}
	p.killMachine("main")
	p.onAll("main is down and nothing is done", func(_ *client.Status, g *client.Group) bool {
		return appOf(g, "main").Health == "down" && slices.ContainsFunc(g.Automation.Blockers, func(b client.Reason) bool { return b.Code == "no_ready_target" })
	})
	during(t, 2*time.Second, "no switchover", func() (bool, any) { s := p.status("w1"); return s != nil && s.Groups[0].Epoch == 0, s })
	_, output := p.order("w1", "explain", group)
	t.Logf("%s", output)
	exit, output := p.order("w1", "switchover", group, "--yes")
	t.Logf("%s", output)
	if exit != 3 {
		t.Errorf("without force: exit %d", exit)
	}
	output = p.mustOrder("w1", "switchover", group, "--force", "--yes")
	t.Logf("%s", output)
	if err := p.insert("standby"); err != nil {
		t.Errorf("after the forced switchover: %v", err)
	}
}

func sortedLines(text string) string {
	lines := strings.Split(text, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
