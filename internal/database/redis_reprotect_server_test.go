//go:build servers

package database

import (
	"strings"
	"testing"

	"github.com/watchover-ha/watchover/internal/dbtest"
	"github.com/watchover-ha/watchover/pkg/failover"
)

func TestRedisReprotect(t *testing.T) {
	t.Parallel()
	main, standby := dbtest.NewRedisPair(t)
	ctx := t.Context()
	old, neu := redisOn(t, main, plenty), redisOn(t, standby, plenty)
	main.Do(t, "SET", "a", "1")
	done(t, "freeze", func() (string, error) { return old.Freeze(ctx) })
	position, err := old.Position(ctx)
	if err != nil {
		t.Fatal(err)
	}
	done(t, "catch up", func() (string, error) { return neu.CatchUp(ctx, position) })
	done(t, "stop", func() (string, error) { return neu.StopReplication(ctx) })
	done(t, "promote", func() (string, error) { return neu.Promote(ctx) })
	standby.Do(t, "SET", "a", "2")
	if lost, err := old.Lost(ctx, historyOf(t, neu)); err != nil || lost != "" {
		t.Fatalf("lost %q, %v", lost, err)
	}
	done(t, "follow", func() (string, error) {
		return old.Follow(ctx, failover.Database{DSN: standby.DSN(), PasswordEnv: inVariable(t, standby.PasswordFile(t))})
	})
	dbtest.Until(t, "it is a replica in step", func() bool {
		seen, err := old.Observe(ctx)
		return err == nil && seen.Role == failover.RoleReplica && seen.Streaming && main.Do(t, "GET", "a") == "2"
	})
	if n := standby.Info(t, "sync_full"); n != "0" {
		t.Errorf("%s full copies, though nothing was lost", n)
	}
	main.Kill()
	main.Start(t)
	if role := main.Info(t, "role"); role != "slave" {
		t.Errorf("after a restart it is %s", role)
	}
}

// What only the old primary has written would vanish with the copy: it is named.
func TestRedisReprotectNamesWhatIsLost(t *testing.T) {
	t.Parallel()
	main, standby := dbtest.NewRedisPair(t)
	ctx := t.Context()
	neu := redisOn(t, standby, plenty)
	done(t, "stop", func() (string, error) { return neu.StopReplication(ctx) })
	main.Do(t, "SET", "a", "1")
	done(t, "promote", func() (string, error) { return neu.Promote(ctx) })
	history := historyOf(t, neu)
	lost, err := redisOn(t, main, plenty).Lost(ctx, history)
	if err != nil || !strings.Contains(lost, "bytes of its log") {
		t.Errorf("lost %q, %v", lost, err)
	}
	main.Kill()
	main.Start(t)
	lost, err = redisOn(t, main, plenty).Lost(ctx, history)
	if err != nil || !strings.Contains(lost, "none that the new primary has had") {
		t.Errorf("after a restart: lost %q, %v", lost, err)
	}
	done(t, "freeze", func() (string, error) { return neu.Freeze(ctx) })
	refused(t, "follow a frozen one", "no primary that takes writes", func() (string, error) {
		return redisOn(t, main, plenty).Follow(ctx, failover.Database{DSN: standby.DSN(), PasswordFile: standby.PasswordFile(t)})
	})
}

func TestRedisRehearsal(t *testing.T) {
	t.Parallel()
	main, standby := dbtest.NewRedisPair(t)
	for writer, server := range map[bool]*dbtest.Redis{true: main, false: standby} {
		before := settingsOf(t, server)
		for _, f := range redisOn(t, server, plenty).Rehearse(t.Context(), writer) {
			if !f.OK {
				t.Errorf("writer %t: %+v", writer, f)
			}
		}
		if after := settingsOf(t, server); after != before {
			t.Errorf("writer %t: settings were %s\nand are %s", writer, before, after)
		}
	}
	if is := standby.Info(t, "role"); is != "slave" {
		t.Errorf("the rehearsal made it a %s", is)
	}
	standby.Do(t, "CONFIG", "SET", "min-replicas-to-write", "2")
	standby.Do(t, "ACL", "SETUSER", "watchover", "-replicaof", "-watch", "-del", "-exec")
	var told []string
	for _, f := range redisOn(t, standby, plenty).Rehearse(t.Context(), false) {
		if !f.OK && f.Certain {
			told = append(told, f.Check+": "+f.Detail)
		}
	}
	want := "settings: min-replicas-to-write is 2: as a primary with 0 replicas it would take no writes | privileges: may not REPLICAOF NO, DEL watchover:0, WATCH watchover:0, EXEC"
	if got := strings.Join(told, " | "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Without MULTI each command of the plan would be done for real, REPLICAOF NO ONE among them.
func TestRedisWithoutTransactionsIsLeftAlone(t *testing.T) {
	t.Parallel()
	_, standby := dbtest.NewRedisPair(t)
	standby.Do(t, "ACL", "SETUSER", "watchover", "-multi")
	before := settingsOf(t, standby)
	db := redisOn(t, standby, plenty)
	found := db.rehearsePrivilegesOf(t)
	if found.OK || !found.Certain || !strings.HasPrefix(found.Detail, "cannot begin a transaction: MULTI: NOPERM") || !db.soured {
		t.Errorf("%+v, soured %t", found, db.soured)
	}
	for what, act := range map[string]func() (string, error){
		"stop":    func() (string, error) { return redisOn(t, standby, plenty).StopReplication(t.Context()) },
		"promote": func() (string, error) { return redisOn(t, standby, plenty).Promote(t.Context()) },
		"freeze":  func() (string, error) { return redisOn(t, standby, plenty).Freeze(t.Context()) },
	} {
		refused(t, what, "cannot begin a transaction", act)
	}
	if is := standby.Info(t, "role") + " " + standby.Info(t, "master_link_status"); is != "slave up" {
		t.Errorf("it is %s", is)
	}
	if after := settingsOf(t, standby); after != before {
		t.Errorf("settings were %s\nand are %s", before, after)
	}
	if n := standby.Do(t, "DBSIZE"); n != "0" {
		t.Errorf("%s keys", n)
	}
}

// rehearsePrivilegesOf is the last thing that a rehearsal finds.
func (r *redis) rehearsePrivilegesOf(t *testing.T) failover.Finding {
	t.Helper()
	found := r.Rehearse(t.Context(), false)
	return found[len(found)-1]
}

func TestRedisRehearsalNamesRenamedCommands(t *testing.T) {
	t.Parallel()
	s := dbtest.NewRedis(t, "rename-command CONFIG \"\"", "rename-command REPLICAOF \"\"")
	db := redisOn(t, s, plenty)
	if err := db.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	f := db.rehearsePrivileges(t.Context())
	if f.OK || !f.Certain || f.Detail != "may not CONFIG GET, CONFIG SET, CONFIG REWRITE, REPLICAOF NO" {
		t.Errorf("%+v", f)
	}
}
