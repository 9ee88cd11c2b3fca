// Package systemd tells the service manager how this process is, by the protocol of sd_notify(3): that it is ready, what
// it is doing, and, as long as all goes on, that it is alive. It needs no library: each word is one datagram.
//
// Outside a service manager there is nobody to tell; a nil Manager is then used, which does nothing.
package systemd

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds the sending of one datagram: a manager that does not read must not hold up a watcher.
const patience = time.Second

// Variables of the environment, as systemd sets them.
const (
	socketVariable = "NOTIFY_SOCKET"
	timeVariable   = "WATCHDOG_USEC"
	pidVariable    = "WATCHDOG_PID"
)

// Manager is the service manager that started this process.
type Manager struct {
	socket string
	limit  time.Duration
}

// FromEnvironment finds the service manager that the environment names and takes its variables out of it, so that no
// child of this process speaks in its name. It returns nil if there is none.
func FromEnvironment() (*Manager, error) {
	socket, usec, pid := os.Getenv(socketVariable), os.Getenv(timeVariable), os.Getenv(pidVariable)
	for _, name := range []string{socketVariable, timeVariable, pidVariable} {
		if err := os.Unsetenv(name); err != nil {
			return nil, fmt.Errorf("cannot take %s out of the environment: %w", name, err)
		}
	}
	if socket == "" {
		return nil, nil
	}
	if !strings.HasPrefix(socket, "/") && !strings.HasPrefix(socket, "@") {
		return nil, fmt.Errorf("cannot use %s=%q: want a path or, for the abstract namespace, @ and a name", socketVariable, socket)
	}
	m := &Manager{socket: socket}
	if usec == "" || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return m, nil
	}
	n, err := strconv.ParseInt(usec, 10, 64)
	if err != nil || n <= 0 {
		return nil, fmt.Errorf("cannot use %s=%q: want microseconds", timeVariable, usec)
	}
	m.limit = time.Duration(n) * time.Microsecond
	return m, nil
}

// FeedEvery is how often Feed is to be called: twice in the time after which the manager loses its patience. 0: never.
func (m *Manager) FeedEvery() time.Duration {
	if m == nil {
		return 0
	}
	return m.limit / 2
}

// Ready says that the start, or a reload, is complete.
func (m *Manager) Ready() error { return m.send("READY=1") }

// Reloading says that the configuration is being read again, until Ready.
func (m *Manager) Reloading() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("cannot read the monotonic clock: %w", err)
	}
	return m.send("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/1000))
}

// Stopping says that the process is about to end.
func (m *Manager) Stopping() error { return m.send("STOPPING=1") }

// Feed says that the process is alive; see FeedEvery.
func (m *Manager) Feed() error { return m.send("WATCHDOG=1") }

// Status says in one line how things are, for "systemctl status".
func (m *Manager) Status(text string) error {
	return m.send("STATUS=" + strings.Join(strings.Fields(text), " "))
}

// send is one datagram on a socket of its own, so that a manager that was itself restarted is reached as well.
func (m *Manager) send(lines ...string) error {
	if m == nil {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: m.socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("cannot reach the service manager: %w", err)
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return fmt.Errorf("cannot reach the service manager: %w", err)
	}
	if _, err := conn.Write([]byte(strings.Join(lines, "\n"))); err != nil {
		return fmt.Errorf("cannot tell the service manager %s: %w", lines[0], err)
	}
	return nil
}
