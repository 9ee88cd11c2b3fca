//go:build servers

package database

import (
	"context"
	"database/sql"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/internal/dbtest"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// mysqlOn opens the driver for one attempt.
func mysqlOn(t *testing.T, m *dbtest.MariaDB, time_ time.Duration) *mysql {
	t.Helper()
	db, err := openMySQL(Options{DSN: m.DSN(), PasswordFile: m.PasswordFile(t), Deadline: time.Now().Add(time_)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	db.Begin(1<<40 + 7)
	return db.(*mysql)
}

// mysqlWriter writes orders one after the other, on a new connection after each failure, as an application does.
type mysqlWriter struct {
	mu      sync.Mutex // guards acknowledged
	acked   map[int64]bool
	stop    context.CancelFunc
	stopped chan struct{}
}

func writeTo(t *testing.T, db func() *sql.DB) *mysqlWriter {
	ctx, cancel := context.WithCancel(context.Background())
	w := &mysqlWriter{acked: map[int64]bool{}, stop: cancel, stopped: make(chan struct{})}
	go func() {
		defer close(w.stopped)
		for id := int64(1); ctx.Err() == nil; id++ {
			short, cancel := context.WithTimeout(ctx, time.Second)
			_, err := db().ExecContext(short, "INSERT INTO orders VALUES (?)", id)
			cancel()
			if err == nil {
				w.mu.Lock()
				w.acked[id] = true
				w.mu.Unlock()
			}
		}
	}()
	t.Cleanup(w.end)
	return w
}

func (w *mysqlWriter) end() { w.stop(); <-w.stopped }

func (w *mysqlWriter) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.acked)
}

// lost counts acknowledged writes that a server has not.
func (w *mysqlWriter) lost(t *testing.T, m *dbtest.MariaDB) (lost int) {
	t.Helper()
	rows, err := m.User(t, "app", "app", "shop").Query("SELECT id FROM orders")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	has := map[int64]bool{}
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		has[id] = true
	}
	for id := range w.acked {
		if !has[id] {
			lost++
		}
	}
	return lost
}

