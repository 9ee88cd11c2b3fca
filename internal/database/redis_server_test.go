//go:build servers

package database

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/internal/dbtest"
	"github.com/watchover-ha/watchover/pkg/failover"
)

func redisOn(t *testing.T, s *dbtest.Redis, time_ time.Duration) *redis {
	t.Helper()
	db, err := openRedis(Options{DSN: s.DSN(), PasswordFile: s.PasswordFile(t), Deadline: time.Now().Add(time_)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	db.Begin(1<<40 + 7)
	return db.(*redis)
}

// redisWriter sets keys one after the other, on a new connection after each failure.
type redisWriter struct {
	to      atomic.Pointer[dbtest.Redis]
	acked   atomic.Int64 // how many
	keys    []string     // valid when stopped is closed
	stop    context.CancelFunc
	stopped chan struct{}
}

func writeToRedis(t *testing.T, to *dbtest.Redis) *redisWriter {
	ctx, cancel := context.WithCancel(context.Background())
	w := &redisWriter{stop: cancel, stopped: make(chan struct{})}
	w.to.Store(to)
	go func() {
		defer close(w.stopped)
		var conn *dbtest.RedisConn
		for n := 0; ctx.Err() == nil; n++ {
			var err error
			if conn == nil {
				if conn, err = w.to.Load().Dial(); err != nil {
					conn = nil
					continue
				}
			}
			key := "order:" + strconv.Itoa(n)
			if _, err := conn.Do("SET", key, "1"); err != nil {
				conn.Close()
				conn = nil
				continue
			}
			w.keys = append(w.keys, key)
			w.acked.Add(1)
		}
		if conn != nil {
			conn.Close()
		}
	}()
	t.Cleanup(w.end)
	return w
}

func (w *redisWriter) end() { w.stop(); <-w.stopped }

func (w *redisWriter) wait(t *testing.T, more int64) {
	t.Helper()
	n := w.acked.Load()
	dbtest.Until(t, "writes", func() bool { return w.acked.Load() > n+more })
}

func (w *redisWriter) lost(t *testing.T, s *dbtest.Redis) (lost int) {
	t.Helper()
	conn, err := s.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, key := range w.keys {
		if value, err := conn.Do("GET", key); err != nil || value != "1" {
			lost++
		}
	}
	return lost
}

func TestRedisPlannedSwitchoverLosesNothing(t *testing.T) {
	t.Parallel()
	main, standby := dbtest.NewRedisPair(t)
	ctx := t.Context()
	writer := writeToRedis(t, main)
	writer.wait(t, 100)

	old, neu := redisOn(t, main, plenty), redisOn(t, standby, plenty)
	before, replica := observe(t, old), observe(t, neu)
	if before.Role != failover.RolePrimary || before.Frozen || before.ID == "" || before.Position == nil {
		t.Errorf("main is %+v", before)
	}
	if replica.Role != failover.RoleReplica || !replica.Streaming || replica.ID != before.ID || replica.Position == nil {
		t.Errorf("standby is %+v", replica)
	}
	done(t, "freeze", func() (string, error) { return old.Freeze(ctx) })
	if seen := observe(t, old); seen.Role != failover.RolePrimary || !seen.Frozen {
		t.Errorf("frozen main is %+v", seen)
	}
	position, err := old.Position(ctx)
	if err != nil {
		t.Fatal(err)
	}
	done(t, "catch up", func() (string, error) { return neu.CatchUp(ctx, position) })
	if found, err := neu.Found(ctx, failover.StepStopReplication); err != nil || found != "source="+main.Address() {
		t.Errorf("found %q, %v", found, err)
	}
	done(t, "stop", func() (string, error) { return neu.StopReplication(ctx) })
	if seen := observe(t, neu); seen.Role != failover.RoleReplica || seen.Streaming || seen.ID != before.ID {
		t.Errorf("stopped standby is %+v", seen)
	}
	done(t, "promote", func() (string, error) { return neu.Promote(ctx) })
	if seen := observe(t, neu); seen.Role != failover.RolePrimary || seen.Frozen || seen.ID == before.ID {
		t.Errorf("promoted standby is %+v", seen)
	}
	writer.to.Store(standby)
	writer.wait(t, 100)
	writer.end()
	if lost := writer.lost(t, standby); lost != 0 {
		t.Errorf("%d of %d acknowledged writes are lost", lost, len(writer.keys))
	}
	done(t, "promote again", func() (string, error) { return neu.Promote(ctx) })
	// What the promotion has written into the configuration file outlives a restart.
	standby.Kill()
	standby.Start(t)
	if role := standby.Info(t, "role"); role != "master" {
		t.Errorf("after a restart it is %s", role)
	}
}

// Nothing gets through a freeze: not a script, not a transaction that was begun before it.
func TestRedisFreezeRefusesEveryWrite(t *testing.T) {
	t.Parallel()
	for _, lag := range []string{"10", "0"} { // with 0, min-replicas-to-write has no effect
		main, standby := dbtest.NewRedisPair(t)
		main.Do(t, "CONFIG", "SET", "min-replicas-max-lag", lag)
		ours, err := main.Dial()
		if err != nil {
			t.Fatal(err)
		}
		defer ours.Close()
		for _, words := range [][]string{{"CLIENT", "SETNAME", clientName}, {"AUTH", "watchover", "watch over us all"}} {
			if _, err := ours.Do(words...); err != nil {
				t.Fatal(err)
			}
		}
		client, err := main.Dial()
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		for _, words := range [][]string{{"MULTI"}, {"SET", "queued", "1"}} {
			if _, err := client.Do(words...); err != nil {
				t.Fatal(err)
			}
		}
		db := redisOn(t, main, plenty)
		before := settingsOf(t, main)
		found, err := db.Found(t.Context(), failover.StepFreeze)
		if err != nil {
			t.Fatal(err)
		}
		done(t, "freeze", func() (string, error) { return db.Freeze(t.Context()) })
		if _, err := client.Do("EXEC"); err == nil {
			t.Error("a transaction got through, or the client's connection lives on")
		}
		if _, err := ours.Do("INFO", "server"); err != nil {
			t.Errorf("another watcher's connection was ended: %v", err)
		}
		if is := standby.Info(t, "master_link_status"); is != "up" {
			t.Errorf("the replica's link is %s", is)
		}
		for _, words := range [][]string{{"SET", "a", "1"}, {"EVAL", "return redis.call('SET', 'b', '1')", "0"}} {
			if _, err := main.Try(words...); err == nil || !strings.HasPrefix(err.Error(), "NOREPLICAS") {
				t.Errorf("%s: %v", words, err)
			}
		}
		done(t, "unfreeze", func() (string, error) { return db.Unfreeze(t.Context(), found) })
		if after := settingsOf(t, main); after != before {
			t.Errorf("settings were %s\nand are %s", before, after)
		}
		main.Do(t, "SET", "a", "1")
	}
}

// settingsOf are all settings, in order: the server tells them in another one each time.
func settingsOf(t *testing.T, s *dbtest.Redis) string {
	t.Helper()
	lines := strings.Split(s.Do(t, "CONFIG", "GET", "*"), "\n")
	pairs := make([]string, 0, len(lines)/2)
	for i := 0; i+1 < len(lines); i += 2 {
		pairs = append(pairs, lines[i]+"="+lines[i+1])
	}
	slices.Sort(pairs)
	return strings.Join(pairs, " ")
}

func TestRedisUndoPutsBackWhatWasThere(t *testing.T) {
	t.Parallel()
	main, standby := dbtest.NewRedisPair(t)
	ctx := t.Context()
	main.Do(t, "CONFIG", "SET", "min-replicas-to-write", "1")
	before := settingsOf(t, main)
	db := redisOn(t, main, plenty)
	found, err := db.Found(ctx, failover.StepFreeze)
	if err != nil || found != "min-replicas-to-write=1 min-replicas-max-lag=10" {
		t.Errorf("found %q, %v", found, err)
	}
	done(t, "freeze", func() (string, error) { return db.Freeze(ctx) })
	done(t, "unfreeze", func() (string, error) { return db.Unfreeze(ctx, found) })
	if after := settingsOf(t, main); after != before {
		t.Errorf("settings were %s\nand are %s", before, after)
	}
	refused(t, "foreign setting", "not a setting that a freeze changes", func() (string, error) { return db.Unfreeze(ctx, "maxmemory=1") })
	main.Do(t, "CONFIG", "SET", "min-replicas-to-write", "2")
	done(t, "unfreeze without knowing", func() (string, error) { return db.Unfreeze(ctx, "") })
	if is := main.Do(t, "CONFIG", "GET", "min-replicas-to-write"); !strings.HasSuffix(is, "\n2") {
		t.Errorf("somebody else's setting was changed: %s", is)
	}
	main.Do(t, "CONFIG", "SET", "min-replicas-to-write", "0")

	replica := redisOn(t, standby, plenty)
	before = settingsOf(t, standby)
	found, err = replica.Found(ctx, failover.StepStopReplication)
	if err != nil {
		t.Fatal(err)
	}
	main.Do(t, "SET", "a", "1")
	done(t, "stop", func() (string, error) { return replica.StopReplication(ctx) })
	main.Do(t, "SET", "a", "2")
	if again, err := replica.Found(ctx, failover.StepStopReplication); err != nil || again != unknownSource {
		t.Errorf("found %q, %v", again, err)
	}
	refused(t, "resume without knowing", "REPLICAOF", func() (string, error) { return replica.ResumeReplication(ctx, unknownSource) })
	done(t, "resume", func() (string, error) { return replica.ResumeReplication(ctx, found) })
	dbtest.Until(t, "it is linked again", func() bool { return standby.Info(t, "master_link_status") == "up" })
	if after := settingsOf(t, standby); after != before {
		t.Errorf("settings were %s\nand are %s", before, after)
	}
	dbtest.Until(t, "it goes on", func() bool { return standby.Do(t, "GET", "a") == "2" })
	if n := main.Info(t, "sync_full"); n != "1" {
		t.Errorf("%s full copies: it did not go on where it was", n)
	}
}

// Hands that come late: the transaction is refused by the server itself.
func TestRedisRefusesLateHands(t *testing.T) {
	t.Parallel()
	main, standby := dbtest.NewRedisPair(t)
	ctx := t.Context()
	frozen := dbtest.NewRedis(t)
	frozen.Do(t, "CONFIG", "SET", "min-replicas-to-write", strconv.Itoa(needReplicas))
	for name, server := range map[string]*dbtest.Redis{"primary": main, "replica": standby, "frozen primary": frozen} {
		before := settingsOf(t, server)
		db := redisOn(t, server, plenty)
		s, err := db.state(ctx)
		if err != nil {
			t.Fatal(err)
		}
		clock := strings.Fields(server.Do(t, "TIME"))
		seconds, _ := strconv.ParseInt(clock[0], 10, 64)
		micros, _ := strconv.ParseInt(clock[1], 10, 64)
		db.late = seconds*1000 + micros/1000 + 200
		if made, err := db.watchClock(ctx, s); err != nil || !made {
			t.Fatalf("%s: %t, %v", name, made, err)
		}
		dbtest.Until(t, "the deadline has come", func() bool {
			now := strings.Fields(server.Do(t, "TIME"))
			seconds, _ := strconv.ParseInt(now[0], 10, 64)
			micros, _ := strconv.ParseInt(now[1], 10, 64)
			return seconds*1000+micros/1000 > db.late
		})
		if _, err := db.transaction(ctx, [][]string{{"CONFIG", "SET", "min-replicas-to-write", "7"}}); err != errTooLate {
			t.Errorf("%s: late by the server's clock: %v", name, err)
		}
		if err := db.act(ctx, s, []string{"CONFIG", "SET", "min-replicas-to-write", "7"}); err != errTooLate {
			t.Errorf("%s: begun late by the server's clock: %v", name, err)
		}
		if after := settingsOf(t, server); after != before {
			t.Errorf("%s: settings were %s\nand are %s", name, before, after)
		}
		over := redisOn(t, server, -time.Second)
		refused(t, name, errTooLate.Error(), func() (string, error) { return over.Freeze(ctx) })
	}
	unbegun := redisOn(t, standby, plenty)
	unbegun.token = 0
	refused(t, "without a token", errNotBegun.Error(), func() (string, error) { return unbegun.Promote(ctx) })
	dbtest.Until(t, "nothing of the keys is left", func() bool {
		return standby.Do(t, "DBSIZE") == "0" && main.Do(t, "DBSIZE") == "0"
	})
}

func TestRedisFullServerIsAlive(t *testing.T) {
	t.Parallel()
	s := dbtest.NewRedis(t, "maxclients 10")
	o := Options{DSN: s.DSN(), PasswordFile: s.PasswordFile(t)}
	if err := pingRedis(t.Context(), o); err != nil {
		t.Errorf("a free server: %v", err)
	}
	for range 12 {
		if conn, err := s.Dial(); err == nil {
			defer conn.Close()
			_, _ = conn.Do("PING")
		}
	}
	if _, err := redisOn(t, s, plenty).Observe(t.Context()); err == nil {
		t.Error("the server is not full")
	}
	if err := pingRedis(t.Context(), o); err != nil {
		t.Errorf("a full server: %v", err)
	}
	s.Freeze()
	defer s.Thaw()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := pingRedis(ctx, o); err == nil {
		t.Error("a server that hangs is alive")
	}
}

func TestRedisWrongPassword(t *testing.T) {
	t.Parallel()
	s := dbtest.NewRedis(t)
	s.Do(t, "ACL", "SETUSER", "watchover", "resetpass", ">another")
	err := pingRedis(t.Context(), Options{DSN: s.DSN(), PasswordFile: s.PasswordFile(t)})
	if err == nil || !strings.Contains(err.Error(), "WRONGPASS") || strings.Contains(err.Error(), "us all") {
		t.Errorf("got %v", err)
	}
}

// A server that does not know AUTH repeats what it was given.
func TestRedisKeepsThePasswordOutOfErrors(t *testing.T) {
	t.Parallel()
	s := dbtest.NewRedis(t, `rename-command AUTH ""`)
	err := pingRedis(t.Context(), Options{DSN: s.DSN(), PasswordFile: s.PasswordFile(t)})
	if err == nil || err.Error() != "cannot log in: ERR (what follows is not shown: it may repeat the password)" {
		t.Errorf("got %v", err)
	}
}

func TestRedisConnectionIsNeverReplaced(t *testing.T) {
	t.Parallel()
	s := dbtest.NewRedis(t)
	db := redisOn(t, s, plenty)
	observe(t, db)
	s.Do(t, "CLIENT", "KILL", "USER", "watchover")
	for range 2 {
		refused(t, "freeze", "", func() (string, error) { return db.Freeze(t.Context()) })
	}
	s.Do(t, "SET", "a", "1")
}

func TestRedisReplicaThatCannotCatchUp(t *testing.T) {
	t.Parallel()
	main, standby := dbtest.NewRedisPair(t)
	db := redisOn(t, standby, plenty)
	main.Freeze()
	old := observe(t, db)
	for what, position := range map[string]string{
		"more of the history": fmt.Sprintf("%s:%d", old.ID, *old.Position+1000),
		"another history":     "0123456789012345678901234567890123456789:1",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		refused(t, what, "the time is over", func() (string, error) { return db.CatchUp(ctx, position) })
		cancel()
	}
	main.Thaw()
	refused(t, "nonsense", "not a position", func() (string, error) { return db.CatchUp(t.Context(), "x") })
}

// A server that came back without its data must not pass for the one that it was, nor a replica of somebody else's.
func TestRedisEmptyAndForeignServers(t *testing.T) {
	t.Parallel()
	main := dbtest.NewRedis(t, "appendonly no")
	standby := dbtest.NewRedis(t)
	standby.Follow(t, main)
	old := observe(t, redisOn(t, standby, plenty))
	standby.Do(t, "REPLICAOF", "127.0.0.1", "0")
	main.Kill()
	main.Start(t)
	if seen := observe(t, redisOn(t, main, plenty)); seen.ID == old.ID || seen.Role != failover.RolePrimary {
		t.Errorf("empty: %+v", seen)
	}
	if seen := observe(t, redisOn(t, standby, plenty)); seen.ID != old.ID {
		t.Errorf("stopped replica: %+v", seen)
	}
	standby.Follow(t, main)
	if seen := observe(t, redisOn(t, standby, plenty)); seen.ID == old.ID {
		t.Errorf("copied anew: %+v", seen)
	}
}

// A promotion that takes no writes is none, and a freeze that an old main has kept is lifted by it.
func TestRedisPromotionTakesWrites(t *testing.T) {
	t.Parallel()
	main, standby := dbtest.NewRedisPair(t)
	ctx := t.Context()
	main.Kill()
	db := redisOn(t, standby, plenty)
	done(t, "stop", func() (string, error) { return db.StopReplication(ctx) })
	standby.Do(t, "CONFIG", "SET", "min-replicas-to-write", "1")
	refused(t, "promote", "takes no writes: SET: NOREPLICAS", func() (string, error) { return db.Promote(ctx) })
	standby.Do(t, "CONFIG", "SET", "min-replicas-to-write", strconv.Itoa(needReplicas))
	done(t, "promote", func() (string, error) { return db.Promote(ctx) })
	standby.Do(t, "SET", "a", "1")

	// The old one comes back as a writable primary of the old history.
	main.Start(t)
	back := redisOn(t, main, plenty)
	if seen := observe(t, back); seen.Role != failover.RolePrimary || seen.Frozen || seen.ID == observe(t, db).ID {
		t.Errorf("back: %+v", seen)
	}
	done(t, "freeze", func() (string, error) { return back.Freeze(ctx) })
}

// A full memory takes no key to tell the time by; it goes on without.
func TestRedisActsWithFullMemory(t *testing.T) {
	t.Parallel()
	_, standby := dbtest.NewRedisPair(t)
	standby.Do(t, "CONFIG", "SET", "maxmemory", "1")
	db := redisOn(t, standby, plenty)
	done(t, "stop", func() (string, error) { return db.StopReplication(t.Context()) })
	if is := standby.Info(t, "master_port"); is != "0" {
		t.Errorf("it follows port %s", is)
	}
}

// The configuration file is written with the promotion itself, and one that cannot be written does not fail it.
func TestRedisPromotionWritesItsFile(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, want string
		rules      []string
		spoil      func(*dbtest.Redis) error
	}{
		{"well", "its configuration file is written", nil, nil},
		{"may not", "could not be written, remove replicaof from it: CONFIG: NOPERM", []string{"-config|rewrite"}, nil},
		{"no file", "could not be written, remove replicaof from it: CONFIG: ERR", nil, func(s *dbtest.Redis) error {
			file := s.Dir + "/redis.conf"
			return errors.Join(os.Remove(file), os.Mkdir(file, 0o700))
		}},
	} {
		_, standby := dbtest.NewRedisPair(t)
		if tc.rules != nil {
			standby.Do(t, append([]string{"ACL", "SETUSER", "watchover"}, tc.rules...)...)
		}
		if tc.spoil != nil {
			if err := tc.spoil(standby); err != nil {
				t.Fatal(err)
			}
		}
		db := redisOn(t, standby, plenty)
		s, err := db.state(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		wrote, err := db.andRewrite(t.Context(), s, [][]string{{"REPLICAOF", "NO", "ONE"}})
		if err != nil || !strings.Contains(wrote, tc.want) {
			t.Errorf("%s: %q, %v", tc.name, wrote, err)
		}
		if role := standby.Info(t, "role"); role != "master" {
			t.Errorf("%s: it is a %s", tc.name, role)
		}
		done(t, tc.name+": promote", func() (string, error) { return redisOn(t, standby, plenty).Promote(t.Context()) })
	}
}

// A replica without replica-serve-stale-data takes no key either once its primary is gone.
func TestRedisActsWithoutStaleData(t *testing.T) {
	t.Parallel()
	main, standby := dbtest.NewRedisPair(t, "replica-serve-stale-data no")
	main.Kill()
	dbtest.Until(t, "the link is down", func() bool { return standby.Info(t, "master_link_status") == "down" })
	if seen := observe(t, redisOn(t, standby, plenty)); seen.Role != failover.RoleReplica || seen.Streaming || seen.Position == nil {
		t.Errorf("%+v", seen)
	}
	db := redisOn(t, standby, plenty)
	found, err := db.Found(t.Context(), failover.StepStopReplication)
	if err != nil {
		t.Fatal(err)
	}
	done(t, "stop", func() (string, error) { return db.StopReplication(t.Context()) })
	done(t, "resume", func() (string, error) { return db.ResumeReplication(t.Context(), found) })
	done(t, "stop", func() (string, error) { return db.StopReplication(t.Context()) })
	done(t, "promote", func() (string, error) { return db.Promote(t.Context()) })
	if db.soured {
		t.Error("the session counts as broken")
	}
}
