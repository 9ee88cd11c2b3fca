package control_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/internal/control"
	"github.com/watchover-ha/watchover/internal/control/controltest"
	"github.com/watchover-ha/watchover/pkg/client"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// server is a control socket in a directory of its own, asked by callers of a uid that the test sets.
type server struct {
	*controltest.Backend
	*control.Server
	path string
	uid  atomic.Uint32
}

func startServer(t *testing.T, b *controltest.Backend, operators ...string) *server {
	t.Helper()
	s := &server{Backend: b, path: filepath.Join(t.TempDir(), "s")}
	var err error
	s.Server, err = control.ListenAs(control.Options{Path: s.path, Operators: operators, Backend: b, Policy: controltest.PolicyText{}, Snapshots: plain{}, Log: zerolog.Nop()}, s.uid.Load)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if _, err := os.Lstat(s.path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket is still there after Serve: %v", err)
		}
	})
	return s
}

// ask sends a raw request, since the client would not send a wrong one.
func (s *server) ask(t *testing.T, method, path, body string) (*http.Response, string) {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", s.path)
	}}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://watchover"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(text)
}

// up is a cluster with one group whose apps are both up.
func up() *controltest.Backend {
	b := controltest.New(controltest.Policy("shop"))
	b.Verdicts("shop", "main", failover.VerdictUp, "")
	b.Verdicts("shop", "standby", failover.VerdictUp, "")
	return b
}

