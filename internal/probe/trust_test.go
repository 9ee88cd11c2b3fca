package probe

import (
	"testing"
	"time"
)

func TestClockwatch(t *testing.T) {
	// Each look says by how much each clock has moved since the look before; the last one is judged.
	type step struct{ wall, monotonic, suspended time.Duration }
	second := step{time.Second, time.Second, 0}
	tests := []struct {
		name  string
		steps []step
		want  string
	}{
		{"calm", []step{second, second}, ""},
		{"a busy machine", []step{{3500 * time.Millisecond, 3500 * time.Millisecond, 0}}, ""},
		{"frozen", []step{second, {8 * time.Second, 8 * time.Second, 0}}, "frozen for 8s"},
		{"just frozen", []step{{3501 * time.Millisecond, 3501 * time.Millisecond, 0}}, "frozen for 4s"},
		{"suspended", []step{{40 * time.Second, time.Second, 39 * time.Second}}, "suspended for 39s"},
		{"jump ahead", []step{{8 * time.Second, time.Second, 0}}, "clock jump of 7s"},
		{"jump back", []step{{-6 * time.Second, time.Second, 0}}, "clock jump of -7s"},
		{"a small step", []step{{5 * time.Second, time.Second, 0}}, ""},
		{"small steps in a row", []step{{5 * time.Second, time.Second, 0}, {3 * time.Second, time.Second, 0}}, "clock jump of 6s"},
		{"told once", []step{{8 * time.Second, time.Second, 0}, second}, ""},
		{"frozen told once", []step{{8 * time.Second, 8 * time.Second, 0}, second}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			now := reading{wall: time.Unix(1e9, 0), monotonic: time.Hour, suspended: time.Minute}
			watch := newClockwatch(now)
			got := ""
			for _, s := range tt.steps {
				now.wall, now.monotonic, now.suspended = now.wall.Add(s.wall), now.monotonic+s.monotonic, now.suspended+s.suspended
				got = watch.look(now)
			}
			if got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// A clock that was an hour off is slewed by 0.5 ms per second for weeks; that must never look like a jump.
func TestClockwatchSlew(t *testing.T) {
	now := reading{wall: time.Unix(1e9, 0)}
	watch := newClockwatch(now)
	for i := range 100_000 {
		now.wall, now.monotonic = now.wall.Add(time.Second+500*time.Microsecond), now.monotonic+time.Second
		if cause := watch.look(now); cause != "" {
			t.Fatalf("after %d s: %s", i, cause)
		}
	}
}

func TestReadClocks(t *testing.T) {
	a := readClocks()
	b := readClocks()
	if b.monotonic < a.monotonic || b.wall.Before(a.wall.Add(-time.Second)) || (b.suspended-a.suspended).Abs() > time.Second {
		t.Errorf("%+v then %+v", a, b)
	}
}
