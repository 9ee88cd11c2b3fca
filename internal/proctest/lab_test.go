package proctest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// lab is a network that a test makes itself: a bridge, and for each watcher, each app and a visitor a host with one
// address on it. Each is a network namespace.
//
// The namespaces have no names and nothing of them is outside of them: each belongs to a thread of this process and to
// what is started on it. However the test ends, the kernel removes them, with all links and rules, when their last
// process is gone.
type lab struct {
	hub   *host
	hosts map[string]*host
}

// hostAddresses are the hosts' addresses; those of the apps are the ones in the record.
var hostAddresses = map[string]string{
	"w1": "192.0.2.53", "w2": "198.51.100.53", "w3": "203.0.113.53", "visitor": "203.0.113.99",
	"main": addresses["main"], "standby": addresses["standby"],
}

const (
	bridge       = "br0"
	appPort      = "80"
	databasePort = "5432"
	commandTime  = 20 * time.Second // for one call of ip or iptables
)

// labs are the turns of the tests on hosts: two clusters at a time, for each of them must be quick enough to tell an
// outage from a busy machine.
var labs = make(chan struct{}, 2)

func newLab(t *testing.T) *lab {
	t.Helper()
	needTools(t)
	labs <- struct{}{}
	t.Cleanup(func() { <-labs })
	l := &lab{hub: newHost(t, "hub"), hosts: map[string]*host{}}
	must(t, l.hub.run(fmt.Sprintf("link add %[1]s type bridge\nlink set %[1]s up\n", bridge), "ip", "-batch", "-"))
	for name, address := range hostAddresses {
		h := newHost(t, name)
		l.hosts[name] = h
		must(t, l.hub.run(fmt.Sprintf("link add %[1]s type veth peer name eth0 netns %[2]s\nlink set %[1]s master %[3]s up\n", name, h.path, bridge), "ip", "-batch", "-"))
		must(t, h.run(fmt.Sprintf("link set lo up\naddr add %s/32 dev eth0\nlink set eth0 up\nroute add default dev eth0\n", address), "ip", "-batch", "-"))
	}
	return l
}

// needTools fails the test where there can be no lab, and says what to do about it.
func needTools(t *testing.T) {
	t.Helper()
	for _, tool := range []string{"ip", "iptables-restore"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("cannot make hosts: %v; run: make test-deps (Debian: apt-get install iproute2 iptables), and have /usr/sbin in PATH", err)
		}
	}
}

// host is a network namespace, held by a thread that lives in it.
type host struct {
	name string
	path string      // of the namespace
	work chan func() // closed when the test ends
}

func newHost(t *testing.T, name string) *host {
	t.Helper()
	h := &host{name: name, work: make(chan func())}
	made, ended := make(chan error), make(chan struct{})
	go func() {
		defer close(ended)
		// Never unlocked: the thread ends with the goroutine, for it must not run anything else any more.
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		h.path = fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
		made <- err
		for do := range h.work {
			do()
		}
	}()
	t.Cleanup(func() { close(h.work); <-ended })
	if err := <-made; err != nil {
		if errors.Is(err, unix.EPERM) {
			t.Fatalf("cannot make hosts: network namespaces need root; run as root, or: make test-hosts, or: unshare --user --map-root-user go test -run TestHosts ./internal/proctest")
		}
		t.Fatalf("cannot make host %s: cannot make a network namespace: %v", name, err)
	}
	return h
}

// do runs something short on the host: sockets that it makes and processes that it starts are the host's.
func (h *host) do(what func()) {
	done := make(chan struct{})
	h.work <- func() { defer close(done); what() }
	<-done
}

// run runs a tool on the host to its end.
func (h *host) run(input string, argv ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var output bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var err error
	h.do(func() { err = cmd.Start() })
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return fmt.Errorf("cannot run %q on %s: %w: %s%s", argv, h.name, err, input, output.String())
	}
	return nil
}

// dial connects from the host.
func (h *host) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	h.do(func() { conn, err = (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, network, address) })
	return conn, err
}

// What a host loses; a test adds these up and ends them all with heal.
type loss struct {
	hears, sends bool   // what is lost: what comes in, what goes out
	peer         string // a host; "": everybody
	port         string // of the peer; "": all
}

var (
	cutOff = loss{hears: true, sends: true}
	deaf   = loss{hears: true} // it can send, but does not hear
	mute   = loss{sends: true} // it can hear, but what it sends is lost
)

// cutFrom is the loss of everything between a host and one peer, or one of the peer's ports.
func cutFrom(peer, port string) loss { return loss{hears: true, sends: true, peer: peer, port: port} }

// rules are the loss as arguments of iptables.
func (l loss) rules() (list [][]string) {
	for _, side := range []struct {
		lost                          bool
		chain, device, address, ports string
	}{{l.hears, "INPUT", "-i", "-s", "--sport"}, {l.sends, "OUTPUT", "-o", "-d", "--dport"}} {
		if !side.lost {
			continue
		}
		rule := []string{"-A", side.chain, side.device, "eth0"}
		if l.peer != "" {
			rule = append(rule, side.address, hostAddresses[l.peer])
		}
		if l.port != "" {
			rule = append(rule, "-p", "tcp", side.ports, l.port)
		}
		list = append(list, append(rule, "-j", "DROP"))
	}
	return list
}

// lose makes hosts lose packets from now on, silently.
func (c *cluster) lose(l loss, hosts ...string) {
	c.t.Helper()
	c.onHosts(hosts, l.rules()...)
}

// heal ends all that hosts lose.
func (c *cluster) heal(hosts ...string) {
	c.t.Helper()
	c.onHosts(hosts, []string{"-F"})
}

// onHosts gives the same rules to several hosts, at the same time.
func (c *cluster) onHosts(hosts []string, rules ...[]string) {
	c.t.Helper()
	var text strings.Builder
	text.WriteString("*filter\n")
	for _, rule := range rules {
		text.WriteString(strings.Join(rule, " ") + "\n")
	}
	text.WriteString("COMMIT\n")
	faults := make([]error, len(hosts))
	var working sync.WaitGroup
	for i, name := range hosts {
		working.Go(func() { faults[i] = c.lab.hosts[name].run(text.String(), "iptables-restore", "--noflush", "-w") })
	}
	working.Wait()
	must(c.t, errors.Join(faults...))
}

// away leaves watchers out of what the harness waits for: they are cut off. back counts them in again.
func (c *cluster) away(watchers ...string) {
	for _, name := range watchers {
		c.frozen[name] = true
	}
}

func (c *cluster) back(watchers ...string) {
	for _, name := range watchers {
		delete(c.frozen, name)
	}
}

func others(watcher string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == watcher })
}