func TestErrors(t *testing.T) {
	const nobody = 65534
	for _, test := range []struct {
		name         string
		uid          uint32
		method, path string
		body         string
		fail         error
		status       int
		code, text   string // text: a part of the error
	}{
		{name: "unknown path", method: "GET", path: "/v1/nothing", status: 404, code: "not_found", text: "no such path"},
		{name: "root", method: "GET", path: "/", status: 404, code: "not_found", text: "no such path"},
		{name: "rehearse unknown group", method: "POST", path: "/v1/groups/shap/rehearse", status: 404, code: "not_found", text: `"shap"`},
		{name: "rehearse with a field", method: "POST", path: "/v1/groups/shop/rehearse", body: `{"app":"main"}`, status: 400, code: "invalid", text: "unknown field"},
		{name: "rehearse, not allowed", uid: nobody, method: "POST", path: "/v1/groups/shop/rehearse", status: 403, code: "not_allowed", text: "uid 65534"},
		{name: "GET reprotect", method: "GET", path: "/v1/groups/shop/reprotect", status: 405, code: "invalid", text: "method is not allowed"},
		{name: "reprotect unknown group", method: "POST", path: "/v1/groups/shap/reprotect", status: 404, code: "not_found", text: `"shap"`},
		{name: "reprotect without a database", method: "POST", path: "/v1/groups/shop/reprotect", status: 409, code: "refused", text: "no database"},
		{name: "reprotect an unknown app", method: "POST", path: "/v1/groups/shop/reprotect", body: `{"app":"mian"}`, status: 400, code: "invalid", text: `"mian"`},
		{name: "reprotect, not allowed", uid: nobody, method: "POST", path: "/v1/groups/shop/reprotect", status: 403, code: "not_allowed", text: "uid 65534"},
		{name: "PUT members", method: "PUT", path: "/v1/members", status: 405, code: "invalid", text: "method is not allowed"},
		{name: "GET member", method: "GET", path: "/v1/members/w1", status: 405, code: "invalid", text: "method is not allowed"},
		{name: "GET transfer", method: "GET", path: "/v1/members/transfer", status: 405, code: "invalid", text: "method is not allowed"},
		{name: "below a member", method: "DELETE", path: "/v1/members/w1/x", status: 404, code: "not_found", text: "no such path"},
		{name: "members with a parameter", method: "GET", path: "/v1/members?all=1", status: 400, code: "invalid", text: `"all"`},
		{name: "add nobody", method: "POST", path: "/v1/members", status: 400, code: "invalid", text: "cannot add watcher without a name: a watcher needs a name"},
		{name: "add with unknown field", method: "POST", path: "/v1/members", body: `{"name":"w4","adress":"x"}`, status: 400, code: "invalid", text: `unknown field "adress"`},
		{name: "add with one address for many", method: "POST", path: "/v1/members", body: `{"name":"w4","address":"w4.example.net:1","dns":"192.0.2.4"}`, status: 400, code: "invalid", text: "dns is of the wrong type"},
		{name: "add without a port", method: "POST", path: "/v1/members", body: `{"name":"w4","address":"w4.example.net","dns":["192.0.2.4"]}`, status: 400, code: "invalid", text: "want host:port"},
		{name: "add at another's address", method: "POST", path: "/v1/members", body: `{"name":"w4","address":"w1.example.net:7653","dns":["192.0.2.4"]}`, status: 400, code: "invalid", text: "w1 already"},
		{name: "add too much", method: "POST", path: "/v1/members", body: `{"name":"` + strings.Repeat("x", control.MaxBody) + `"}`, status: 400, code: "invalid", text: "larger than"},
		{name: "remove nobody", method: "DELETE", path: "/v1/members/w9", status: 404, code: "not_found", text: `"w9"`},
		{name: "remove one called transfer", method: "DELETE", path: "/v1/members/transfer", status: 404, code: "not_found", text: `"transfer"`},
		{name: "remove with a body", method: "DELETE", path: "/v1/members/w3", body: `{"force":true}`, status: 400, code: "invalid", text: "unknown field"},
		{name: "transfer to nobody", method: "POST", path: "/v1/members/transfer", body: `{"to":"w9"}`, status: 404, code: "not_found", text: `"w9"`},
		{name: "add, not allowed", uid: nobody, method: "POST", path: "/v1/members", status: 403, code: "not_allowed", text: "uid 65534"},
		{name: "remove, not allowed", uid: nobody, method: "DELETE", path: "/v1/members/w3", status: 403, code: "not_allowed", text: "uid 65534"},
		{name: "transfer, not allowed", uid: nobody, method: "POST", path: "/v1/members/transfer", status: 403, code: "not_allowed", text: "uid 65534"},
		{name: "add without a leader", method: "POST", path: "/v1/members", body: `{"name":"w4"}`, fail: control.ErrNoLeader, status: 503, code: "no_leader", text: "nothing was done"},
		{name: "POST status", method: "POST", path: "/v1/status", status: 405, code: "invalid", text: "method is not allowed"},
		{name: "GET switchover", method: "GET", path: "/v1/groups/shop/switchover", status: 405, code: "invalid", text: "method is not allowed"},
		{name: "DELETE group", method: "DELETE", path: "/v1/groups/shop", status: 405, code: "invalid", text: "method is not allowed"},
		{name: "unknown group", method: "GET", path: "/v1/groups/shap", status: 404, code: "not_found", text: `"shap"`},
		{name: "explain unknown group", method: "GET", path: "/v1/groups/shap/explain", status: 404, code: "not_found", text: `"shap"`},
		{name: "history of unknown group", method: "GET", path: "/v1/history?group=shap", status: 404, code: "not_found", text: `"shap"`},
		{name: "history of none", method: "GET", path: "/v1/history?n=0", status: 400, code: "invalid", text: `"0"`},
		{name: "history of too many", method: "GET", path: "/v1/history?n=101", status: 400, code: "invalid", text: `"101"`},
		{name: "unknown parameter", method: "GET", path: "/v1/history?grp=shop", status: 400, code: "invalid", text: `"grp"`},
		{name: "wait for no index", method: "GET", path: "/v1/status?wait=-1", status: 400, code: "invalid", text: `"-1"`},
		{name: "unknown field", method: "POST", path: "/v1/groups/shop/switchover", body: `{"too":"standby"}`, status: 400, code: "invalid", text: `unknown field "too"`},
		{name: "wrong type", method: "POST", path: "/v1/groups/shop/switchover", body: `{"force":"yes"}`, status: 400, code: "invalid", text: "cannot read body: force is of the wrong type: string"},
		{name: "no object", method: "POST", path: "/v1/groups/shop/switchover", body: `[]`, status: 400, code: "invalid", text: "cannot read body: it is of the wrong type: array"},
		{name: "no JSON", method: "POST", path: "/v1/groups/shop/switchover", body: `to=standby`, status: 400, code: "invalid", text: "cannot read body"},
		{name: "two values", method: "POST", path: "/v1/groups/shop/switchover", body: `{}{}`, status: 400, code: "invalid", text: "more than one"},
		{name: "abort with a body", method: "POST", path: "/v1/groups/shop/abort", body: `{"force":true}`, status: 400, code: "invalid", text: "unknown field"},
		{name: "large body", method: "POST", path: "/v1/pause", body: `{"reason":"` + strings.Repeat("x", control.MaxBody) + `"}`, status: 400, code: "invalid", text: "larger than"},
		{name: "large tail", method: "POST", path: "/v1/pause", body: `{}` + strings.Repeat(" ", control.MaxBody), status: 400, code: "invalid", text: "larger than"},
		{name: "long reason", method: "POST", path: "/v1/pause", body: `{"reason":"` + strings.Repeat("x", 1025) + `"}`, status: 400, code: "invalid", text: "1025 bytes"},
		{name: "no duration", method: "POST", path: "/v1/pause", body: `{"for":"2"}`, status: 400, code: "invalid", text: `"2"`},
		{name: "pause for nothing", method: "POST", path: "/v1/pause", body: `{"for":"0s"}`, status: 400, code: "invalid", text: `"0s"`},
		{name: "negative duration", method: "POST", path: "/v1/pause", body: `{"for":"-1h"}`, status: 400, code: "invalid", text: `"-1h"`},
		{name: "order to unknown group", method: "POST", path: "/v1/groups/shap/abort", status: 404, code: "not_found", text: `"shap"`},
		{name: "unknown app", method: "POST", path: "/v1/groups/shop/switchover", body: `{"to":"mars"}`, status: 400, code: "invalid", text: `"mars"`},
		{name: "dry run to unknown app", method: "POST", path: "/v1/groups/shop/switchover", body: `{"to":"mars","dry_run":true}`, status: 400, code: "invalid", text: `"mars"`},
		{name: "refused", method: "POST", path: "/v1/groups/shop/abort", status: 409, code: "refused", text: "refused by not_open"},
		{name: "not allowed", uid: nobody, method: "POST", path: "/v1/groups/shop/switchover", status: 403, code: "not_allowed", text: "uid 65534 is not allowed"},
		{name: "not allowed, even a dry run", uid: nobody, method: "POST", path: "/v1/groups/shop/switchover", body: `{"dry_run":true}`, status: 403, code: "not_allowed", text: "uid 65534"},
		{name: "not allowed, before the body", uid: nobody, method: "POST", path: "/v1/pause", body: "nonsense", status: 403, code: "not_allowed", text: "uid 65534"},
		{name: "no leader", method: "POST", path: "/v1/pause", fail: fmt.Errorf("x: %w", control.ErrNoLeader), status: 503, code: "no_leader", text: "nothing was done"},
		{name: "unknown outcome", method: "POST", path: "/v1/pause", fail: control.ErrUnknown, status: 500, code: "internal", text: "cannot tell"},
		{name: "out of time", method: "POST", path: "/v1/pause", fail: context.DeadlineExceeded, status: 500, code: "internal", text: "cannot tell"},
		{name: "another error", method: "POST", path: "/v1/pause", fail: errors.New("disk full"), status: 500, code: "internal", text: "disk full"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := startServer(t, up())
			s.uid.Store(test.uid)
			s.FailWith(test.fail)
			before := s.State()
			response, text := s.ask(t, test.method, test.path, test.body)
			var reply struct{ Error, Code, Hint string }
			if err := json.Unmarshal([]byte(text), &reply); err != nil {
				t.Fatalf("the reply is no JSON: %q", text)
			}
			if response.StatusCode != test.status || reply.Code != test.code || !strings.Contains(reply.Error, test.text) {
				t.Errorf("got %d %s, want %d, code %s, error with %q", response.StatusCode, text, test.status, test.code, test.text)
			}
			if !strings.HasPrefix(reply.Error, "cannot ") {
				t.Errorf("the error %q does not say what could not be done", reply.Error)
			}
			if response.StatusCode == 405 && response.Header.Get("Allow") == "" {
				t.Error("no Allow header")
			}
			if (response.StatusCode == 503) != (response.Header.Get("Retry-After") != "") {
				t.Errorf("Retry-After is %q", response.Header.Get("Retry-After"))
			}
			if test.code != "refused" && len(s.Proposed()) > 0 && s.State().Groups["shop"].Pause != before.Groups["shop"].Pause {
				t.Error("it changed something all the same")
			}
		})
	}
}