func observe(t *testing.T, db Driver) failover.Observation {
	t.Helper()
	seen, err := db.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

// done runs one act of a driver and fails the test if it fails.
func done(t *testing.T, what string, act func() (string, error)) string {
	t.Helper()
	output, err := act()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return output
}

func refused(t *testing.T, what, why string, act func() (string, error)) {
	t.Helper()
	output, err := act()
	if err == nil || !strings.Contains(err.Error(), why) {
		t.Fatalf("%s: %q, %v; want an error with %q", what, output, err, why)
	}
}

const plenty = 30 * time.Second

func TestMySQLPlannedSwitchoverLosesNothing(t *testing.T) {
	t.Parallel()
	main, standby := dbtest.NewMariaDBPair(t)
	ctx := t.Context()
	to := main
	var mu sync.Mutex
	clients := map[*dbtest.MariaDB]*sql.DB{main: main.User(t, "app", "app", "shop"), standby: standby.User(t, "app", "app", "shop")}
	writer := writeTo(t, func() *sql.DB { mu.Lock(); defer mu.Unlock(); return clients[to] })
	dbtest.Until(t, "some writes", func() bool { return writer.count() > 100 })

	old, neu := mysqlOn(t, main, plenty), mysqlOn(t, standby, plenty)
	before := observe(t, old)
	if before.Role != failover.RolePrimary || before.Frozen || before.ID != "server 1" || before.Position == nil {
		t.Errorf("main is %+v", before)
	}
	if seen := observe(t, neu); seen.Role != failover.RoleReplica || !seen.Streaming || seen.ID != "server 1" || seen.Position == nil {
		t.Errorf("standby is %+v", seen)
	}
	if found, err := old.Found(ctx, failover.StepFreeze); err != nil || found != "read_only=0" {
		t.Errorf("found %q, %v", found, err)
	}
	done(t, "freeze", func() (string, error) { return old.Freeze(ctx) })
	if seen := observe(t, old); seen.Role != failover.RolePrimary || !seen.Frozen {
		t.Errorf("frozen main is %+v", seen)
	}
	position, err := old.Position(ctx)
	if err != nil || !strings.HasPrefix(position, "gtid:0-1-") {
		t.Fatalf("position %q, %v", position, err)
	}
	done(t, "catch up", func() (string, error) { return neu.CatchUp(ctx, position) })
	if found, err := neu.Found(ctx, failover.StepStopReplication); err != nil || found != foundOn {
		t.Errorf("found %q, %v", found, err)
	}
	done(t, "stop", func() (string, error) { return neu.StopReplication(ctx) })
	if seen := observe(t, neu); seen.Role != failover.RoleReplica || seen.Streaming || seen.ID != "server 1" {
		t.Errorf("stopped standby is %+v", seen)
	}
	done(t, "promote", func() (string, error) { return neu.Promote(ctx) })
	if seen := observe(t, neu); seen.Role != failover.RolePrimary || seen.Frozen || seen.ID != "server 2" {
		t.Errorf("promoted standby is %+v", seen)
	}
	mu.Lock()
	to = standby
	mu.Unlock()
	n := writer.count()
	dbtest.Until(t, "writes on the new primary", func() bool { return writer.count() > n+100 })
	writer.end()
	if lost := writer.lost(t, standby); lost != 0 {
		t.Errorf("%d of %d acknowledged writes are lost", lost, writer.count())
	}
	done(t, "promote again", func() (string, error) { return neu.Promote(ctx) })
}

// What holds up read_only must not hold up a freeze: a lock that a session keeps, a statement that runs for long.
func TestMySQLFreezeEndsWhatHoldsItUp(t *testing.T) {
	t.Parallel()
	main := dbtest.NewMariaDB(t, 1)
	main.Populate(t)
	for name, statements := range map[string][]string{
		"lock":      {"LOCK TABLES orders WRITE"},
		"statement": {"INSERT INTO orders SELECT 2 + SLEEP(600)"},
		"idle":      {"BEGIN", "INSERT INTO orders VALUES (3)"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := main.User(t, "app", "app", "shop").Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			finished := make(chan struct{})
			go func() {
				defer close(finished)
				for _, s := range statements {
					_, _ = conn.ExecContext(context.Background(), s)
				}
			}()
			if name == "statement" {
				dbtest.Until(t, "it runs", func() bool {
					return main.Value(t, "SELECT COUNT(*) FROM information_schema.processlist WHERE state = 'User sleep'") == "1"
				})
			} else {
				<-finished
			}
			db := mysqlOn(t, main, plenty)
			done(t, "freeze", func() (string, error) { return db.Freeze(t.Context()) })
			<-finished
			if _, err := conn.ExecContext(t.Context(), "COMMIT"); err == nil {
				t.Error("the session lives on")
			}
			if n := main.Value(t, "SELECT COUNT(*) FROM shop.orders"); n != "0" {
				t.Errorf("%s writes came through", n)
			}
			done(t, "unfreeze", func() (string, error) { return db.Unfreeze(t.Context(), "read_only=0") })
		})
	}
}

// read_only does not stop a user with the privilege READ ONLY ADMIN; that its session ends does.
func TestMySQLFreezeEndsPrivilegedSessions(t *testing.T) {
	t.Parallel()
	main, standby := dbtest.NewMariaDBPair(t)
	main.Exec(t, "GRANT READ_ONLY ADMIN ON *.* TO app")
	conn, err := main.User(t, "app", "app", "shop").Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.ExecContext(t.Context(), "BEGIN"); err != nil {
		t.Fatal(err)
	}
	other := mysqlOn(t, main, plenty) // another watcher's look
	observe(t, other)
	db := mysqlOn(t, main, plenty)
	done(t, "freeze", func() (string, error) { return db.Freeze(t.Context()) })
	if _, err := conn.ExecContext(t.Context(), "INSERT INTO orders VALUES (1)"); err == nil {
		t.Error("the session lives on")
	}
	observe(t, other)
	if is := standby.Replica(t, "Slave_IO_Running"); is != "Yes" {
		t.Errorf("the replica's connection was ended: %s", is)
	}
}

