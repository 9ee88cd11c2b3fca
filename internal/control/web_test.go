package control_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/internal/control"
	"github.com/watchover-ha/watchover/internal/control/controltest"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// startWeb starts the read-only listener and returns a function that asks it.
func startWeb(t *testing.T, b *controltest.Backend) func(method, path string) (*http.Response, string) {
	t.Helper()
	registry := prometheus.NewRegistry()
	if err := control.Register(registry, b); err != nil {
		t.Fatal(err)
	}
	w, err := control.ListenWeb(control.WebOptions{Listen: "127.0.0.1:0", Backend: b, Gatherer: registry, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Serve(ctx) }()
	transport := &http.Transport{}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return func(method, path string) (*http.Response, string) {
		request, err := http.NewRequestWithContext(t.Context(), method, "http://"+w.Addr().String()+path, nil)
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
}

func TestHealthEndpoints(t *testing.T) {
	for _, test := range []struct {
		name        string
		change      func(*control.Local)
		live, ready int
		reason      string
	}{
		{"well", func(*control.Local) {}, 200, 200, "ok"},
		{"no leader", func(l *control.Local) { l.Leader = "" }, 200, 503, "no contact with a leader"},
		{"catching up", func(l *control.Local) { l.CatchingUp = true }, 200, 503, "catching up with the cluster after the start"},
		{"isolated", func(l *control.Local) { l.Isolated = true }, 200, 503, "no contact with a quorum"},
		{"behind", func(l *control.Local) { l.CommitIndex = 99 }, 200, 503, "of 99 entries"},
		{"behind", func(l *control.Local) { l.Behind = "its log has stood still at 7 for 10s" }, 200, 503, "stood still at 7"},
		{"stuck", func(l *control.Local) { l.Stuck = "nothing applied for 1m" }, 503, 503, "nothing applied for 1m"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := up()
			b.EditLocal(test.change)
			ask := startWeb(t, b)
			if live, text := ask("GET", "/livez"); live.StatusCode != test.live {
				t.Errorf("livez: %d %s", live.StatusCode, text)
			}
			if ready, text := ask("GET", "/readyz"); ready.StatusCode != test.ready || !strings.Contains(text, test.reason) {
				t.Errorf("readyz: %d %s", ready.StatusCode, text)
			}
		})
	}
}

// TestWebChangesNothing shows that the listener has no other way than reading.
func TestWebChangesNothing(t *testing.T) {
	b := up()
	ask := startWeb(t, b)
	for _, path := range []string{"/", "/metrics", "/livez", "/v1/pause", "/v1/status"} {
		if response, _ := ask("POST", path); response.StatusCode/100 == 2 {
			t.Errorf("POST %s: %d", path, response.StatusCode)
		}
	}
	if response, _ := ask("GET", "/v1/status"); response.StatusCode != 404 {
		t.Errorf("GET /v1/status: %d", response.StatusCode)
	}
	if len(b.Proposed()) != 0 {
		t.Error("something was proposed")
	}
}

func TestPage(t *testing.T) {
	b := up()
	const evil = `<script>alert(1)</script>`
	b.Verdicts("shop", "standby", failover.VerdictDown, evil)
	b.Commit(failover.Command{By: "uid:0", Pause: &failover.PauseOrder{Reason: `"><img src=x>`}})
	ask := startWeb(t, b)
	response, text := ask("GET", "/")
	if response.StatusCode != 200 || !strings.HasPrefix(response.Header.Get("Content-Type"), "text/html") {
		t.Fatalf("%d %s", response.StatusCode, text)
	}
	for _, want := range []string{"shop.ha.example.com.", "standby", "paused", "&lt;script&gt;", "leader w2"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, not := range []string{"<script", "<img", "http://", "https://", "ZgotmplZ"} {
		if strings.Contains(text, not) {
			t.Errorf("the page has %q", not)
		}
	}
	style := regexp.MustCompile(`(?s)<style>(.*)</style>`).FindStringSubmatch(text)
	if style == nil {
		t.Fatal("the page has no style")
	}
	sum := sha256.Sum256([]byte(style[1]))
	if policy := response.Header.Get("Content-Security-Policy"); !strings.Contains(policy, base64.StdEncoding.EncodeToString(sum[:])) || !strings.Contains(policy, "default-src 'none'") {
		t.Errorf("the policy %q does not allow the page's own style", policy)
	}
}

// TestPageInSwitchover shows an open switchover with its steps, and a cluster without groups.
func TestPageInSwitchover(t *testing.T) {
	b := up()
	if r := b.Commit(failover.Command{By: "uid:0", Request: &failover.Request{Group: "shop"}}); !r.Accepted {
		t.Fatalf("%+v", r)
	}
	if _, text := startWeb(t, b)("GET", "/"); !strings.Contains(text, "maintenance-on") || !strings.Contains(text, "switching") {
		t.Errorf("got %s", text)
	}
	if _, text := startWeb(t, controltest.New(controltest.Policy()))("GET", "/"); !strings.Contains(text, "no groups yet") {
		t.Errorf("got %s", text)
	}
}
