package switchover

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/internal/localfile"
	"github.com/watchover-ha/watchover/internal/localfile/hung"
	"github.com/watchover-ha/watchover/pkg/failover"
)

var full = identity{
	group: "shop", app: "standby", from: "main", to: "standby", step: failover.StepPromote, kind: failover.KindFailover, switchover: 45, epoch: 4,
	token: 1<<40 + 47, attempt: 2, deadline: time.Date(2026, 1, 1, 12, 0, 0, 500e6, time.FixedZone("CET", 3600)), key: "shop-45-promote-act",
}

// The contract's list, word for word.
func TestEnvironment(t *testing.T) {
	t.Setenv("PATH", "/usr/bin")
	t.Setenv("LANG", "C.UTF-8")
	t.Setenv("SECRET", "must not be seen")
	o := newOutside(Options{Watcher: "w1"})
	got := o.environment(full)
	wanted := []string{
		"PATH=/usr/bin", "LANG=C.UTF-8", "WATCHOVER_GROUP=shop", "WATCHOVER_APP=standby", "WATCHOVER_FROM=main", "WATCHOVER_TO=standby",
		"WATCHOVER_STEP=promote", "WATCHOVER_KIND=failover", "WATCHOVER_SWITCHOVER=45", "WATCHOVER_EPOCH=4", "WATCHOVER_TOKEN=1099511627823",
		"WATCHOVER_ATTEMPT=2", "WATCHOVER_DEADLINE=2026-01-01T11:00:00.500Z", "WATCHOVER_WATCHER=w1",
	}
	if !slices.Equal(got, wanted) {
		t.Errorf("got  %q\nwant %q", got, wanted)
	}
	if _, err := time.Parse(time.RFC3339, "2026-01-01T11:00:00.500Z"); err != nil {
		t.Error(err)
	}
	mere := o.environment(identity{group: "shop", app: "main"})
	if !slices.Equal(mere, []string{"PATH=/usr/bin", "LANG=C.UTF-8", "WATCHOVER_GROUP=shop", "WATCHOVER_APP=main", "WATCHOVER_FROM=",
		"WATCHOVER_TO=", "WATCHOVER_STEP=", "WATCHOVER_KIND=", "WATCHOVER_SWITCHOVER=", "WATCHOVER_EPOCH=", "WATCHOVER_TOKEN=", "WATCHOVER_ATTEMPT=",
		"WATCHOVER_DEADLINE=", "WATCHOVER_WATCHER=w1"}) {
		t.Errorf("a mere look is told %q", mere)
	}
}