func TestMySQLUndoPutsBackWhatWasThere(t *testing.T) {
	t.Parallel()
	main, standby := dbtest.NewMariaDBPair(t)
	ctx := t.Context()
	for _, was := range []string{"read_only=0", "read_only=1"} {
		main.Exec(t, "SET GLOBAL "+strings.ReplaceAll(was, "=", " = "))
		before := main.Settings(t)
		db := mysqlOn(t, main, plenty)
		found, err := db.Found(ctx, failover.StepFreeze)
		if err != nil || found != was {
			t.Errorf("found %q, %v", found, err)
		}
		done(t, "freeze", func() (string, error) { return db.Freeze(ctx) })
		done(t, "unfreeze", func() (string, error) { return db.Unfreeze(ctx, found) })
		if after := main.Settings(t); after != before {
			t.Errorf("settings were\n%s\nand are\n%s", before, after)
		}
	}
	refused(t, "foreign setting", "not a setting that a freeze changes", func() (string, error) {
		return mysqlOn(t, main, plenty).Unfreeze(ctx, "general_log=1")
	})
	main.Exec(t, "SET GLOBAL read_only = 0")

	for _, was := range []string{foundOn, foundOff} {
		if was == foundOff {
			standby.Exec(t, "STOP SLAVE IO_THREAD")
		}
		db := mysqlOn(t, standby, plenty)
		found, err := db.Found(ctx, failover.StepStopReplication)
		if err != nil || found != was {
			t.Errorf("found %q, %v", found, err)
		}
		done(t, "stop", func() (string, error) { return db.StopReplication(ctx) })
		done(t, "resume", func() (string, error) { return db.ResumeReplication(ctx, found) })
		dbtest.Until(t, "the receiver is as before", func() bool {
			return standby.Replica(t, "Slave_IO_Running") == map[string]string{foundOn: "Yes", foundOff: "No"}[was]
		})
	}
}

// Hands that come late: the server itself refuses, by its own clock, and ends the session.
func TestMySQLRefusesLateHands(t *testing.T) {
	t.Parallel()
	main, standby := dbtest.NewMariaDBPair(t)
	ctx := t.Context()
	db := mysqlOn(t, standby, plenty)
	done(t, "stop", func() (string, error) { return db.StopReplication(ctx) })
	limits, err := db.row(ctx, "SELECT @@wait_timeout <= 30 AND @@max_statement_time BETWEEN 0.001 AND 30 AS limited")
	if err != nil || limits["limited"] != "1" {
		t.Errorf("the server sets no limit: %v, %v", limits, err)
	}
	db.late = standby.Value(t, "SELECT UNIX_TIMESTAMP(SYSDATE(6)) - 0.001") // the watcher's own clock stands still
	refused(t, "promote", errTooLate.Error(), func() (string, error) { return db.Promote(ctx) })
	if standby.Replica(t, "Master_Host") == "" || standby.Replica(t, "Slave_SQL_Running") != "Yes" {
		t.Error("late hands have acted")
	}
	if err := db.exec(ctx, "SET SESSION wait_timeout = 1"); err != nil {
		t.Fatal(err)
	}
	dbtest.Until(t, "the server ends the session", func() bool {
		return standby.Value(t, "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'watchover'") == "0"
	})
	refused(t, "catch up over a closed connection", "closed the connection", func() (string, error) { return db.CatchUp(ctx, "gtid:0-1-1") })

	over := mysqlOn(t, main, -time.Second)
	refused(t, "freeze", errTooLate.Error(), func() (string, error) { return over.Freeze(ctx) })
	unbegun := mysqlOn(t, main, plenty)
	unbegun.token = 0
	refused(t, "without a token", errNotBegun.Error(), func() (string, error) { return unbegun.Freeze(ctx) })
}

func TestMySQLConnectionIsNeverReplaced(t *testing.T) {
	t.Parallel()
	main := dbtest.NewMariaDB(t, 1)
	main.Populate(t)
	db := mysqlOn(t, main, plenty)
	observe(t, db)
	main.Exec(t, "KILL USER watchover")
	for range 2 {
		refused(t, "freeze", "", func() (string, error) { return db.Freeze(t.Context()) })
	}
	if is := main.Value(t, "SELECT @@read_only"); is != "0" {
		t.Error("it was frozen over another connection")
	}
}

