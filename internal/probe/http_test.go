package probe

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

const testTimeout = 5 * time.Second

// build makes one checker; hurried counts how often it asked for an early check.
func build(t testing.TB, spec failover.Probe) (check checker, hurried *atomic.Int32) {
	t.Helper()
	hurried = new(atomic.Int32)
	check, err := newChecker(spec, surroundings{dir: t.TempDir(), timeout: testTimeout, interval: time.Minute, hurry: func() { hurried.Add(1) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(check.drop)
	return check, hurried
}

// once checks once and returns the reason, empty for up.
func once(t testing.TB, check checker, timeout time.Duration) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	if _, err := check.check(ctx); err != nil {
		return reasonOf(err, timeout)
	}
	return ""
}

func httpProbe(url string) failover.Probe {
	return failover.Probe{Kind: "http", Name: "http", HTTP: failover.HTTP{URL: url}}
}

func TestHTTPAnswers(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "all ok here") })
	mux.HandleFunc("/503", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ok", http.StatusFound) })
	mux.HandleFunc("/host", func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprint(w, r.Host, " ", r.UserAgent()) })
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/hijack", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	})
	mux.HandleFunc("/post", func(w http.ResponseWriter, r *http.Request) {
		if data := make([]byte, 4); r.Method == http.MethodPost {
			n, _ := r.Body.Read(data)
			_, _ = w.Write(data[:n])
		}
	})
	mux.HandleFunc("/late", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, strings.Repeat("x", maxBody), "ok")
	})
	mux.HandleFunc("/stall", func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, "x")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 32<<10)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/headers", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Long", strings.Repeat("x", 2*maxResponseHeader))
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	with := func(path string, change func(*failover.Probe)) failover.Probe {
		spec := httpProbe(server.URL + path)
		if change != nil {
			change(&spec)
		}
		return spec
	}
	tests := []struct {
		name    string
		spec    failover.Probe
		timeout time.Duration
		want    string
	}{
		{"ok", with("/ok", nil), testTimeout, ""},
		{"status", with("/503", nil), testTimeout, "status 503, want 2xx"},
		{"expected status", with("/503", func(p *failover.Probe) { p.ExpectStatus = []int{200, 503} }), testTimeout, ""},
		{"unexpected status", with("/ok", func(p *failover.Probe) { p.ExpectStatus = []int{204, 503} }), testTimeout, "status 200, want 204 or 503"},
		{"a redirect is not followed", with("/moved", nil), testTimeout, "status 302, want 2xx"},
		{"body", with("/ok", func(p *failover.Probe) { p.ExpectBody = "ok" }), testTimeout, ""},
		{"other body", with("/ok", func(p *failover.Probe) { p.ExpectBody = "fine" }), testTimeout, `body without "fine"`},
		{"text beyond the first 64 KiB", with("/late", func(p *failover.Probe) { p.ExpectBody = "ok" }), testTimeout, `body without "ok"`},
		{"an endless body is read in part", with("/endless", nil), testTimeout, ""},
		{"a body that stalls", with("/stall", nil), 100 * time.Millisecond, "no answer within 100ms"},
		{"host", with("/host", func(p *failover.Probe) { p.Host, p.ExpectBody = "shop.example.com", "shop.example.com watchover" }), testTimeout, ""},
		{"method and body", with("/post", func(p *failover.Probe) { p.Method, p.Body, p.ExpectBody = "POST", "ping", "ping" }), testTimeout, ""},
		{"timeout", with("/slow", nil), 100 * time.Millisecond, "no answer within 100ms"},
		{"closed at once", with("/hijack", nil), testTimeout, "connection closed without an answer"},
		{"refused", httpProbe("http://" + closedAddress(t)), testTimeout, "connection refused"},
		{"tls to a plain server", httpProbe(strings.Replace(server.URL, "http", "https", 1)), testTimeout, "tls: first record does not look like a TLS handshake"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			check, _ := build(t, tt.spec)
			for range 2 { // the second time over the kept connection, if there is one
				if got := once(t, check, tt.timeout); got != tt.want {
					t.Errorf("reason %q, want %q", got, tt.want)
				}
			}
		})
	}
	t.Run("too long headers", func(t *testing.T) {
		check, _ := build(t, with("/headers", nil))
		if got := once(t, check, testTimeout); !strings.Contains(got, "exceeded") {
			t.Errorf("reason %q", got)
		}
	})
}

func TestHTTPSNameAndRoots(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it complains of the handshakes that must fail
	server.StartTLS()
	defer server.Close()
	spec := tlsSpec(t, server)
	check, _ := build(t, spec)
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	got, err := check.check(ctx)
	if err != nil || !got.expires.Equal(server.Certificate().NotAfter) {
		t.Errorf("%v, expires %v", err, got.expires)
	}
	wrongName := spec
	wrongName.Host = "other.test"
	check, _ = build(t, wrongName)
	if reason := once(t, check, testTimeout); !strings.Contains(reason, "certificate is valid for") {
		t.Errorf("reason %q", reason)
	}
	noRoots := spec
	noRoots.CAFile = ""
	check, _ = build(t, noRoots)
	if reason := once(t, check, testTimeout); !strings.Contains(reason, "unknown authority") {
		t.Errorf("reason %q", reason)
	}
	if protocol := check.(*httpCheck).transport.TLSClientConfig.NextProtos; len(protocol) > 1 {
		t.Errorf("offers %v", protocol)
	}
}