func TestHeaders(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "h"), "# comment\n\nAuthorization: Bearer s3cret\n X-Two :  spaced : value \r\n")
	var got http.Header
	var host, body string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, host = r.Header, r.Host
		text, _ := io.ReadAll(r.Body)
		body = r.Method + " " + string(text)
		fmt.Fprint(w, "fine")
	}))
	defer server.Close()
	o := newOutside(Options{Watcher: "w1", Dir: dir})
	output, err := o.do(t.Context(), failover.Action{HTTP: &failover.HTTP{Method: "PUT", URL: server.URL + "/x", Host: "shop.example.com", HeaderFile: "h", Body: "on"}}, full)
	if err != nil || output != "fine" {
		t.Fatalf("got %q, %v", output, err)
	}
	for name, value := range map[string]string{
		"Watchover-Group": "shop", "Watchover-App": "standby", "Watchover-From": "main", "Watchover-To": "standby", "Watchover-Step": "promote",
		"Watchover-Kind": "failover", "Watchover-Switchover": "45", "Watchover-Epoch": "4", "Watchover-Token": "1099511627823",
		"Watchover-Attempt": "2", "Watchover-Deadline": "2026-01-01T11:00:00.500Z", "Watchover-Watcher": "w1",
		"Idempotency-Key": "shop-45-promote-act", "Authorization": "Bearer s3cret", "X-Two": "spaced : value",
	} {
		want(t, name, got.Get(name), value)
	}
	want(t, "host", host, "shop.example.com")
	want(t, "request", body, "PUT on")
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Headers in a variable are those of a file, and what is wrong with them tells no secret. Programs never see the variable.
func TestHeaderVariable(t *testing.T) {
	const name = "SWITCHOVER_TEST_HEADERS"
	var got http.Header
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header }))
	defer server.Close()
	o := newOutside(Options{Watcher: "w1", Dir: t.TempDir()})
	do := func() error {
		_, err := o.do(t.Context(), failover.Action{HTTP: &failover.HTTP{URL: server.URL, HeaderEnv: name}}, full)
		return err
	}
	if err := do(); err == nil || err.Error() != "cannot read environment variable "+name+": it is not set" || got != nil {
		t.Errorf("not set: %v, sent %v", err, got)
	}
	for what, text := range map[string]string{"no colon": "A: b\nAuthorization Bearer s3cret", "too large": "A: s3cret" + strings.Repeat("x", maxHeaderFile)} {
		t.Setenv(name, text)
		if err := do(); err == nil || !strings.Contains(err.Error(), "cannot use environment variable "+name+": ") || strings.Contains(err.Error(), "s3cret") || got != nil {
			t.Errorf("%s: %v, sent %v", what, err, got)
		}
	}
	t.Setenv(name, "# comment\n\nAuthorization: Bearer s3cret\r\nX-Two: two")
	if err := do(); err != nil {
		t.Fatal(err)
	}
	want(t, "Authorization", got.Get("Authorization"), "Bearer s3cret")
	want(t, "X-Two", got.Get("X-Two"), "two")
	if env := strings.Join(o.environment(full), "\n"); strings.Contains(env, "s3cret") || strings.Contains(env, name) {
		t.Errorf("programs are given %s", env)
	}
}

func TestHeaderFileFaultsTellNoSecret(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"no colon":       "A: b\nAuthorization Bearer s3cret\n",
		"colon too late": "A: b\nAuthorization Bearer s3cret: x\n",
		"no name":        "A: b\n: s3cret\n",
		"bad value":      "A: b\nAuthorization: s3cret\x01\n",
		"too large":      "A: s3cret" + strings.Repeat("x", maxHeaderFile),
	} {
		write(t, filepath.Join(dir, "h"), text)
		o := newOutside(Options{Dir: dir})
		_, err := o.do(t.Context(), failover.Action{HTTP: &failover.HTTP{URL: "http://127.0.0.1:1/", HeaderFile: "h"}}, full)
		if err == nil || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "refused") {
			t.Errorf("%s: %v", name, err)
		}
		if strings.HasPrefix(name, "no ") || strings.HasPrefix(name, "colon") {
			want(t, name, err.Error(), `cannot use h: line 2 is not "Name: value"`)
		}
	}
	o := newOutside(Options{Dir: dir})
	_, err := o.do(t.Context(), failover.Action{HTTP: &failover.HTTP{URL: "http://127.0.0.1:1/", HeaderFile: "none"}}, full)
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func TestHTTPAnswers(t *testing.T) {
	for _, tc := range []struct {
		code   int
		expect []int
		done   bool
		yes    bool
		said   bool
	}{
		{200, nil, true, true, true},
		{204, nil, true, true, true},
		{299, nil, true, true, true},
		{301, nil, false, false, false},
		{404, nil, false, false, true},
		{403, nil, false, false, false},
		{500, nil, false, false, false},
		{200, []int{202}, false, false, false},
		{202, []int{201, 202}, true, true, true},
		{404, []int{202}, false, false, true},
		{404, []int{404}, true, true, true},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(tc.code)
			if tc.code != 204 {
				fmt.Fprintf(w, "\n\n  the reason\nmore %s", strings.Repeat("x", 10<<10))
			}
		}))
		o := newOutside(Options{})
		a := failover.Action{HTTP: &failover.HTTP{URL: server.URL, ExpectStatus: tc.expect}}
		output, err := o.do(t.Context(), a, full)
		if (err == nil) != tc.done {
			t.Errorf("%d %v: %v", tc.code, tc.expect, err)
		}
		if err != nil && err.Error() != fmt.Sprintf("GET %s answered %d: the reason", server.URL, tc.code) {
			t.Errorf("%d: error is %v", tc.code, err)
		}
		if len(output) > maxBody {
			t.Errorf("%d: %d bytes kept", tc.code, len(output))
		}
		yes, err := o.ask(t.Context(), a, full)
		if yes != tc.yes || (err == nil) != tc.said || err != nil && !errors.Is(err, errNotSaid) {
			t.Errorf("asked, %d %v: %t, %v", tc.code, tc.expect, yes, err)
		}
		server.Close()
	}
}

