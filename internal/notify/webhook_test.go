package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/internal/localfile"
	"github.com/watchover-ha/watchover/internal/localfile/hung"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// secret is in every URL of these tests, and must be in nothing that is written down.
const secret = "T0B0-hunter2"

func notice() failover.Notice {
	return failover.Notice{ID: "c1-0-7", Lost: 2, Event: failover.Event{Seq: 7, Time: time.Date(2026, 1, 1, 12, 0, 0, 500e6, time.UTC), Type: "halted", Group: "shop", App: "standby",
		Text: "switchover 45 of shop cannot go on by itself", Data: map[string]string{"switchover": "45", "step": "promote"}}}
}

// poster is a notifier with a file that holds url.
func poster(t *testing.T, url string) *Notifier {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hook.url"), []byte(url), 0o600); err != nil {
		t.Fatal(err)
	}
	return New(Options{Watcher: "w1", Dir: dir, Log: zerolog.Nop()})
}

func post(t *testing.T, n *Notifier, patience time.Duration) error {
	t.Helper()
	return postTo(t, n, &failover.Webhook{URLFile: "hook.url"}, patience)
}

func postTo(t *testing.T, n *Notifier, w *failover.Webhook, patience time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	m, err := newMessage(notice(), "w1", "shop", 3, time.Unix(1767268800, 0))
	if err != nil {
		t.Fatal(err)
	}
	return n.post(ctx, w, m)
}

// The URL lies on a mount that hangs: the attempt is over in time, so that leadership can be handed over.
func TestAURLFileThatHangs(t *testing.T) {
	n := poster(t, "http://127.0.0.1:1/")
	hung.File(t, n.resolve("hook.url"))
	if err := post(t, n, 50*time.Millisecond); !errors.Is(err, localfile.ErrHangs) {
		t.Errorf("got %v", err)
	}
}

func TestWhatAWebhookGets(t *testing.T) {
	var got *http.Request
	var text []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		text, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusAccepted)
	}))
	defer server.Close()
	if err := post(t, poster(t, server.URL+"/"+secret+"\n"), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	want := `{"id":"c1-0-7","seq":7,"time":"2026-01-01T12:00:00.500Z","type":"halted","group":"shop","app":"standby",` +
		`"text":"switchover 45 of shop cannot go on by itself","data":{"step":"promote","switchover":"45"},"dropped":2}` + "\n"
	if string(text) != want {
		t.Errorf("got  %swant %s", text, want)
	}
	for name, value := range map[string]string{
		"Idempotency-Key": "c1-0-7", "Content-Type": "application/json", "Watchover-Group": "shop", "Watchover-App": "standby", "Watchover-Switchover": "45",
		"Watchover-Step": "promote", "Watchover-Attempt": "3", "Watchover-Watcher": "w1", "Watchover-Deadline": "2026-01-01T12:00:00.000Z",
	} {
		if got.Header.Get(name) != value {
			t.Errorf("%s: %q, want %q", name, got.Header.Get(name), value)
		}
	}
	if got.Method != http.MethodPost || got.URL.Path != "/"+secret {
		t.Errorf("%s %s", got.Method, got.URL.Path)
	}
}