func TestMySQLFullServerIsAlive(t *testing.T) {
	t.Parallel()
	main := dbtest.NewMariaDB(t, 1)
	main.Populate(t)
	o := Options{DSN: main.DSN(), PasswordFile: main.PasswordFile(t)}
	if err := pingMySQL(t.Context(), o); err != nil {
		t.Errorf("a free server: %v", err)
	}
	main.Exec(t, "REVOKE CONNECTION ADMIN ON *.* FROM watchover", "SET GLOBAL max_connections = 10")
	app := main.User(t, "app", "app", "shop")
	app.SetMaxIdleConns(20)
	for range 20 {
		conn, err := app.Conn(t.Context())
		if err != nil {
			break
		}
		defer conn.Close()
	}
	db := mysqlOn(t, main, plenty)
	if _, err := db.Observe(t.Context()); !saidMySQL(err, tooManyMySQL) {
		t.Errorf("the server is not full: %v", err)
	}
	if err := pingMySQL(t.Context(), o); err != nil {
		t.Errorf("a full server: %v", err)
	}
	main.Freeze()
	defer main.Thaw()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := pingMySQL(ctx, o); err == nil {
		t.Error("a server that hangs is alive")
	}
}

// Nothing that was received may be lost, whatever else is wrong with the applier.
func TestMySQLReplicaThatDoesNotApply(t *testing.T) {
	t.Parallel()
	main, standby := dbtest.NewMariaDBPair(t)
	ctx := t.Context()
	standby.Exec(t, "STOP SLAVE SQL_THREAD")
	main.Exec(t, "INSERT INTO shop.orders VALUES (1)")
	end := main.Value(t, "SELECT @@gtid_binlog_pos")
	dbtest.Until(t, "it is received", func() bool { return standby.Replica(t, "Gtid_IO_Pos") == end })

	db := mysqlOn(t, standby, plenty)
	if seen := observe(t, db); !seen.Streaming || seen.Position != nil {
		t.Errorf("it tells a position that it cannot be promoted with: %+v", seen)
	}
	refused(t, "catch up", "does not apply", func() (string, error) { return db.CatchUp(ctx, "gtid:"+end) })
	refused(t, "stop", "does not apply", func() (string, error) { return db.StopReplication(ctx) })
	if is := standby.Replica(t, "Slave_IO_Running"); is != "Yes" {
		t.Errorf("it was stopped all the same: %s", is)
	}
	refused(t, "promote", "does not apply", func() (string, error) { return db.Promote(ctx) })

	standby.Exec(t, "SET STATEMENT sql_log_bin = 0 FOR INSERT INTO shop.orders VALUES (2)", "START SLAVE SQL_THREAD")
	main.Exec(t, "INSERT INTO shop.orders VALUES (2)")
	end = main.Value(t, "SELECT @@gtid_binlog_pos")
	dbtest.Until(t, "it fails", func() bool { return standby.Replica(t, "Slave_SQL_Running") == "No" })
	refused(t, "catch up", "Duplicate entry", func() (string, error) { return db.CatchUp(ctx, "gtid:"+end) })
}

func TestMySQLReplicaThatCannotCatchUp(t *testing.T) {
	t.Parallel()
	main, standby := dbtest.NewMariaDBPair(t)
	db := mysqlOn(t, standby, plenty)
	old := observe(t, db)
	standby.Exec(t, "STOP SLAVE IO_THREAD")
	main.Exec(t, "INSERT INTO shop.orders VALUES (1)")
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	refused(t, "catch up", "received up to", func() (string, error) { return db.CatchUp(ctx, "gtid:"+main.Value(t, "SELECT @@gtid_binlog_pos")) })
	seen, primary := observe(t, db), observe(t, mysqlOn(t, main, plenty))
	if seen.Streaming || seen.Position == nil || *seen.Position != *old.Position || *primary.Position <= *seen.Position {
		t.Errorf("positions: replica %v, primary %v", *seen.Position, *primary.Position)
	}
	main.Exec(t, "FLUSH BINARY LOGS")
	if next := observe(t, mysqlOn(t, main, plenty)); *next.Position <= *primary.Position {
		t.Errorf("the position fell with the next file: %d after %d", *next.Position, *primary.Position)
	}
}

