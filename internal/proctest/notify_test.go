package proctest

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// delivery is one event that arrived at a receiver.
type delivery struct {
	ID   string    `json:"id"`
	Seq  uint64    `json:"seq"`
	Type string    `json:"type"`
	Text string    `json:"text"`
	By   string    // the watcher that sent it
	At   time.Time // of its arrival
}

// receiver is a webhook that can be out of reach.
type receiver struct {
	t       *testing.T
	address string
	mu      sync.Mutex
	server  *http.Server // guarded by mu; nil: out of reach
	got     []delivery   // guarded by mu
}

const webhookPath = "/hooks/T0B0-hunter2" // a secret

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	r := &receiver{t: t, address: l.Addr().String()}
	t.Cleanup(r.down)
	return r
}

func (r *receiver) up() {
	r.t.Helper()
	var l net.Listener
	eventually(r.t, "the receiver's port", func() (bool, any) {
		var err error
		l, err = net.Listen("tcp", r.address)
		return err == nil, err
	})
	s := &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second}
	r.mu.Lock()
	r.server = s
	r.mu.Unlock()
	go func() { _ = s.Serve(l) }()
}

func (r *receiver) down() {
	r.mu.Lock()
	s := r.server
	r.server = nil
	r.mu.Unlock()
	if s != nil {
		_ = s.Close()
	}
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	text, err := io.ReadAll(io.LimitReader(q.Body, 64<<10))
	d := delivery{By: q.Header.Get("Watchover-Watcher"), At: time.Now()}
	if err != nil || json.Unmarshal(text, &d) != nil || q.URL.Path != webhookPath || q.Header.Get("Idempotency-Key") != d.ID {
		http.Error(w, "not understood", http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, d)
}

func (r *receiver) deliveries() []delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// types are those of the distinct events that arrived, in the order of their first arrival.
func (r *receiver) types() string {
	seen := map[string]bool{}
	var list []string
	for _, d := range r.deliveries() {
		if !seen[d.ID] {
			seen[d.ID] = true
			list = append(list, d.Type)
		}
	}
	return strings.Join(list, " ")
}

// A pager that is down while it matters is told everything once it is up, by whoever leads then.
func TestWebhookThatIsDownIsToldByTheNextLeader(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	c := prepare(t, settings{mode: "manual", notify: `[{webhook: {url_file: hook.url}}, {exec: [/bin/sh, -c, "cat >> paged"]}]`})
	must(t, os.WriteFile(c.path("hook.url"), []byte("http://"+r.address+webhookPath+"\n"), 0o600))
	c.begin()
	down := time.Now()
	leader, _ := c.leader()
	askSwitchover(c, "main")
	c.waitEnded(1)
	c.waitRecord("standby")
	c.watchers[leader].kill()
	c.leader()
	if wait := os.Getenv("PROCTEST_DOWN"); wait != "" { // a minute, for a person who wants to see it
		d, err := time.ParseDuration(wait)
		must(t, err)
		during(t, time.Until(down.Add(d)), "two watchers run", func() (bool, any) { return len(c.running()) == 2, c.running() })
	}
	if n := len(r.deliveries()); n != 0 {
		t.Fatalf("%d events arrived where nobody listens", n)
	}
	r.up()
	back := time.Now()
	want := "switchover_opened marked switchover_ended" // marked: its database was the writer
	eventually(t, "all is told", func() (bool, any) { return strings.HasSuffix(r.types(), want), r.types() })
	for _, d := range r.deliveries() {
		t.Logf("%5.1f s after the start, %4.1f s after the receiver came up: %s by %s: %s (%s)", d.At.Sub(down).Seconds(), d.At.Sub(back).Seconds(), d.Type, d.By, d.Text, d.ID)
		if d.By == leader {
			t.Errorf("told by %s, which is dead", d.By)
		}
	}
	if !slices.IsSortedFunc(r.deliveries(), func(a, b delivery) int { return int(a.Seq) - int(b.Seq) }) {
		t.Error("told out of order")
	}
	c.pagedWith(r)
	for _, name := range names {
		log, err := os.ReadFile(c.path(name + ".log"))
		must(t, err)
		if strings.Contains(string(log), "hunter2") {
			t.Errorf("the log of %s holds the webhook's URL", name)
		}
	}
	for _, name := range c.running() {
		c.holdsNoSecret(name)
	}
}

// pagedWith compares what the program was told with what the webhook was.
func (c *cluster) pagedWith(r *receiver) {
	c.t.Helper()
	// A program takes longer than a webhook to be told, so it may still be at it.
	eventually(c.t, "the program was told what the webhook was", func() (bool, any) { return c.paged() == r.types(), c.paged() + ", not " + r.types() })
}

// paged are the types of the distinct events that the program has been told whole.
func (c *cluster) paged() string {
	text, err := os.ReadFile(c.path("paged"))
	must(c.t, err)
	var list []string
	seen := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		var d delivery
		if !strings.HasSuffix(line, "\n") {
			break // it is being written
		}
		must(c.t, json.Unmarshal([]byte(line), &d))
		if !seen[d.ID] {
			seen[d.ID] = true
			list = append(list, d.Type)
		}
	}
	return strings.Join(list, " ")
}

// holdsNoSecret looks into everything that a watcher keeps.
func (c *cluster) holdsNoSecret(name string) {
	c.t.Helper()
	must(c.t, os.CopyFS(c.path(name+".copy"), os.DirFS(c.path(name))))
	text, err := os.ReadFile(c.path(name+".copy", "raft.db"))
	must(c.t, err)
	if strings.Contains(string(text), "hunter2") {
		c.t.Errorf("the log store of %s holds the webhook's URL", name)
	}
	if !strings.Contains(string(text), "hook.url") {
		c.t.Error(fmt.Errorf("the log store of %s does not even name the file: this test looks in the wrong place", name))
	}
}
