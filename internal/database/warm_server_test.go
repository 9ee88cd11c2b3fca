//go:build servers

package database

import (
	"errors"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/internal/dbtest"
)

// A session is taken up by the next look, one that went wrong is not, and one that the server has ended is replaced before
// anything was done with it.
func TestWarmMySQL(t *testing.T) {
	t.Parallel()
	m := dbtest.NewMariaDB(t, 1)
	m.Populate(t)
	var warm Warm
	defer warm.Close()
	o := Options{DSN: m.DSN(), PasswordFile: m.PasswordFile(t), Warm: &warm, Deadline: time.Now().Add(plenty)}
	session := func(spoil func(*mysql)) string {
		db, err := openMySQL(o)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		observe(t, db)
		spoil(db.(*mysql))
		return m.Value(t, "SELECT MAX(id) FROM information_schema.processlist WHERE user = 'watchover'")
	}
	first := session(func(*mysql) {})
	if again := session(func(*mysql) {}); again != first {
		t.Errorf("sessions %s and %s", first, again)
	}
	m.Exec(t, "KILL USER watchover")
	second := session(func(db *mysql) { db.soured = true })
	if second == first {
		t.Error("the session that was ended is used")
	}
	if third := session(func(*mysql) {}); third == second {
		t.Error("a session that went wrong was kept")
	}
}

func TestWarmRedis(t *testing.T) {
	t.Parallel()
	s := dbtest.NewRedis(t)
	var warm Warm
	defer warm.Close()
	o := Options{DSN: s.DSN(), PasswordFile: s.PasswordFile(t), Warm: &warm, Deadline: time.Now().Add(plenty)}
	connections := func() string { return s.Info(t, "total_connections_received") }
	look := func() *redis {
		db, err := openRedis(o)
		if err != nil {
			t.Fatal(err)
		}
		observe(t, db)
		return db.(*redis)
	}
	look().Close()
	before := number(connections()) + 1 // with the one that asks
	look().Close()
	if now := number(connections()); now != before {
		t.Errorf("%d connections instead of %d", now, before)
	}
	s.Do(t, "CLIENT", "KILL", "USER", "watchover")
	db := look()
	db.Begin(7)
	state, err := db.state(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := db.act(t.Context(), state, []string{"CONFIG", "SET", "nonsense", "1"}); err == nil || errors.Is(err, errTooLate) {
		t.Errorf("nonsense was set: %v", err)
	}
	db.Close()
	before = number(connections()) + 2
	look().Close()
	if now := number(connections()); now != before {
		t.Errorf("%d connections instead of %d: one that went wrong was kept", now, before)
	}
}