func TestReadersMayRead(t *testing.T) {
	s := startServer(t, up())
	s.uid.Store(65534)
	for _, path := range []string{"/v1/status", "/v1/groups/shop", "/v1/groups/shop/explain", "/v1/history", "/v1/history?group=shop&n=3", "/v1/members"} {
		response, text := s.ask(t, "GET", path, "")
		if response.StatusCode != 200 || response.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s", path, response.StatusCode, text)
		}
	}
}

func TestReadsNeedNoLeader(t *testing.T) {
	s := startServer(t, up())
	s.FailWith(control.ErrNoLeader)
	s.EditLocal(func(l *control.Local) { l.Leader, l.HasQuorum = "", false })
	response, text := s.ask(t, "GET", "/v1/status", "")
	if response.StatusCode != 200 || !strings.Contains(text, `"leader":null`) {
		t.Errorf("got %d %s", response.StatusCode, text)
	}
}

func TestWhoMayChange(t *testing.T) {
	for _, test := range []struct {
		name string
		uid  uint32
		want int
	}{
		{"root", 0, 200},
		{"the daemon's own user", uint32(os.Getuid()), 200},
		{"an operator", 1, 200}, // daemon, on every Debian
		{"anybody else", 2, 403},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := startServer(t, up(), "daemon", "nobody-of-that-name")
			s.uid.Store(test.uid)
			if response, text := s.ask(t, "POST", "/v1/pause", ""); response.StatusCode != test.want {
				t.Fatalf("got %d %s, want %d", response.StatusCode, text, test.want)
			}
			if test.want == 200 {
				if by := s.Proposed()[0].By; by != fmt.Sprintf("uid:%d", test.uid) {
					t.Errorf("recorded as %q", by)
				}
			}
		})
	}
	t.Run("operators are replaced", func(t *testing.T) {
		s := startServer(t, up(), "daemon")
		if err := s.SetOperators([]string{"bin", "nobody-of-that-name"}); err == nil || !strings.Contains(err.Error(), "nobody-of-that-name") {
			t.Errorf("got %v", err)
		}
		for uid, want := range map[uint32]int{1: 403, 2: 200} {
			s.uid.Store(uid)
			if response, _ := s.ask(t, "POST", "/v1/pause", ""); response.StatusCode != want {
				t.Errorf("uid %d: %d, want %d", uid, response.StatusCode, want)
			}
		}
	})
}

