package proctest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/pkg/client"
)

// A leader that is frozen in the middle of a step is overtaken, and when it thaws it does nothing any more: its program
// was killed by the guard at the attempt's deadline.
func TestAFrozenLeadersLateHandsDoNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t, settings{mode: "manual", hooks: true})
	active := "main"
	for i, point := range []string{"act:freeze:before", "hook:before:promote", "act:promote:before", "hook:after:promote"} {
		epoch := uint64(i + 1)
		must(t, os.WriteFile(c.path(TrapFile), []byte("stop "+point), 0o600))
		leader, _ := c.leader()
		askSwitchover(c, active)
		eventually(t, point+": passed", func() (bool, any) {
			_, err := os.Stat(c.path(TrapFile))
			return os.IsNotExist(err), nil
		})
		c.frozen[leader] = true
		c.waitEnded(epoch)
		c.waitRecord(other(active))
		c.judgeHands(point, leader)
		changed := len(c.changes())
		c.thaw(leader)
		c.on(leader, point+": the thawed leader follows", func(s *client.Status, _ *client.Group) bool {
			return s.Cluster.Leader != nil && *s.Cluster.Leader != leader
		})
		c.waitEnded(epoch)
		during(t, time.Second, point+": nothing more is done", func() (bool, any) { return len(c.changes()) == changed, c.changes()[changed:] })
		c.onAll(point+": the successor's end stands", func(_ *client.Status, g *client.Group) bool {
			return g.Epoch == epoch && g.Active == other(active) && g.Writer == other(active) && g.LastSwitchover.Result == "done"
		})
		c.makeReplica(active)
		c.waitReady(active)
		active = other(active)
	}
	c.judge()
	c.judgePatience()
	survivors, err := ReadLines[string](c.path(SurvivorsFile))
	must(t, err)
	if len(survivors) > 0 {
		t.Errorf("programs lived past their deadline: %v", survivors)
	}
}

// judgeHands finds programs that a frozen watcher has begun and that still run, though their time is over.
func (c *cluster) judgeHands(point, watcher string) {
	c.t.Helper()
	acts, err := ReadLines[HookLine](c.path(ActsFile))
	must(c.t, err)
	seen := false
	for _, line := range append(acts, c.hookLines()...) {
		if line.Watcher != watcher || strings.HasPrefix(line.Phase, "maintenance-") { // those are written by the app itself
			continue
		}
		seen = true
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", line.PID))
		if err == nil && strings.Contains(string(stat), "(stage)") && !strings.Contains(string(stat), ") Z ") {
			c.t.Errorf("%s: %s of %s by the frozen %s still runs", point, line.Phase, line.Step, watcher)
		}
	}
	if !seen {
		c.t.Errorf("%s: %s has begun nothing", point, watcher)
	}
}

// judgePatience finds attempts that another watcher's hands began before the last one's time was over. It holds where no
// leader could say that its hands were still.
func (c *cluster) judgePatience() {
	c.t.Helper()
	acts, err := ReadLines[HookLine](c.path(ActsFile))
	must(c.t, err)
	lines := append(acts, c.hookLines()...)
	slices.SortStableFunc(lines, func(a, b HookLine) int { return a.At.Compare(b.At) })
	taken := 0
	for i, line := range lines {
		for _, earlier := range lines[:i] {
			values, _, _ := valuesOf(earlier)
			if earlier.Switchover != line.Switchover || earlier.Step != line.Step || earlier.Watcher == line.Watcher || earlier.End ||
				slices.ContainsFunc(lines, func(end HookLine) bool { return end.End && end.Token == earlier.Token }) {
				continue
			}
			deadline, err := time.Parse(time.RFC3339, values["Deadline"])
			must(c.t, err)
			if taken++; line.At.Before(deadline) {
				c.t.Errorf("%s of %s by %s at %s, though %s had time until %s", line.Phase, line.Step, line.Watcher, line.At, earlier.Watcher, deadline)
			}
		}
	}
	if taken == 0 {
		c.t.Error("nobody took a step over")
	}
}

// What a frozen leader had sent before it was frozen may arrive late. It carries a token, and whoever checks tokens
// refuses it once a higher one has come.
func TestALateRequestOfAFrozenLeaderIsRefusedByItsToken(t *testing.T) {
	t.Parallel()
	var target string
	late := newLateProxy(&target)
	server := httptest.NewServer(late)
	defer server.Close()
	defer late.release()
	c := prepare(t, settings{mode: "manual", web: map[string]string{"standby": server.URL}})
	target = c.appAddress("standby")
	c.begin()
	askSwitchover(c, "main")
	leader := late.waitHeld(t)
	c.freeze(leader)
	c.waitEnded(1)
	c.waitRecord("standby")
	late.release()
	if status := late.waitAnswer(t); status != http.StatusConflict {
		t.Errorf("the late request was answered %d, want %d", status, http.StatusConflict)
	}
	c.thaw(leader)
	c.waitEnded(1)
	if !c.serves("standby") || c.serves("main") {
		t.Error("standby alone is to serve")
	}
	c.judge()
}

// lateProxy holds back the first order to end maintenance, as a network may that has swallowed a packet.
type lateProxy struct {
	target  *string
	held    chan string   // the watcher whose request is held back
	goOn    chan struct{} // closed by release
	answer  chan int      // status of the request that was held back
	once    sync.Once
	release func()
}

func newLateProxy(target *string) *lateProxy {
	p := &lateProxy{target: target, held: make(chan string, 1), goOn: make(chan struct{}), answer: make(chan int, 1)}
	p.release = sync.OnceFunc(func() { close(p.goOn) })
	return p
}

func (p *lateProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	first := false
	if r.Method == http.MethodDelete {
		p.once.Do(func() { first = true })
	}
	if !first {
		httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: *p.target}).ServeHTTP(w, r)
		return
	}
	p.held <- r.Header.Get("Watchover-Watcher")
	<-p.goOn
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.Method, "http://"+*p.target+r.URL.Path, nil)
	if err != nil {
		return
	}
	req.Header = r.Header.Clone()
	if resp, err := http.DefaultClient.Do(req); err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		p.answer <- resp.StatusCode
	}
}

func (p *lateProxy) waitHeld(t *testing.T) (watcher string) {
	t.Helper()
	select {
	case watcher = <-p.held:
	case <-time.After(patience):
		t.Fatal("no order to end maintenance")
	}
	return watcher
}

func (p *lateProxy) waitAnswer(t *testing.T) (status int) {
	t.Helper()
	select {
	case status = <-p.answer:
	case <-time.After(patience):
		t.Fatal("the late request got no answer")
	}
	return status
}
