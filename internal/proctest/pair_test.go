//go:build servers

package proctest

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/internal/dbtest"
	"github.com/watchover-ha/watchover/pkg/client"
)

// server is a real database server, whatever its kind.
type server interface {
	DSN() string
	PasswordFile(dbtest.TB) string
	Start(dbtest.TB)
	Kill()
	Freeze()
	Thaw()
	Stored(dbtest.TB) map[int64]bool
}

// serverPair is a cluster of watchers whose databases are a server and its replica, and what a client of them needs.
type serverPair struct {
	*cluster
	db      map[string]server // by app
	client  map[string]string // by app: what session connects to
	session func(context.Context, string) (dbtest.Session, error)
	frozen  func(app string) bool // as the server itself tells it
	every   string                // rehearse_every; default 10m
}

func (p *serverPair) begin(t *testing.T, kind string, only map[string]string) {
	t.Helper()
	s := settings{databases: map[string]string{}, only: only, cooldown: "1s", rehearse: p.every, steps: "timeout: 10s, tries: 3, backoff: 200ms"}
	for app, db := range p.db {
		s.databases[app] = fmt.Sprintf("          kind: %s\n          dsn: %q\n          password_file: %s\n", kind, db.DSN(), db.PasswordFile(t))
	}
	p.cluster = newCluster(t, s)
}

// write begins to write where the record says.
func (p *serverPair) write() *dbtest.Writer {
	p.t.Helper()
	where := func() string {
		a, err := p.ask("w1")
		for app, address := range addresses {
			if err == nil && a.address == address {
				return p.client[app]
			}
		}
		return ""
	}
	w := dbtest.StartWriter(where, p.session)
	p.t.Cleanup(w.Stop)
	eventually(p.t, "the client writes", func() (bool, any) { return len(w.Acks()) > 50, len(w.Acks()) })
	return w
}

func (p *serverPair) writesOn(w *dbtest.Writer, app string) {
	p.t.Helper()
	eventually(p.t, "the client writes to "+app, func() (bool, any) {
		acks := w.Acks()
		last := acks[len(acks)-1]
		return last.Server == p.client[app] && time.Since(last.At) < time.Second, last
	})
}

// moved waits for the end of the switchover that moved the group to an app; one before it may have been undone.
func (p *serverPair) moved(to string) (last client.Switchover) {
	p.t.Helper()
	eventually(p.t, "the group is moved to "+to, func() (bool, any) {
		all := p.history("w1")
		if len(all) == 0 {
			return false, nil
		}
		last = all[0]
		return last.To == to && strings.HasPrefix(last.Result, "done"), last
	})
	return last
}

// movesAndReturns is a planned switchover under load, the old primary made a replica, and the way back. Every acknowledged
// write is on the last primary.
func (p *serverPair) movesAndReturns() {
	p.t.Helper()
	w := p.write()
	from := "main"
	for _, to := range []string{"standby", "main"} {
		p.mustOrder("w2", "switchover", group, "--yes")
		p.writesOn(w, to)
		if !p.frozen(from) {
			p.t.Errorf("%s takes writes after the switchover", from)
		}
		o := p.moved(to)
		gap, _ := dbtest.Gap(w.Acks())
		p.t.Logf("%d acknowledged writes; longest gap %s; %s", len(w.Acks()), gap.Round(time.Millisecond), outputs(&o))
		if o.Result != "done" || o.AtRisk.Bytes == nil || *o.AtRisk.Bytes != 0 || !o.AtRisk.BytesExact {
			p.t.Errorf("%s", shown(o))
		}
		p.mustOrder("w3", "reprotect", group)
		p.waitReady(from)
		from = to
	}
	w.Stop()
	if lost := dbtest.Lost(w.Acks(), p.db["main"].Stored(p.t)); len(lost) > 0 {
		p.t.Errorf("%d of %d acknowledged writes are lost, among them %+v", len(lost), len(w.Acks()), lost[0])
	}
}

// failsOver kills the active app with its database under load; when they come back open, they are fenced.
func (p *serverPair) failsOver() {
	p.t.Helper()
	w := p.write()
	killed := time.Now()
	p.db["main"].Kill()
	p.killApp("main")
	p.writesOn(w, "standby")
	w.Stop()
	o := p.moved("standby")
	lost := dbtest.Lost(w.Acks(), p.db["standby"].Stored(p.t))
	p.t.Logf("%d acknowledged writes, %d lost; at risk %s; %s", len(w.Acks()), len(lost), shown(o.AtRisk), outputs(&o))
	if len(lost) > 0 && (o.AtRisk.Seconds == nil || killed.Sub(lost[0].At).Seconds() > *o.AtRisk.Seconds) {
		p.t.Errorf("the first lost write is from %s before the outage, at risk was said to be %s", killed.Sub(lost[0].At), shown(o.AtRisk))
	}
	for range 2 { // a reboot washes no mark off
		p.db["main"].Start(p.t)
		p.startApp("main", true)
		eventually(p.t, "main's database is frozen", func() (bool, any) { return p.frozen("main"), nil })
		eventually(p.t, "main is in maintenance", func() (bool, any) {
			a := appOf(&p.status("w1").Groups[0], "main")
			return a.Maintenance == "on" && a.Marked, shown(a)
		})
		p.db["main"].Kill()
		p.killApp("main")
	}
	if p.frozen("standby") {
		p.t.Error("the new primary was frozen")
	}
}

// mainAppDies: the app is gone, its database lives. It is frozen and caught up with, and nothing is lost.
func (p *serverPair) mainAppDies() {
	p.t.Helper()
	w := p.write()
	p.killApp("main")
	p.writesOn(w, "standby")
	w.Stop()
	o := p.moved("standby")
	p.t.Logf("%s", outputs(&o))
	if lost := dbtest.Lost(w.Acks(), p.db["standby"].Stored(p.t)); len(lost) > 0 {
		p.t.Errorf("%d acknowledged writes are lost, among them %+v", len(lost), lost[0])
	}
	if o.AtRisk.Bytes == nil || *o.AtRisk.Bytes != 0 || !o.AtRisk.BytesExact {
		p.t.Errorf("at risk: %s", shown(o.AtRisk))
	}
	if !p.frozen("main") {
		p.t.Error("main takes writes")
	}
}

// mainHangs: app and database take connections and answer nothing. When they go on they are fenced.
func (p *serverPair) mainHangs() {
	p.t.Helper()
	w := p.write()
	p.db["main"].Freeze()
	p.apps["main"].signal(p.t, syscall.SIGSTOP)
	p.writesOn(w, "standby")
	w.Stop()
	o := p.moved("standby")
	if !appOf(&p.status("w1").Groups[0], "main").Marked {
		p.t.Error("main is not marked")
	}
	p.t.Logf("at risk %s; %s", shown(o.AtRisk), outputs(&o))
	p.db["main"].Thaw()
	p.apps["main"].signal(p.t, syscall.SIGCONT)
	eventually(p.t, "main's database is frozen", func() (bool, any) { return p.frozen("main"), nil })
	if p.frozen("standby") {
		p.t.Error("the new primary was frozen")
	}
}