func TestHTTPHeaderFile(t *testing.T) {
	server, _ := counting(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, r.Header.Get("Authorization"), r.UserAgent())
	})
	path := filepath.Join(t.TempDir(), "main.headers")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	spec := httpProbe(server.URL)
	spec.HeaderFile, spec.ExpectBody = path, "Bearer two"
	check, _ := build(t, spec)
	expect := func(want outcome, text string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
		defer cancel()
		_, err := check.check(ctx)
		if judge(err) != want || !strings.Contains(fmt.Sprint(err), text) {
			t.Errorf("outcome %d: %v; want %d, %s", judge(err), err, want, text)
		}
	}
	expect(unable, "no such file")
	write("# credentials\n\nAuthorization: Bearer one\r\n")
	expect(failure, "body without")
	write("Authorization: Bearer two\n")
	expect(success, "")
	expect(success, "")
	write("Authorization Bearer two\n")
	expect(unable, `line 1 is not of the form "Name: value"`)
	expect(unable, "line 1")
	write("\nHost: x\n")
	expect(unable, "line 2 sets Host")
	write("Authorization: Bearer two\nUser-Agent: eyes")
	expect(success, "")
}

// Headers in a variable are those of a file: the same rules, and what is wrong with them is this watcher's fault. No reason
// tells what is in them.
func TestHTTPHeaderVariable(t *testing.T) {
	server, _ := counting(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, r.Header.Get("Authorization"), r.Header.Get("X-Two"), r.UserAgent())
	})
	const name = "PROBE_TEST_HEADERS"
	spec := httpProbe(server.URL)
	spec.HeaderEnv, spec.ExpectBody = name, "Bearer hunter2two"
	check, _ := build(t, spec)
	expect := func(want outcome, text string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
		defer cancel()
		_, err := check.check(ctx)
		if judge(err) != want || !strings.Contains(fmt.Sprint(err), text) || want == unable && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("outcome %d: %v; want %d, %s", judge(err), err, want, text)
		}
	}
	expect(unable, "cannot read environment variable PROBE_TEST_HEADERS: it is not set")
	t.Setenv(name, "")
	expect(failure, "body without")
	t.Setenv(name, "# credentials\n\nAuthorization: Bearer hunter2\r\nX-Two: two")
	expect(success, "")
	expect(success, "")
	t.Setenv(name, "X-Two: two\nAuthorization Bearer hunter2\n")
	expect(unable, `cannot use environment variable PROBE_TEST_HEADERS: line 2 is not of the form "Name: value"`)
	t.Setenv(name, "Host: hunter2")
	expect(unable, "line 1 sets Host")
	if err := os.Unsetenv(name); err != nil {
		t.Fatal(err)
	}
	expect(unable, "it is not set")
}

func TestHTTPRefusedSpecs(t *testing.T) {
	for url, want := range map[string]string{
		"":                        "write it as http://host/path",
		"ftp://x/":                "write it as http://host/path",
		"http://user:secret@x/":   "header_file",
		"http://x/\x7f":           "cannot use url",
		"https:///path":           "write it as http://host/path",
		"http://[::1]:namedport/": "cannot use url",
	} {
		_, err := newChecker(httpProbe(url), surroundings{})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", url, err)
		}
	}
	spec := httpProbe("http://x/")
	spec.Host = "a b\r\nX: y"
	if _, err := newChecker(spec, surroundings{}); err == nil {
		t.Error("a host with a line break was accepted")
	}
}

func TestServerName(t *testing.T) {
	for host, want := range map[string]string{"": "192.0.2.1", "shop.example.com": "shop.example.com", "shop:8443": "shop", "[2001:db8::1]:1": "2001:db8::1"} {
		request, err := newRequest(failover.HTTP{URL: "https://192.0.2.1:443/", Host: host})
		if err != nil || serverName(request) != want {
			t.Errorf("%q: %q, %v", host, serverName(request), err)
		}
	}
}

func BenchmarkHTTPRound(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) }))
	defer server.Close()
	spec := httpProbe(server.URL)
	spec.ExpectBody = "ok"
	check, _ := build(b, spec)
	b.ReportAllocs()
	for b.Loop() {
		if reason := once(b, check, testTimeout); reason != "" {
			b.Fatal(reason)
		}
	}
}

// A resolver that does not answer says nothing about the app, which has not been asked.
func TestHTTPDeadResolverIsOurFault(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	check, _ := build(t, httpProbe("http://shop.test/healthz"))
	check.(*httpCheck).keeper.dialer.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", silent.LocalAddr().String())
	}}
	const timeout = 200 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	_, err = check.check(ctx)
	if judge(err) != unable || reasonOf(err, timeout) != "cannot resolve shop.test" {
		t.Errorf("outcome %d, reason %q", judge(err), reasonOf(err, timeout))
	}
}

// A name that is found leads to the app, whose silence is its own.
func TestHTTPSlowAppBehindANameIsDown(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer server.Close()
	check, _ := build(t, httpProbe(strings.Replace(server.URL, "127.0.0.1", "localhost", 1)))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := check.check(ctx); judge(err) != failure {
		t.Errorf("outcome %d: %v", judge(err), err)
	}
}