func TestSwitchover(t *testing.T) {
	s := startServer(t, up())
	c := client.New(s.path)
	defer c.Close()
	plan, err := c.DryRun(t.Context(), "shop", client.SwitchoverRequest{})
	if err != nil || plan.Kind != "planned" || plan.To != "standby" || len(plan.Steps) == 0 || plan.Refused != "" {
		t.Fatalf("dry run: %+v, %v", plan, err)
	}
	if len(s.Proposed()) != 0 {
		t.Fatal("the dry run proposed something")
	}
	response, text := s.ask(t, "POST", "/v1/groups/shop/switchover", `{"to":"main"}`)
	if want := `{"already_active":true,"active":"main","note":"already active"}`; response.StatusCode != 200 || strings.TrimSpace(text) != want {
		t.Errorf("to the active app: %d %s", response.StatusCode, text)
	}
	response, text = s.ask(t, "POST", "/v1/groups/shop/switchover", `{"to":"standby"}`)
	var started client.Switchover
	if err := json.Unmarshal([]byte(text), &started); err != nil || response.StatusCode != 202 {
		t.Fatalf("%d %s", response.StatusCode, text)
	}
	if !strings.Contains(text, `"exceptions":[]`) {
		t.Errorf("no list of exceptions: %s", text)
	}
	if started.ID == 0 || started.From != "main" || started.To != "standby" || started.By != "uid:0" || len(started.Steps) == 0 {
		t.Errorf("got %s", text)
	}
	if id := s.Proposed()[0].ID; len(id) != 32 || id == s.Proposed()[1].ID {
		t.Errorf("the command's id is %q", id)
	}
	response, text = s.ask(t, "POST", "/v1/groups/shop/switchover", "")
	if response.StatusCode != 409 || !strings.Contains(text, `"rule":"open"`) {
		t.Errorf("a second one: %d %s", response.StatusCode, text)
	}
	plan, err = c.DryRun(t.Context(), "shop", client.SwitchoverRequest{})
	if err != nil || !strings.HasPrefix(plan.Refused, "open: ") {
		t.Errorf("dry run while one is open: %+v, %v", plan, err)
	}
}