func TestExecAnswers(t *testing.T) {
	lost := errors.New("fork failed")
	for _, tc := range []struct {
		name           string
		code           int
		err            error
		done, yes, say bool
		text           string
	}{
		{"0", 0, nil, true, true, true, ""},
		{"1", 1, nil, false, false, true, "run exited 1: out"},
		{"2", 2, nil, false, false, false, "run exited 2: out"},
		{"killed", -1, nil, false, false, false, "run exited -1: out"},
		{"not run", 0, lost, false, false, false, "cannot run run: fork failed"},
	} {
		o := newOutside(Options{Dir: "/etc/watchover", Run: func(_ context.Context, p Process) ([]byte, int, error) {
			want(t, "program", p.Argv[0]+" "+p.Argv[1]+" in "+p.Dir, "/etc/watchover/run arg in /etc/watchover")
			return []byte("out\n"), tc.code, tc.err
		}})
		a := failover.Action{Exec: []string{"run", "arg"}}
		_, err := o.do(t.Context(), a, full)
		if (err == nil) != tc.done || err != nil && err.Error() != tc.text {
			t.Errorf("%s: done %v", tc.name, err)
		}
		yes, err := o.ask(t.Context(), a, full)
		if yes != tc.yes || (err == nil) != tc.say {
			t.Errorf("%s: asked %t, %v", tc.name, yes, err)
		}
	}
	if _, err := newOutside(Options{}).do(t.Context(), failover.Action{}, full); err == nil {
		t.Error("an action that is nothing was done")
	}
}

func TestExecThatDoesNotEndInTime(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o := newOutside(Options{Run: func(ctx context.Context, _ Process) ([]byte, int, error) { return []byte("so far"), -1, ctx.Err() }})
	output, err := o.do(ctx, failover.Action{Exec: []string{"/bin/run"}}, full)
	if output != "so far" || err == nil || err.Error() != "/bin/run did not end in time: so far" {
		t.Errorf("got %q, %v", output, err)
	}
}

func TestHTTPThatDoesNotAnswer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	o := newOutside(Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	url := "http://" + listener.Addr().String()
	_, err = o.do(ctx, failover.Action{HTTP: &failover.HTTP{URL: url}}, full)
	if err == nil || err.Error() != "cannot reach "+url+": no answer in time" {
		t.Errorf("a hanging server: %v", err)
	}
	listener.Close()
	_, err = o.do(t.Context(), failover.Action{HTTP: &failover.HTTP{URL: url}}, full)
	if err == nil || err.Error() != "cannot reach "+url+": connection refused" {
		t.Errorf("a closed port: %v", err)
	}
}

