//go:build servers

package proctest

import (
	"fmt"
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
	main, standby := dbtest.NewPostgresPair(t)
	p := &postgresPair{db: map[string]*dbtest.Postgres{"main": main, "standby": standby}}
	s.databases = map[string]string{}
	for app, db := range p.db {
		s.databases[app] = fmt.Sprintf("          kind: postgres\n          dsn: %q\n          password_file: %s\n", db.DSN(), db.PasswordFile(t))
	}
	s.steps = orElse(s.steps, "timeout: 10s, tries: 3, backoff: 200ms")
	p.cluster = newCluster(t, s)
	return p
}

// write begins to write where the record says.
func (p *postgresPair) write() *dbtest.Writer {
	p.t.Helper()
	where := func() string {
		a, err := p.ask("w1")
		if err != nil {
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
