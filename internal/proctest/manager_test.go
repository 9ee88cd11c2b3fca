package proctest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// manager is a service manager as far as sd_notify goes.
type manager struct {
	address string
	mu      sync.Mutex // guards heard
	heard   []string
}

func newManager(t *testing.T, address string) *manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	must(t, err)
	m := &manager{address: address}
	done := make(chan struct{})
	go func() {
		defer close(done)
		text := make([]byte, 4096)
		for {
			n, err := conn.Read(text)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.heard = append(m.heard, string(text[:n]))
			m.mu.Unlock()
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return m
}

func (m *manager) words() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.heard)
}

func (m *manager) count(prefix string) (n int) {
	for _, word := range m.words() {
		if strings.HasPrefix(word, prefix) {
			n++
		}
	}
	return n
}

func (m *manager) wait(t *testing.T, prefix string, more int) {
	t.Helper()
	eventually(t, "the service manager hears "+prefix, func() (bool, any) { return m.count(prefix) >= more, m.words() })
}

// What systemd is told of a watcher: ready when it takes part, alive while its disk lets it, and the rest by name.
func TestServiceManagerHearsOfStartReloadHangAndStop(t *testing.T) {
	t.Parallel()
	c := prepare(t, settings{watcher: crashBinary, mode: "manual"})
	m := newManager(t, "@"+c.path("manager"))
	c.settings.stall = map[string]string{"w1": c.path("stall")}
	c.settings.env = []string{"NOTIFY_SOCKET=" + m.address, "WATCHDOG_USEC=2000000"}
	c.startApp("main", true)
	c.startApp("standby", false)
	c.startWatcher("w1")
	m.wait(t, "READY=1", 1) // it can only wait for the others
	m.wait(t, "STATUS=takes no part: ", 1)
	c.settings.env = nil // of the others
	for _, name := range names[1:] {
		c.startWatcher(name)
	}
	c.lead("w1")
	m.wait(t, "STATUS=leading in term", 1)
	m.wait(t, "WATCHDOG=1", 3)
	for _, child := range children(c, "w1") {
		text, err := os.ReadFile("/proc/" + child + "/environ")
		must(t, err)
		if strings.Contains(string(text), "NOTIFY_SOCKET=") {
			t.Error("a child may speak to the service manager in the watcher's name")
		}
	}

	c.watchers["w1"].signal(t, syscall.SIGHUP)
	m.wait(t, "RELOADING=1\nMONOTONIC_USEC=", 1)
	m.wait(t, "READY=1", 2)

	must(t, os.WriteFile(c.path("stall"), nil, 0o600))
	c.order("w2", "pause") // something to write
	c.waitLogged("w1", "the service manager's watchdog is not fed")
	fed := m.count("WATCHDOG=1")
	during(t, 3*time.Second, "the watchdog goes hungry", func() (bool, any) { return m.count("WATCHDOG=1") == fed, m.words() })
	must(t, os.Remove(c.path("stall")))
	<-c.watchers["w1"].done
	m.wait(t, "STOPPING=1", 1)
}

// children are the processes that a watcher has started: at least the guard of its hooks.
func children(c *cluster, name string) []string {
	c.t.Helper()
	var list []string
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", c.watchers[name].cmd.Process.Pid))
	must(c.t, err)
	for _, file := range threads {
		text, err := os.ReadFile(file)
		must(c.t, err)
		list = append(list, strings.Fields(string(text))...)
	}
	if len(list) == 0 {
		c.t.Errorf("%s has no children", name)
	}
	return list
}