// A secret or the authorities lie on a mount that hangs: the act is over at its deadline all the same.
func TestAFileThatHangsEndsWithTheAct(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"token", "ca.pem"} {
		write(t, filepath.Join(dir, name), "X-Token: a\n")
		hung.File(t, filepath.Join(dir, name))
	}
	for name, h := range map[string]failover.HTTP{"token": {URL: "http://127.0.0.1:1/", HeaderFile: "token"}, "ca.pem": {URL: "https://127.0.0.1:1/", CAFile: "ca.pem"}} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := newOutside(Options{Dir: dir}).do(ctx, failover.Action{HTTP: &h}, full)
		cancel()
		if !errors.Is(err, localfile.ErrHangs) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHTTPSVerifiesTheName(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes that fail on purpose
	server.StartTLS()
	defer server.Close()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "empty.pem"), "no certificate")
	writeCertificate(t, filepath.Join(dir, "ca.pem"), server.Certificate().Raw)
	pem, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "all-roots.pem"), string(pem)+strings.Repeat("# of some other authority\n", 300<<10/26))
	write(t, filepath.Join(dir, "huge.pem"), string(pem)+strings.Repeat("#", 1<<20))
	for _, tc := range []struct{ ca, host, err string }{
		{"all-roots.pem", "example.com", ""},
		{"huge.pem", "example.com", "larger than 1024 KiB"},
		{"ca.pem", "example.com", ""}, // httptest's certificate is for it
		{"ca.pem", "example.com:8443", ""},
		{"ca.pem", "", ""}, // and for 127.0.0.1
		{"ca.pem", "other.example.net", "not other.example.net"},
		{"", "example.com", "unknown authority"},
		{"empty.pem", "example.com", "it holds no certificate"},
		{"none.pem", "example.com", "cannot read"},
	} {
		o := newOutside(Options{Dir: dir})
		_, err := o.do(t.Context(), failover.Action{HTTP: &failover.HTTP{URL: server.URL, Host: tc.host, CAFile: tc.ca}}, full)
		if (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%+v: %v", tc, err)
		}
	}
}

func TestPlain(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string
	}{
		{context.DeadlineExceeded, "no answer in time"},
		{fmt.Errorf("wrapped: %w", os.ErrDeadlineExceeded), "no answer in time"},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, "connection refused"},
		{&net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "x"}}, "lookup x: no such host"},
		{errors.New("as it is"), "as it is"},
	} {
		want(t, fmt.Sprint(tc.err), plain(tc.err).Error(), tc.want)
	}
}

func TestFirstLine(t *testing.T) {
	for text, wanted := range map[string]string{
		"": "", "\n \n": "", "\n one \ntwo": ": one", "bad \xff": ": bad ?", strings.Repeat("é", 200): ": " + strings.Repeat("é", 100) + "…",
	} {
		want(t, text, firstLine(text), wanted)
	}
}

// Every hook and the act have a key of their own, and each the same in every attempt.
func TestIdempotencyKeys(t *testing.T) {
	keys := map[string][]string{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		keys[r.URL.Path] = append(keys[r.URL.Path], r.Header.Get("Idempotency-Key"))
	}))
	defer server.Close()
	send := func(path string) failover.Action {
		return failover.Action{HTTP: &failover.HTTP{Method: "POST", URL: server.URL + path}}
	}
	w := &failover.Switchover{ID: 7, Group: "shop", Policy: failover.Group{Steps: failover.StepSettings{failover.StepSwitchDNS: {
		Before: []failover.Action{send("/one"), send("/two")}, After: []failover.Action{send("/three")}}}}}
	r := New(Options{Watcher: "w1"})
	for attempts := range 2 {
		for _, work := range []failover.Work{failover.WorkAct, failover.WorkAfter} {
			a := &attempt{p: &performer{r: r}, w: w, task: failover.Task{Group: "shop", Switchover: 7, Step: failover.StepSwitchDNS, Work: work}}
			a.id = identity{group: "shop", token: uint64(attempts + 1), key: fmt.Sprintf("shop-7-switch-dns-%s", work)}
			if e := a.perform(t.Context(), sight{done: true}); e.err != nil {
				t.Fatalf("%+v", e)
			}
		}
	}
	seen := map[string]bool{}
	for path, list := range keys {
		if len(list) != 2 || list[0] != list[1] || list[0] == "" || seen[list[0]] {
			t.Errorf("keys of %s: %q", path, list)
		}
		seen[list[0]] = true
	}
	want(t, "hooks", len(seen), 3)
}

func writeCertificate(t *testing.T, path string, der []byte) {
	t.Helper()
	write(t, path, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
}