// The log has a lag only as of the last change that mattered; a person who forces must see what is at risk now. An outage
// ends that: from then on the evidence in the log tells more than a look at a replica that nobody feeds.
func TestDryRunShowsWhatThisWatcherSees(t *testing.T) {
	s := startServer(t, up())
	c := client.New(s.path)
	defer c.Close()
	bytes, seconds := int64(900_000_000), 300.0
	sight := failover.Observation{Role: failover.RoleReplica, Streaming: true, LagBytes: &bytes, LagSeconds: &seconds}
	dryRun := func() *client.DryRun {
		s.EditLocal(func(l *control.Local) {
			l.Databases = map[string]map[string]failover.Observation{"shop": {"standby": sight}}
		})
		plan, err := c.DryRun(t.Context(), "shop", client.SwitchoverRequest{Force: true})
		if err != nil || plan.Refused != "" {
			t.Fatalf("dry run: %+v, %v", plan, err)
		}
		return plan
	}
	if r := dryRun().AtRisk; r.Bytes == nil || *r.Bytes != bytes || r.Seconds == nil || *r.Seconds != seconds {
		t.Errorf("at risk: %+v", r)
	}
	sight.RiskSeconds = &seconds
	if r := dryRun().AtRisk; r.Bytes != nil && *r.Bytes == bytes {
		t.Errorf("at risk in an outage: %+v", r)
	}
}

func TestDryRunWithoutQuorum(t *testing.T) {
	s := startServer(t, up())
	c := client.New(s.path)
	defer c.Close()
	s.EditLocal(func(l *control.Local) { l.HasQuorum = false })
	plan, err := c.DryRun(t.Context(), "shop", client.SwitchoverRequest{})
	if err != nil || !strings.HasPrefix(plan.Refused, "no_quorum: ") || len(plan.Steps) != 0 {
		t.Errorf("dry run: %+v, %v", plan, err)
	}
}

func TestOrders(t *testing.T) {
	s := startServer(t, up())
	c := client.New(s.path)
	defer c.Close()
	ctx := t.Context()
	paused := func() *failover.Pause { return s.State().Groups["shop"].Pause }
	if _, err := c.Pause(ctx, "shop", client.PauseRequest{For: "1h30m", Reason: "work"}); err != nil {
		t.Fatal(err)
	}
	if p := paused(); p == nil || p.For != 90*time.Minute || p.Reason != "work" || p.By != "uid:0" {
		t.Errorf("paused: %+v", p)
	}
	if _, err := c.Resume(ctx, "shop"); err != nil || paused() != nil {
		t.Errorf("resume: %v, %+v", err, paused())
	}
	if _, err := c.Pause(ctx, "", client.PauseRequest{}); err != nil || paused() == nil {
		t.Errorf("pause all: %v, %+v", err, paused())
	}
	if _, err := c.Resume(ctx, ""); err != nil || paused() != nil {
		t.Errorf("resume all: %v, %+v", err, paused())
	}
	if reply, err := c.Ack(ctx, "shop"); err != nil || reply.Note == "" || reply.Index != s.State().Index {
		t.Errorf("ack: %+v, %v", reply, err)
	}
	var refused *client.Error
	if _, err := c.Abort(ctx, "shop"); !errors.As(err, &refused) || refused.Code != client.CodeRefused || refused.Rule != "not_open" || refused.Status != 409 {
		t.Errorf("abort: %v", err)
	}
	if _, err := c.Retry(ctx, "shop", true); !errors.As(err, &refused) || refused.Code != client.CodeRefused {
		t.Errorf("retry: %v", err)
	}
	commands := s.Proposed()
	if last := commands[len(commands)-1]; last.Retry == nil || !last.Retry.Skip {
		t.Errorf("retry --skip-step proposed %+v", last)
	}
}

