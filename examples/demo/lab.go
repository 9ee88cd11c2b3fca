package main

import (
	_ "embed"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"

	"github.com/watchover-ha/watchover/pkg/client"
)

// What the laboratory is called; the addresses are those of this machine's loopback network. Both shops use the same
// port on addresses of their own, so that a client needs nothing but the DNS answer, as in real life.
const (
	group       = "shop"
	zoneName    = "ha.example.com."
	recordName  = group + "." + zoneName
	recordTTL   = 300 // seconds; the default of the configuration
	mainAddress = "127.0.0.11"
	nextAddress = "127.0.0.12" // the standby's
	ownAddress  = "127.0.0.1"  // the watchers'
	watcherMany = 3
)

// maxSocket is the longest path of a Unix socket on Linux, sun_path in unix(7).
const maxSocket = 107

//go:embed watcher.yaml.tmpl
var watcherText string

var watcherTemplate = template.Must(template.New("watcher.yaml").Parse(watcherText))

// lab is everything that runs on the stage: names, places, processes.
type lab struct {
	bin, dir  string
	processes *processes
	shops     []*shop // main, standby
	watchers  []*watcher
}

// watcher is one watchover process of the laboratory.
type watcher struct {
	Name, Config, Dir, Socket string
	Raft, DNS, HTTP           string // host:port
	process                   *process
	api                       *client.Client
}

// newLab lays everything out and writes the watchers' configuration files. Nothing runs yet.
func newLab(bin, dir string) (*lab, error) {
	l := &lab{bin: bin, dir: dir}
	ports, err := freePorts(1 + 3*watcherMany)
	if err != nil {
		return nil, err
	}
	for i, address := range []string{mainAddress, nextAddress} {
		name := []string{"main", "standby"}[i]
		l.shops = append(l.shops, newShop(name, address, ports[0], filepath.Join(dir, "shop-"+name)))
	}
	for i := range watcherMany {
		name := "w" + strconv.Itoa(i+1)
		at := func(kind int) string { return net.JoinHostPort(ownAddress, strconv.Itoa(ports[1+3*i+kind])) }
		w := &watcher{Name: name, Config: filepath.Join(dir, name+".yaml"), Dir: filepath.Join(dir, name),
			Socket: filepath.Join(dir, name+".sock"), Raft: at(0), DNS: at(1), HTTP: at(2)}
		if len(w.Socket) > maxSocket {
			return nil, fmt.Errorf("cannot use %s: the path of a Unix socket has at most %d characters (try TMPDIR=/tmp)", w.Socket, maxSocket)
		}
		w.api = client.New(w.Socket)
		l.watchers = append(l.watchers, w)
	}
	for _, w := range l.watchers {
		if err := l.configure(w); err != nil {
			return nil, err
		}
	}
	l.processes = newProcesses()
	return l, nil
}

func (l *lab) configure(w *watcher) error {
	if err := os.Mkdir(w.Dir, 0o700); err != nil {
		return fmt.Errorf("cannot make the directory of %s: %w", w.Name, err)
	}
	f, err := os.OpenFile(w.Config, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("cannot write the configuration of %s: %w", w.Name, err)
	}
	err = watcherTemplate.Execute(f, map[string]any{
		"Me": w, "Watchers": l.watchers, "Shops": l.shops, "Group": group, "Zone": strings.TrimSuffix(zoneName, "."),
		"Sampleapp": strconv.Quote(filepath.Join(l.bin, "sampleapp")),
	})
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("cannot write the configuration of %s: %w", w.Name, err)
	}
	return nil
}

// startShop runs a shop; at its first start the standby replicates from main.
func (l *lab) startShop(s *shop) error {
	argv := []string{filepath.Join(l.bin, "sampleapp"), "serve", "--name", s.Name, "--listen", s.Listen, "--data", s.data}
	if s != l.main() && s.process == nil {
		argv = append(argv, "--peer", l.main().URL)
	}
	p, err := l.processes.start(s.Name, filepath.Join(l.dir, s.Name+".log"), nil, argv...)
	if err != nil {
		return err
	}
	s.process = p
	return nil
}

func (l *lab) startWatcher(w *watcher, each func(line []byte)) error {
	p, err := l.processes.start(w.Name, filepath.Join(l.dir, w.Name+".log"), each,
		filepath.Join(l.bin, "watchover"), "run", "--config", w.Config)
	if err != nil {
		return err
	}
	w.process = p
	return nil
}

func (l *lab) main() *shop    { return l.shops[0] }
func (l *lab) standby() *shop { return l.shops[1] }

// Free ports are looked for below the range that Linux gives to outgoing connections
// (ip_local_port_range, from 32768 by default), so that none of those takes a port between our look and its use.
const (
	firstPort = 20000
	lastPort  = 31999
	portTries = 2000
)

// freePorts finds ports that are free for TCP and UDP on every address of the laboratory.
func freePorts(n int) ([]int, error) {
	var ports []int
	seen := map[int]bool{}
	var last error
	for range portTries {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		if seen[port] {
			continue
		}
		seen[port] = true
		if last = isFree(port); last != nil {
			continue
		}
		if ports = append(ports, port); len(ports) == n {
			return ports, nil
		}
	}
	return nil, fmt.Errorf("cannot find %d free ports between %d and %d: %w", n, firstPort, lastPort, last)
}

func isFree(port int) error {
	for _, address := range []string{ownAddress, mainAddress, nextAddress} {
		at := net.JoinHostPort(address, strconv.Itoa(port))
		tcp, err := net.Listen("tcp", at)
		if err != nil {
			return err
		}
		udp, err := net.ListenPacket("udp", at)
		if err = errors.Join(err, tcp.Close()); err != nil {
			return err
		}
		if err := udp.Close(); err != nil {
			return err
		}
	}
	return nil
}