// Whatever goes wrong, the URL is in no error.
func TestErrorsKeepTheSecret(t *testing.T) {
	answer := func(f http.HandlerFunc) string {
		s := httptest.NewServer(f)
		t.Cleanup(s.Close)
		return s.URL
	}
	released := make(chan struct{})
	defer close(released)
	elsewhere := answer(func(http.ResponseWriter, *http.Request) { t.Error("the event was sent to another host") })
	withTLS := httptest.NewUnstartedServer(http.NotFoundHandler())
	withTLS.Config.ErrorLog = stdlog.New(io.Discard, "", 0)
	withTLS.StartTLS()
	defer withTLS.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for _, tc := range []struct{ name, url, want string }{
		{"refused", "http://" + closed.Addr().String(), "connection refused"},
		{"no such host", "http://" + secret + ".invalid", "its host name"},
		{"not 2xx", answer(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, secret, http.StatusForbidden) }), "answered 403"},
		{"silent", answer(func(http.ResponseWriter, *http.Request) { <-released }), "no answer in time"},
		{"hangs up", answer(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), "closed without an answer"},
		{"redirects to another host", answer(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere+"/"+secret, http.StatusTemporaryRedirect)
		}), "answered 307"},
		{"redirects as GET", answer(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/"+secret+"2", http.StatusFound) }), "answered 302"},
		{"redirects for ever", answer(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusPermanentRedirect)
		}), "answered 308"},
		{"unknown authority", withTLS.URL, "unknown authority"},
		{"TLS asked of one without", strings.Replace(answer(http.NotFound), "http:", "https:", 1), "does not speak TLS"},
		{"no URL", "hooks.example.com", "want one line with a URL"},
		{"bad URL", "http://[::1", "want one line with a URL"},
		{"odd URL", "http://127.0.0.1:1/%zz", "want one line with a URL"},
		{"two lines", "http://127.0.0.1:1/a\nhttp://127.0.0.1:1/b", "want one line with a URL"},
		{"long", "http://127.0.0.1:1/" + strings.Repeat("x", maxURLFile), "larger than"},
	} {
		url := tc.url + "/" + secret
		err := post(t, poster(t, url), time.Second)
		switch {
		case err == nil:
			t.Errorf("%s: no error", tc.name)
		case !strings.Contains(err.Error(), tc.want):
			t.Errorf("%s: %v, want %q in it", tc.name, err, tc.want)
		case strings.Contains(strings.ToLower(err.Error()), strings.ToLower(secret)), strings.Contains(err.Error(), "127.0.0.1"):
			t.Errorf("%s: the URL is in %v", tc.name, err)
		}
	}
	if err := post(t, New(Options{Dir: t.TempDir()}), time.Second); err == nil || !strings.Contains(err.Error(), "hook.url") {
		t.Errorf("no file: %v", err)
	}
}

// A URL in a variable is that of a file. Errors and the log name the variable, and nothing of what is in it.
func TestURLInAVariable(t *testing.T) {
	const name = "NOTIFY_TEST_URL"
	posted, status := "", http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		posted = r.URL.Path
		w.WriteHeader(status)
	}))
	n, w := New(Options{Watcher: "w1", Dir: t.TempDir(), Log: zerolog.Nop()}), &failover.Webhook{URLEnv: name}
	fails := func(what, want string) {
		t.Helper()
		err := postTo(t, n, w, time.Second)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "environment variable "+name) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
	}
	fails("not set", "it is not set")
	for text, want := range map[string]string{
		"": "want one line with a URL", "http://127.0.0.1:1/" + secret + "\nx": "want one line with a URL", "hooks.example.com/" + secret: "want one line with a URL",
		"http://127.0.0.1:1/" + secret + strings.Repeat("x", maxURLFile): "larger than",
	} {
		t.Setenv(name, text)
		fails("bad", want)
	}
	t.Setenv(name, server.URL+"/"+secret+"\n")
	if err := postTo(t, n, w, 10*time.Second); err != nil || posted != "/"+secret {
		t.Errorf("posted to %q: %v", posted, err)
	}
	status = http.StatusForbidden
	fails("refused", "answered 403")
	server.Close()
	fails("closed", "connection refused")
	if got := label(failover.Action{Webhook: w}); got != "webhook "+name {
		t.Errorf("in the log it is %q", got)
	}
}

func TestRedirectionOnTheSameHostIsFollowed(t *testing.T) {
	var text []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/old" {
			http.Redirect(w, r, "/new", http.StatusTemporaryRedirect)
			return
		}
		text, _ = io.ReadAll(r.Body)
	}))
	defer server.Close()
	if err := post(t, poster(t, server.URL+"/old"), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte(`"id":"c1-0-7"`)) {
		t.Errorf("after the redirection: %q", text)
	}
}

// An answer without end must cost neither memory nor time.
func TestAnswerIsBounded(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}))
	defer server.Close()
	if err := post(t, poster(t, server.URL), 10*time.Second); err != nil {
		t.Error(err)
	}
}

// The first failure and the recovery are lines in the log; neither names the URL.
func TestLogOfAFailingWebhook(t *testing.T) {
	var lines bytes.Buffer
	n := poster(t, "http://127.0.0.1:1/"+secret)
	n.o.Log = zerolog.New(&lines)
	c := newCourier(n, nil, place{"shop", "x"}, failover.Action{Webhook: &failover.Webhook{URLFile: "hook.url"}})
	for range 3 {
		if c.bring(t.Context(), notice()) {
			t.Fatal("delivered to nobody")
		}
	}
	c.noteSuccess(notice())
	got := lines.String()
	if strings.Contains(got, secret) || strings.Contains(got, "127.0.0.1") {
		t.Errorf("the log names the URL: %s", got)
	}
	for _, level := range []string{"warn", "info"} {
		if strings.Count(got, fmt.Sprintf(`"level":"%s"`, level)) == 0 {
			t.Errorf("no line of level %s: %s", level, got)
		}
	}
}