// late shows new states only when the test lets it: a follower that has not yet heard of a commit.
type late struct {
	*controltest.Backend
	old  *failover.State
	show chan struct{} // closed when the newest state may be seen
}

func (l *late) State() *failover.State {
	select {
	case <-l.show:
		return l.Backend.State()
	default:
		return l.old
	}
}

func (l *late) Watch() <-chan struct{} { return l.show }

// TestOrderIsSeenAfterwards shows that the reply to an order waits until this watcher's own state has it.
func TestOrderIsSeenAfterwards(t *testing.T) {
	b := &late{Backend: up(), show: make(chan struct{})}
	b.old = b.Backend.State()
	path := filepath.Join(t.TempDir(), "s")
	s, err := control.Listen(control.Options{Path: path, Backend: b, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	c := client.New(path)
	replied := make(chan *client.Started, 1)
	go func() {
		started, err := c.Switchover(ctx, "shop", client.SwitchoverRequest{})
		if err != nil {
			t.Error(err)
		}
		replied <- started
	}()
	for len(b.Proposed()) == 0 {
		select {
		case <-replied:
			t.Fatal("there was a reply before the order was given")
		case <-time.After(time.Millisecond):
		}
	}
	close(b.show)
	if started := <-replied; started == nil || started.From != "main" || len(started.Steps) == 0 {
		t.Errorf("got %+v", started)
	}
	c.Close()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestClientReads(t *testing.T) {
	s := startServer(t, up())
	c := client.New(s.path)
	defer c.Close()
	status, err := c.Status(t.Context())
	if err != nil || status.Watcher != "w1" || *status.Cluster.Leader != "w2" || len(status.Groups) != 1 {
		t.Fatalf("status: %+v, %v", status, err)
	}
	group, err := c.Group(t.Context(), "shop")
	if err != nil || group.Active != "main" || !group.Apps[1].Ready {
		t.Errorf("group: %+v, %v", group, err)
	}
	explanation, err := c.Explain(t.Context(), "shop")
	if err != nil || explanation.WouldSwitch || len(explanation.Conditions) == 0 {
		t.Errorf("explain: %+v, %v", explanation, err)
	}
	history, err := c.History(t.Context(), "shop", 0)
	if err != nil || history.Switchovers == nil || len(history.Switchovers) != 0 {
		t.Errorf("history: %+v, %v", history, err)
	}
}

func TestWaitForNews(t *testing.T) {
	s := startServer(t, up())
	c := client.New(s.path)
	defer c.Close()
	index := s.State().Index
	got := make(chan *client.Status, 1)
	go func() {
		status, err := c.StatusAfter(t.Context(), index)
		if err != nil {
			t.Error(err)
		}
		got <- status
	}()
	s.Verdicts("shop", "main", failover.VerdictDown, "connection refused")
	if status := <-got; status == nil || status.Index != index+1 {
		t.Errorf("got %+v, want index %d", status, index+1)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	s := startServer(t, up())
	const reader, operator = 65534, 0
	open := func(uid uint32) net.Conn {
		s.uid.Store(uid)
		conn, err := net.Dial("unix", s.path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	answers := func(conn net.Conn) bool {
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.WriteString(conn, "GET /v1/history HTTP/1.1\r\nHost: watchover\r\n\r\n"); err != nil {
			return false
		}
		n, _ := conn.Read(make([]byte, 1))
		return n == 1
	}
	for i := range control.MaxConnections - control.Reserved {
		if !answers(open(reader)) {
			t.Fatalf("connection %d was turned away", i)
		}
	}
	if answers(open(reader)) {
		t.Error("a reader got a reserved connection")
	}
	first := open(operator)
	if !answers(first) {
		t.Error("the operator was locked out by readers")
	}
	for range control.Reserved - 1 {
		if !answers(open(operator)) {
			t.Error("a reserved connection was turned away")
		}
	}
	if answers(open(operator)) {
		t.Error("there is no bound")
	}
	_ = first.Close()
	for deadline := time.Now().Add(10 * time.Second); !answers(open(operator)); { // the server learns of the closing by and by
		if time.Now().After(deadline) {
			t.Fatal("a closed connection made no room")
		}
	}
}

func TestSocket(t *testing.T) {
	listen := func(path, group string) error {
		s, err := control.Listen(control.Options{Path: path, Group: group, Backend: up(), Log: zerolog.Nop()})
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		return s.Serve(ctx)
	}
	t.Run("mode and real credentials", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "run", "s")
		s, err := control.Listen(control.Options{Path: path, Backend: up(), Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Serve(ctx) }()
		info, err := os.Lstat(path)
		if err != nil || info.Mode().Perm() != 0o660 || info.Mode().Type() != fs.ModeSocket {
			t.Errorf("got %v, %v", info.Mode(), err)
		}
		c := client.New(path)
		if _, err := c.Pause(ctx, "shop", client.PauseRequest{}); err != nil {
			t.Errorf("the daemon's own user: %v", err)
		}
		c.Close()
		if err := listen(path, ""); err == nil || !strings.Contains(err.Error(), "another daemon answers") {
			t.Errorf("a second daemon: %v", err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Run("a stale socket is taken over", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "s")
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		_ = l.Close()
		if err := listen(path, ""); err != nil {
			t.Error(err)
		}
	})
	t.Run("a file is not removed", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "s")
		if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := listen(path, ""); err == nil || !strings.Contains(err.Error(), "not a socket") {
			t.Errorf("got %v", err)
		}
		if text, _ := os.ReadFile(path); !bytes.Equal(text, []byte("precious")) {
			t.Error("the file is gone")
		}
	})
	t.Run("a successor's socket is left alone", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "s")
		s, err := control.Listen(control.Options{Path: path, Backend: up(), Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := s.Serve(ctx); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("the successor's socket: %v", err)
		}
	})
	t.Run("a directory that everybody may write", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o777); err != nil { //nolint:gosec // that is the test
			t.Fatal(err)
		}
		if err := listen(filepath.Join(dir, "s"), ""); err == nil || !strings.Contains(err.Error(), "writable by everybody") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no directory", func(t *testing.T) {
		if err := listen(filepath.Join(t.TempDir(), "a", "b", "s"), ""); err == nil {
			t.Error("no error")
		}
	})
	t.Run("long path", func(t *testing.T) {
		if err := listen("/tmp/"+strings.Repeat("x", 110), ""); err == nil || !strings.Contains(err.Error(), "longer than") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("unknown group", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "s")
		if err := listen(path, "no-such-group"); err == nil || !strings.Contains(err.Error(), "no-such-group") {
			t.Errorf("got %v", err)
		}
		if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 0 {
			t.Errorf("left behind: %v", entries)
		}
	})
}

// TestStopEndsWaiting shows that a long poll does not hold up the daemon's stop.
func TestStopEndsWaiting(t *testing.T) {
	b := up()
	path := filepath.Join(t.TempDir(), "s")
	s, err := control.Listen(control.Options{Path: path, Backend: b, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	c := client.New(path)
	defer c.Close()
	polled := make(chan error, 1)
	go func() {
		_, err := c.StatusAfter(context.Background(), b.State().Index)
		polled <- err
	}()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := <-polled; err != nil && !errors.Is(err, client.ErrUnreachable) {
		t.Errorf("got %v", err)
	}
}
