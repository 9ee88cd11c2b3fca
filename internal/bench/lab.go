package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/watchover-ha/watchover/pkg/client"
)

// lab is three watchers and two sample apps in a directory of their own.
type lab struct {
	dir      string
	database bool
	servers  map[string]string   // by app: the lines below database, if it is a real server
	apps     map[string]*process // main, standby
	watchers []*process
	sockets  []*client.Client
	dns      []string
}

// process is one process of the lab and the JSON lines that it logs.
type process struct {
	*exec.Cmd
	log sink
}

// sink keeps what a process logs.
type sink struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (s *sink) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *sink) tail(most int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := s.text.Bytes()
	return string(text[max(0, len(text)-most):])
}

func (s *sink) lines() []logLine {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []logLine
	for line := range bytes.Lines(s.text.Bytes()) {
		var l logLine
		if json.Unmarshal(line, &l) == nil {
			list = append(list, l)
		}
	}
	return list
}

type logLine struct {
	Time    time.Time `json:"time"`
	Part    string    `json:"part"`
	App     string    `json:"app"`
	Verdict string    `json:"verdict"`
	Event   string    `json:"event"`
	Message string    `json:"message"`
}

// build puts the programs into dir.
func build(ctx context.Context, dir string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", dir, "./cmd/watchover", "./examples/sampleapp", "./internal/bench")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("cannot build: %w; run it in the repository", err)
	}
	return nil
}

func (l *lab) start(bin string) error {
	ports, err := freePorts(14)
	if err != nil {
		return err
	}
	l.apps = map[string]*process{}
	for i, name := range []string{"main", "standby"} {
		role := []string{"primary", "replica"}[i]
		p, err := spawn(filepath.Join(bin, "sampleapp"), "serve", "--name", name, "--listen", address(ports[i]), "--data", filepath.Join(l.dir, name),
			"--peer", "http://"+address(ports[1-i]), "--role", role)
		if err != nil {
			return err
		}
		l.apps[name] = p
	}
	if err := putMaintenance("http://" + address(ports[1])); err != nil {
		return err
	}
	for i := range 3 {
		name := fmt.Sprintf("w%d", i+1)
		socket := filepath.Join(l.dir, name+".sock")
		file := filepath.Join(l.dir, name+".yaml")
		if err := os.WriteFile(file, l.config(bin, name, socket, ports), 0o600); err != nil {
			return err
		}
		p, err := spawn(filepath.Join(bin, "watchover"), "run", "--config", file)
		if err != nil {
			return err
		}
		l.watchers = append(l.watchers, p)
		l.sockets = append(l.sockets, client.New(socket))
		l.dns = append(l.dns, address(ports[5+i]))
	}
	return nil
}

func (l *lab) config(bin, name, socket string, ports []int) []byte {
	var b bytes.Buffer
	own := int(name[1] - '1')
	fmt.Fprintf(&b, "watcher: {name: %s, data_dir: %s, socket: %s, dns_listen: [%q], http_listen: %q, log: {format: json}}\n",
		name, filepath.Join(l.dir, name), socket, address(ports[5+own]), address(ports[8+own]))
	fmt.Fprint(&b, "cluster:\n  name: bench\n  watchers:\n")
	for i := range 3 {
		fmt.Fprintf(&b, "    w%d: {address: %q, dns: [127.0.0.1]}\n", i+1, address(ports[2+i]))
	}
	fmt.Fprint(&b, "zone: {name: ha.example.com}\ngroups:\n  shop:\n    record: shop\n    apps:\n")
	for i, app := range []string{"main", "standby"} {
		url := "http://" + address(ports[i])
		fmt.Fprintf(&b, "      - name: %s\n        address: [192.0.2.%d]\n        probes: [{kind: http, url: \"%s/healthz\"}]\n", app, 10+i, url)
		fmt.Fprintf(&b, "        maintenance:\n          on: {http: {method: PUT, url: \"%[1]s/admin/maintenance\"}}\n"+
			"          off: {http: {method: DELETE, url: \"%[1]s/admin/maintenance\"}}\n          check: {http: {url: \"%[1]s/admin/maintenance\"}}\n", url)
		if lines := l.servers[app]; lines != "" {
			fmt.Fprintf(&b, "        database: %s\n", lines)
		} else if l.database {
			fmt.Fprint(&b, "        database:\n          kind: exec\n")
			for _, verb := range [][2]string{{"role", "role"}, {"freeze", "freeze"}, {"unfreeze", "unfreeze"}, {"catch_up", "catch-up"},
				{"stop_replication", "stop-replication"}, {"resume_replication", "resume-replication"}, {"promote", "promote"}} {
				fmt.Fprintf(&b, "          %s: [%s/sampleapp, db, %s, --url, %q]\n", verb[0], bin, verb[1], url)
			}
		}
	}
	fmt.Fprint(&b, "    probe: {interval: 1s, retry_interval: 200ms, timeout: 500ms, fall: 3}\n    failover: {confirm_for: 0s}\n")
	return b.Bytes()
}

// awaitArmed waits until every watcher says that nothing would hold the automation back.
func (l *lab) awaitArmed(ctx context.Context) error {
	return poll(ctx, 30*time.Second, "the cluster to be armed", func() bool {
		for _, socket := range l.sockets {
			s, err := socket.Status(ctx)
			if err != nil || len(s.Groups) != 1 || !s.Groups[0].Automation.Armed {
				return false
			}
			for _, a := range s.Groups[0].Apps {
				if len(a.Verdicts) != 3 {
					return false
				}
			}
		}
		return true
	})
}

func (l *lab) stop() {
	all := append([]*process(nil), l.watchers...)
	for _, p := range l.apps {
		all = append(all, p)
	}
	for _, p := range all {
		_ = p.Process.Signal(syscall.SIGCONT)
		_ = p.Process.Kill()
	}
	for _, p := range all {
		_ = p.Wait()
	}
	for _, c := range l.sockets {
		c.Close()
	}
	_ = os.RemoveAll(l.dir)
}

func spawn(path string, args ...string) (*process, error) {
	p := &process{Cmd: exec.Command(path, args...)}
	p.Stderr = &p.log
	p.Stdout = &p.log
	p.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.Start(); err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", path, err)
	}
	return p, nil
}

func putMaintenance(base string) error {
	return poll(context.Background(), 10*time.Second, base+" to go into maintenance", func() bool {
		req, err := http.NewRequest(http.MethodPut, base+"/admin/maintenance", nil)
		if err != nil {
			return false
		}
		resp, err := (&http.Client{Timeout: time.Second}).Do(req)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode < 300
	})
}

func poll(ctx context.Context, most time.Duration, what string, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		if ok() {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain for %s: %w", what, ctx.Err())
		case <-tick.C:
		}
	}
}

func freePorts(n int) ([]int, error) {
	var listeners []net.Listener
	defer func() {
		for _, l := range listeners {
			l.Close()
		}
	}()
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("cannot find a free port: %w", err)
		}
		listeners = append(listeners, l)
		addr, ok := l.Addr().(*net.TCPAddr)
		if !ok {
			return nil, errors.New("cannot find a free port: no TCP address")
		}
		ports = append(ports, addr.Port)
	}
	return ports, nil
}

func address(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
