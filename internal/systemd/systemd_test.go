package systemd

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// manager is a service manager that this test plays.
func manager(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv(socketVariable, name)
	return conn
}

func heard(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	text := make([]byte, 4096)
	n, err := conn.Read(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(text[:n])
}

func TestWords(t *testing.T) {
	for _, name := range []string{filepath.Join(t.TempDir(), "s"), fmt.Sprintf("@watchover-test-%d", os.Getpid())} {
		conn := manager(t, name)
		m, err := FromEnvironment()
		if err != nil {
			t.Fatal(err)
		}
		for _, tc := range []struct {
			say  func() error
			want string
		}{
			{m.Ready, "READY=1"},
			{m.Stopping, "STOPPING=1"},
			{m.Feed, "WATCHDOG=1"},
			{func() error { return m.Status("leading,\n2 of 3\twatchers\n") }, "STATUS=leading, 2 of 3 watchers"},
		} {
			if err := tc.say(); err != nil {
				t.Fatal(err)
			}
			if got := heard(t, conn); got != tc.want {
				t.Errorf("%s: got %q, want %q", name, got, tc.want)
			}
		}
	}
}

// systemd compares the time with its own to tell a reload that it asked for from one that came of itself.
func TestReloadingTellsTheMonotonicClock(t *testing.T) {
	conn := manager(t, filepath.Join(t.TempDir(), "s"))
	m, err := FromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Reloading(); err != nil {
		t.Fatal(err)
	}
	text, ok := strings.CutPrefix(heard(t, conn), "RELOADING=1\nMONOTONIC_USEC=")
	usec, err := strconv.ParseInt(text, 10, 64)
	var now unix.Timespec
	if clock := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); !ok || err != nil || clock != nil {
		t.Fatalf("%q: %v, %v", text, err, clock)
	}
	if age := now.Nano()/1000 - usec; age < 0 || age > 10_000_000 {
		t.Errorf("told a time %d µs ago", age)
	}
}

func TestEnvironment(t *testing.T) {
	own := strconv.Itoa(os.Getpid())
	for _, tc := range []struct {
		name, socket, usec, pid string
		none                    bool
		feed                    time.Duration
		fault                   string
	}{
		{name: "no manager", usec: "1000000", none: true},
		{name: "no watchdog", socket: "/run/x"},
		{name: "watchdog", socket: "/run/x", usec: "60000000", pid: own, feed: 30 * time.Second},
		{name: "watchdog without a process", socket: "@x", usec: "1000000", feed: 500 * time.Millisecond},
		{name: "another process's watchdog", socket: "/run/x", usec: "1000000", pid: "1"},
		{name: "odd socket", socket: "vsock:2:3", fault: "NOTIFY_SOCKET"},
		{name: "odd time", socket: "/run/x", usec: "soon", fault: "WATCHDOG_USEC"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv(socketVariable, tc.socket)
			t.Setenv(timeVariable, tc.usec)
			t.Setenv(pidVariable, tc.pid)
			m, err := FromEnvironment()
			if (err != nil) != (tc.fault != "") || err != nil && !strings.Contains(err.Error(), tc.fault) {
				t.Fatalf("error %v, want %q", err, tc.fault)
			}
			if err == nil && (m == nil) != tc.none {
				t.Errorf("manager: %+v", m)
			}
			if m.FeedEvery() != tc.feed {
				t.Errorf("feed every %s, want %s", m.FeedEvery(), tc.feed)
			}
			for _, name := range []string{socketVariable, timeVariable, pidVariable} {
				if value, ok := os.LookupEnv(name); ok {
					t.Errorf("children would inherit %s=%s", name, value)
				}
			}
		})
	}
}

func TestNobodyToTell(t *testing.T) {
	var m *Manager
	if err := m.Ready(); err != nil {
		t.Error(err)
	}
	m = &Manager{socket: filepath.Join(t.TempDir(), "gone")}
	if err := m.Ready(); err == nil {
		t.Error("a manager that is gone was told")
	}
}
