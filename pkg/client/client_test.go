package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/pkg/client"
)

// serve answers every request on a socket of its own.
func serve(t *testing.T, h http.HandlerFunc) *client.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Second}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	c := client.New(path)
	t.Cleanup(func() {
		c.Close()
		_ = server.Close()
		<-done
	})
	return c
}

// TestRequests holds every method to the interface: method, path and body.
func TestRequests(t *testing.T) {
	var got string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = strings.TrimSpace(r.Method + " " + r.URL.String() + " " + string(body))
		_, _ = io.WriteString(w, "{}")
	})
	ctx := t.Context()
	for _, test := range []struct {
		want string
		ask  func() error
	}{
		{"GET /v1/status", func() error { _, err := c.Status(ctx); return err }},
		{"GET /v1/status?wait=7", func() error { _, err := c.StatusAfter(ctx, 7); return err }},
		{"GET /v1/groups/shop", func() error { _, err := c.Group(ctx, "shop"); return err }},
		{"GET /v1/groups/a%2Fb%3Fc", func() error { _, err := c.Group(ctx, "a/b?c"); return err }},
		{"GET /v1/groups/shop/explain", func() error { _, err := c.Explain(ctx, "shop"); return err }},
		{"GET /v1/history", func() error { _, err := c.History(ctx, "", 0); return err }},
		{"GET /v1/history?group=shop&n=5", func() error { _, err := c.History(ctx, "shop", 5); return err }},
		{`POST /v1/groups/shop/switchover {"to":"b","force":true}`, func() error {
			_, err := c.Switchover(ctx, "shop", client.SwitchoverRequest{To: "b", Force: true, DryRun: true})
			return err
		}},
		{`POST /v1/groups/shop/switchover {"dry_run":true}`, func() error {
			_, err := c.DryRun(ctx, "shop", client.SwitchoverRequest{})
			return err
		}},
		{"POST /v1/groups/shop/abort", func() error { _, err := c.Abort(ctx, "shop"); return err }},
		{`POST /v1/groups/shop/retry {"skip_step":true}`, func() error { _, err := c.Retry(ctx, "shop", true); return err }},
		{"POST /v1/groups/shop/ack", func() error { _, err := c.Ack(ctx, "shop"); return err }},
		{`POST /v1/groups/shop/pause {"for":"2h","reason":"x"}`, func() error {
			_, err := c.Pause(ctx, "shop", client.PauseRequest{For: "2h", Reason: "x"})
			return err
		}},
		{"POST /v1/pause {}", func() error { _, err := c.Pause(ctx, "", client.PauseRequest{}); return err }},
		{"POST /v1/groups/shop/resume", func() error { _, err := c.Resume(ctx, "shop"); return err }},
		{"POST /v1/resume", func() error { _, err := c.Resume(ctx, ""); return err }},
	} {
		if err := test.ask(); err != nil || got != test.want {
			t.Errorf("got %q, %v; want %q", got, err, test.want)
		}
	}
}

func TestErrorReplies(t *testing.T) {
	status, body := 0, ""
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
	for _, test := range []struct {
		status int
		body   string
		want   client.Error
	}{
		{409, `{"error":"cannot","code":"refused","rule":"open","hint":"wait"}`, client.Error{Message: "cannot", Code: "refused", Rule: "open", Hint: "wait", Status: 409}},
		{502, "<html>", client.Error{Message: "cannot read reply: HTTP status 502", Code: "internal", Hint: "is this socket Watchover's?", Status: 502}},
		{302, "", client.Error{Message: "cannot read reply: HTTP status 302", Code: "internal", Hint: "is this socket Watchover's?", Status: 302}},
	} {
		status, body = test.status, test.body
		_, err := c.Status(t.Context())
		var got *client.Error
		if !errors.As(err, &got) || !reflect.DeepEqual(*got, test.want) {
			t.Errorf("got %+v, want %+v", got, test.want)
		}
	}
	status, body = 200, "<html>"
	if _, err := c.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot read reply") {
		t.Errorf("got %v", err)
	}
}

// TestEndlessReply shows that a reply without end does not fill the memory.
func TestEndlessReply(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		block := make([]byte, 1<<20)
		for r.Context().Err() == nil {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	})
	if _, err := c.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("got %v", err)
	}
}

// TestLostReply shows that an order which was sent and not answered is not called undone: a script that tries the next
// watcher would switch back.
func TestLostReply(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		hijacked, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_ = hijacked.Close()
	})
	_, _, err := c.Do(t.Context(), http.MethodPost, "/v1/groups/shop/switchover", struct{}{})
	if !errors.Is(err, client.ErrUnknown) || errors.Is(err, client.ErrUnreachable) {
		t.Errorf("order: %v", err)
	}
	if _, err := c.Status(t.Context()); !errors.Is(err, client.ErrUnreachable) {
		t.Errorf("question: %v", err)
	}
	gone := client.New("/nonexistent/socket")
	if _, _, err := gone.Do(t.Context(), http.MethodPost, "/v1/pause", nil); !errors.Is(err, client.ErrUnreachable) {
		t.Errorf("order that was never sent: %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	c := client.New("/nonexistent/socket")
	if _, err := c.Status(t.Context()); !errors.Is(err, client.ErrUnreachable) || err.Error() != "cannot reach watcher at /nonexistent/socket: there is no such socket" {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Status(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, client.ErrUnreachable) {
		t.Errorf("the caller's own cancelling: %v", err)
	}
}

func TestTime(t *testing.T) {
	at := client.Time{Time: time.Date(2026, 1, 1, 14, 0, 0, 1_999_999, time.FixedZone("", 2*3600))}
	text, err := json.Marshal(at)
	if err != nil || string(text) != `"2026-01-01T12:00:00.001Z"` {
		t.Errorf("got %s, %v", text, err)
	}
	var back client.Time
	if err := json.Unmarshal([]byte(`"2026-01-01T14:00:00.5+02:00"`), &back); err != nil || back.Format(time.RFC3339Nano) != "2026-01-01T12:00:00.5Z" {
		t.Errorf("got %v, %v", back, err)
	}
	for _, wrong := range []string{`"yesterday"`, `7`} {
		if err := json.Unmarshal([]byte(wrong), &back); err == nil {
			t.Errorf("%s was taken", wrong)
		}
	}
}
