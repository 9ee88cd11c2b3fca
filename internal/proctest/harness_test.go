package proctest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// patience bounds every wait. The tests show what happens, never how fast: the machine may be slow.
const patience = 60 * time.Second

const (
	group = "shop"
	fqdn  = "shop.ha.example.com."
)

// addresses of the apps in the record; nothing is ever sent there.
var addresses = map[string]string{"main": "192.0.2.10", "standby": "198.51.100.10"}

// settings are what differs from one test's cluster to another's.
type settings struct {
	watcher   string            // binary; default the one as shipped
	env       []string          // of the watchers, beside PATH
	mode      string            // default automatic
	cooldown  string            // default 10m
	rehearse  string            // rehearse_every; default 10m
	zone      string            // lines below zone
	steps     string            // one flow mapping for all steps; default a second, ten tries
	only      map[string]string // for single steps
	hooks     bool
	web       map[string]string // app: base URL of its maintenance switch, if not its own
	probePath string            // of main; default /healthz
	tls       bool              // the watchers speak TLS
	notify    string            // list of targets; default none
	stall     map[string]string // by watcher: a file as long as which exists its disk hangs; of the crash binary
	dataDir   map[string]string // by watcher, if not beside its file
	timing    string            // default a quarter of a second
	databases map[string]string // by app: the lines below database, if it is a real server
	hosts     bool              // a host for each watcher and each app, instead of ports of this machine
}

// cluster is three watchers, two apps and their directory. Its methods fail the test when something cannot be done.
type cluster struct {
	t        *testing.T
	dir      string
	settings settings
	base     int // port
	watchers map[string]*process
	apps     map[string]*process
	frozen   map[string]bool // watchers stopped with SIGSTOP, or cut off
	lab      *lab            // nil without hosts
}

var names = []string{"w1", "w2", "w3"}

// newCluster starts the apps, main open and standby in maintenance, and the watchers, and waits until the group is
// armed and the standby ready.
func newCluster(t *testing.T, s settings) *cluster {
	t.Helper()
	c := prepare(t, s)
	c.begin()
	return c
}

// begin starts everything that prepare has made.
func (c *cluster) begin() {
	c.t.Helper()
	c.startApp("main", true)
	c.startApp("standby", false)
	for _, name := range names {
		c.startWatcher(name)
	}
	c.waitReady("standby")
	// Two watchers that have seen the replica make it ready; what the third has seen counts once one of them is gone.
	during(c.t, 750*time.Millisecond, "every watcher runs", c.allRun)
}

// prepare makes everything but processes.
func prepare(t *testing.T, s settings) *cluster {
	t.Helper()
	// Short, because the path of a Unix socket has 107 bytes at most.
	dir, err := os.MkdirTemp("", "pt-")
	must(t, err)
	c := &cluster{t: t, dir: dir, settings: s, watchers: map[string]*process{}, apps: map[string]*process{}, frozen: map[string]bool{}}
	if s.hosts {
		c.lab = newLab(t)
	} else {
		c.base = takePorts(t)
	}
	t.Cleanup(c.close)
	for app, role := range map[string]string{"main": "primary", "standby": "replica"} {
		must(t, os.Mkdir(filepath.Join(dir, app), 0o700))
		c.setDatabase(app, map[string]string{"role": role, "frozen": "no", "receiving": "yes"})
	}
	if s.tls {
		c.issueAll("pki")
		for _, name := range names {
			c.give(name, "pki")
		}
	}
	for _, name := range names {
		c.writeConfig(name)
	}
	return c
}

// takePorts reserves a block of ports below the range from which the kernel takes outgoing ones.
func takePorts(t *testing.T) int {
	t.Helper()
	for base := 20000 + os.Getpid()%100*100; base < 32000; base += 20 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", base))
		if err != nil {
			continue
		}
		if free(base+1, base+19) {
			t.Cleanup(func() { l.Close() })
			return base
		}
		l.Close()
	}
	t.Fatal("no free ports")
	return 0
}

func free(from, to int) bool {
	for port := from; port <= to; port++ {
		address := fmt.Sprintf("127.0.0.1:%d", port)
		l, err := net.Listen("tcp", address)
		if err != nil {
			return false
		}
		l.Close()
		p, err := net.ListenPacket("udp", address)
		if err != nil {
			return false
		}
		p.Close()
	}
	return true
}

func (c *cluster) appAddress(app string) string {
	if c.lab != nil {
		return net.JoinHostPort(hostAddresses[app], appPort)
	}
	return fmt.Sprintf("127.0.0.1:%d", c.base+map[string]int{"main": 1, "standby": 2}[app])
}

func (c *cluster) dnsAddress(watcher string) string {
	if c.lab != nil {
		return net.JoinHostPort(hostAddresses[watcher], "53")
	}
	return fmt.Sprintf("127.0.0.1:%d", c.base+4+slices.Index(names, watcher))
}

func (c *cluster) path(parts ...string) string {
	return filepath.Join(append([]string{c.dir}, parts...)...)
}

func (c *cluster) setDatabase(app string, files map[string]string) {
	c.t.Helper()
	d := Database{Dir: c.dir, App: app}
	for _, file := range []string{"role", "frozen", "receiving"} {
		if value, ok := files[file]; ok {
			must(c.t, d.Set(file, value))
		}
	}
}

// makeReplica makes an app's database receive from the other one.
func (c *cluster) makeReplica(app string) {
	c.t.Helper()
	c.setDatabase(app, map[string]string{"role": "replica", "frozen": "no", "receiving": "yes"})
}

// fail makes a verb of an app fail until the returned func is called.
func (c *cluster) fail(app, verb string) (mend func()) {
	c.t.Helper()
	file := c.path(app, "fail-"+verb)
	must(c.t, os.WriteFile(file, []byte("the test wants it"), 0o600))
	return func() {
		c.t.Helper()
		must(c.t, os.Remove(file))
	}
}

// close ends everything and, if the test failed, shows what the watchers said.
func (c *cluster) close() {
	for _, group := range []map[string]*process{c.watchers, c.apps} {
		var ending sync.WaitGroup
		for _, p := range group {
			ending.Go(p.kill)
		}
		ending.Wait()
	}
	if c.t.Failed() {
		for _, name := range names {
			text, _ := os.ReadFile(c.path(name + ".log"))
			lines := bytes.SplitAfter(text, []byte("\n"))
			c.t.Logf("last lines of %s:\n%s", name, bytes.Join(lines[max(0, len(lines)-60):], nil))
		}
	}
	if os.Getenv("PROCTEST_KEEP") != "" {
		c.t.Logf("kept: %s", c.dir)
		return
	}
	_ = os.RemoveAll(c.dir)
}