// A replica of somebody else's must not pass for one of ours, nor one with two sources for a primary.
func TestMySQLForeignReplicas(t *testing.T) {
	t.Parallel()
	_, standby := dbtest.NewMariaDBPair(t)
	other := dbtest.NewMariaDB(t, 77)
	other.Populate(t)
	standby.Exec(t, "STOP SLAVE", "RESET SLAVE ALL", "RESET MASTER", "SET GLOBAL gtid_slave_pos = '"+other.Value(t, "SELECT @@gtid_binlog_pos")+"'")
	standby.Follow(t, other)
	if seen := observe(t, mysqlOn(t, standby, plenty)); seen.ID != "server 77" {
		t.Errorf("got %+v", seen)
	}
	standby.Exec(t, "CHANGE MASTER 'second' TO MASTER_HOST='127.0.0.1', MASTER_PORT=1, MASTER_USER='repl', MASTER_PASSWORD='repl'")
	if seen, err := mysqlOn(t, standby, plenty).Observe(t.Context()); err == nil || seen.Role != failover.RoleUnknown {
		t.Errorf("two sources: %+v", seen)
	}
	standby.Exec(t, "STOP ALL SLAVES", "RESET SLAVE ALL")
	if seen, err := mysqlOn(t, standby, plenty).Observe(t.Context()); err == nil || seen.Role != failover.RoleUnknown {
		t.Errorf("a named source: %+v", seen)
	}
}

// A crash in the middle of the promotion is finished by the next attempt.
func TestMySQLPromotionIsFinished(t *testing.T) {
	t.Parallel()
	main, standby := dbtest.NewMariaDBPair(t)
	ctx := t.Context()
	standby.Exec(t, "SET GLOBAL read_only = 1")
	main.Exec(t, "INSERT INTO shop.orders VALUES (1)")
	done(t, "catch up", func() (string, error) {
		return mysqlOn(t, standby, plenty).CatchUp(ctx, "gtid:"+main.Value(t, "SELECT @@gtid_binlog_pos"))
	})
	main.Kill()
	db := mysqlOn(t, standby, plenty)
	done(t, "stop", func() (string, error) { return db.StopReplication(ctx) })
	standby.Exec(t, "STOP SLAVE", "SET GLOBAL read_only = 0") // as far as the other leader got
	if seen := observe(t, db); seen.Role != failover.RoleReplica {
		t.Errorf("half promoted: %+v", seen)
	}
	done(t, "promote", func() (string, error) { return db.Promote(ctx) })
	if seen := observe(t, db); seen.Role != failover.RolePrimary || seen.Frozen {
		t.Errorf("got %+v", seen)
	}
	// The old one comes back as a writable primary of its own id.
	main.Start(t)
	back := mysqlOn(t, main, plenty)
	if seen := observe(t, back); seen.Role != failover.RolePrimary || seen.Frozen || seen.ID != "server 1" {
		t.Errorf("back: %+v", seen)
	}
	done(t, "freeze", func() (string, error) { return back.Freeze(ctx) })
}

// By file and position the server waits for nothing while its applier is off: what is applied is compared then.
func TestMySQLPromotionWithoutGTIDsIsFinished(t *testing.T) {
	t.Parallel()
	main, standby := dbtest.NewMariaDBPair(t)
	ctx := t.Context()
	standby.Exec(t, "STOP SLAVE", "CHANGE MASTER TO MASTER_USE_GTID = no", "START SLAVE")
	dbtest.Until(t, "it receives", func() bool { return standby.Replica(t, "Slave_IO_Running") == "Yes" })
	standby.Exec(t, "STOP SLAVE SQL_THREAD")
	main.Exec(t, "INSERT INTO shop.orders VALUES (1)")
	dbtest.Until(t, "it is received", func() bool {
		return standby.Replica(t, "Read_Master_Log_Pos") != standby.Replica(t, "Exec_Master_Log_Pos")
	})
	db := mysqlOn(t, standby, plenty)
	refused(t, "stop", "does not apply", func() (string, error) { return db.StopReplication(ctx) })
	standby.Exec(t, "START SLAVE SQL_THREAD")
	dbtest.Until(t, "it is applied", func() bool { return standby.Value(t, "SELECT COUNT(*) FROM shop.orders") == "1" })
	done(t, "stop", func() (string, error) { return db.StopReplication(ctx) })
	main.Kill()
	standby.Exec(t, "STOP SLAVE") // as far as the other leader got
	done(t, "promote", func() (string, error) { return db.Promote(ctx) })
	if seen := observe(t, db); seen.Role != failover.RolePrimary || seen.Frozen {
		t.Errorf("got %+v", seen)
	}
}
