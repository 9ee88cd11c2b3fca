package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/internal/config"
	"github.com/watchover-ha/watchover/internal/control"
	"github.com/watchover-ha/watchover/internal/control/controltest"
	"github.com/watchover-ha/watchover/internal/daemon"
	"github.com/watchover-ha/watchover/pkg/client"
	"github.com/watchover-ha/watchover/pkg/failover"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// buffer may be written by one goroutine and read by another.
type buffer struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// session is one command line, with what it wrote.
type session struct {
	ui
	stdout, stderr buffer
}

func newSession(socket, input string) *session {
	s := &session{}
	s.ui = ui{in: strings.NewReader(input), out: &s.stdout, err: &s.stderr, getenv: func(name string) string {
		return map[string]string{"WATCHOVER_SOCKET": socket}[name]
	}}
	return s
}

// run executes one command line against the socket and returns the exit code.
func run(t *testing.T, socket, input string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	s := newSession(socket, input)
	s.terminal = input != ""
	code = execute(t.Context(), args, &s.ui)
	return code, s.stdout.String(), s.stderr.String()
}

// serving serves the backend on a socket and returns its path.
func serving(t *testing.T, b *controltest.Backend) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	server, err := control.Listen(control.Options{Path: path, Backend: b, Policy: daemon.PolicyText{}, Snapshots: files{}, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return path
}

// up is a cluster with one group whose apps are both up.
func up() *controltest.Backend {
	b := controltest.New(controltest.Policy("shop"))
	b.Verdicts("shop", "main", failover.VerdictUp, "")
	b.Verdicts("shop", "standby", failover.VerdictUp, "")
	return b
}

// answering is a daemon that answers every request alike.
func answering(t *testing.T, status int, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	})}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return path
}

func TestUsage(t *testing.T) {
	for _, test := range []struct {
		args string
		want string // a part of the error
	}{
		{"", "a verb is needed"},
		{"stat", `unknown verb "stat"`},
		{"rehearse", "needs GROUP"},
		{"reprotect shop main", `does not take "main"`},
		{"events shop", `does not take "shop"`},
		{"events -n -1", "negative"},
		{"events --since x", "invalid argument"},
		{"apply", "needs FILE"},
		{"apply a b", `does not take "b"`},
		{"apply /nonexistent/file", "cannot read /nonexistent/file: no such file"},
		{"apply /tmp --dry-run", "it is not a regular file"},
		{"apply x --revision one", "invalid argument"},
		{"diff", "needs FILE"},
		{"diff a b", `does not take "b"`},
		{"diff /nonexistent/file", "no such file"},
		{"completion", "needs SHELL"},
		{"completion tcsh", `unknown shell "tcsh"`},
		{"completion bash zsh", `does not take "zsh"`},
		{"config schema x", `does not take "x"`},
		{"config example x", `does not take "x"`},
		{"config check a b", `does not take "b"`},
		{"explain a b", `does not take "b"`},
		{"switchover a b", `does not take "b"`},
		{"abort a b", `does not take "b"`},
		{"retry a b", `does not take "b"`},
		{"ack a b", `does not take "b"`},
		{"pause a b", `does not take "b"`},
		{"resume a b", `does not take "b"`},
		{"history a b", `does not take "b"`},
		{"--socket x apply", "needs FILE"},
		{"--sockt x status", "unknown flag: --sockt"},
		{"members", "members needs a verb"},
		{"members lst", `unknown verb "members lst"`},
		{"members list w1", `does not take "w1"`},
		{"members add w4", "needs NAME"},
		{"members add w4 127.0.0.1:1 w5", `does not take "w5"`},
		{"members remove", "needs NAME"},
		{"members transfer w1 w2", `does not take "w2"`},
		{"status --colour", "unknown flag: --colour"},
		{"status a b", `does not take "b"`},
		{"status -o yaml", `unknown output "yaml"`},
		{"explain", "needs GROUP"},
		{"switchover", "needs GROUP"},
		{"abort", "needs GROUP"},
		{"retry", "needs GROUP"},
		{"ack", "needs GROUP"},
		{"switchover shop", "needs --yes"},
		{"switchover shop --force", "needs --yes"},
		{"pause --for 2", "invalid argument"},
		{"pause --for -2h", "is no time"},
		{"pause --for 0s", "is no time"},
		{"history -n 0", "not from 1 to 100"},
		{"history -n 101", "not from 1 to 100"},
		{"version now", `does not take "now"`},
		{"config", "config needs a verb"},
		{"config chek x", `unknown verb "config chek"`},
		{"config check", "needs FILE"},
		{"config check /nonexistent/file", "no such file"},
		{"run", "needs --config"},
		{"run --config /nonexistent/file", "no such file"},
		{"run config.yaml", "does not take"},
	} {
		t.Run(test.args, func(t *testing.T) {
			code, _, stderr := run(t, "/nonexistent/socket", "", strings.Fields(test.args)...)
			if code != exitUsage || !strings.HasPrefix(stderr, "watchover: cannot ") || !strings.Contains(stderr, test.want) {
				t.Errorf("exit %d, %q; want exit %d and %q", code, stderr, exitUsage, test.want)
			}
		})
	}
	t.Run("an empty group is not all groups", func(t *testing.T) {
		if code, _, stderr := run(t, "/nonexistent/socket", "", "pause", ""); code != exitUsage {
			t.Errorf("exit %d, %q", code, stderr)
		}
	})
}

func TestExitCodesOfReplies(t *testing.T) {
	file := exampleFile(t)
	reply := func(code, rule string) string {
		text, _ := json.Marshal(client.Error{Message: "cannot do it: because", Code: code, Rule: rule, Hint: "try this"})
		return string(text)
	}
	for _, test := range []struct {
		name   string
		status int
		body   string
		want   int
	}{
		{"refused", 409, reply("refused", "open"), exitRefused},
		{"refused for want of a quorum", 409, reply("refused", "no_quorum"), exitNoLeader},
		{"not allowed", 403, reply("not_allowed", ""), exitRefused},
		{"not found", 404, reply("not_found", ""), exitUsage},
		{"invalid", 400, reply("invalid", ""), exitUsage},
		{"no leader", 503, reply("no_leader", ""), exitNoLeader},
		{"internal", 500, reply("internal", ""), exitFailed},
		{"a code of the future", 418, reply("teapot", ""), exitFailed},
		{"not our server", 502, "<html>", exitFailed},
		{"no JSON", 200, "<html>", exitFailed},
	} {
		socket := answering(t, test.status, test.body)
		for _, args := range [][]string{
			{"status"}, {"explain", "shop"}, {"switchover", "shop", "--yes"}, {"switchover", "shop", "--dry-run"},
			{"abort", "shop"}, {"retry", "shop"}, {"ack", "shop"}, {"pause"}, {"resume", "shop"}, {"history"}, {"snapshot", "save", "/nonexistent/file"},
			{"events"}, {"events", "--follow"}, {"apply", file}, {"apply", file, "--dry-run"}, {"diff", file}, {"rehearse", "shop"}, {"reprotect", "shop"},
		} {
			t.Run(test.name+" "+args[0], func(t *testing.T) {
				code, stdout, stderr := run(t, socket, "", args...)
				if code != test.want || stdout != "" {
					t.Errorf("exit %d, want %d; %q %q", code, test.want, stdout, stderr)
				}
				if strings.HasPrefix(test.body, "{") && stderr != "watchover: cannot do it: because\nhint: try this\n" {
					t.Errorf("got %q", stderr)
				}
			})
		}
	}
}

// exampleFile is a valid file.
func exampleFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "w.yaml")
	if err := os.WriteFile(path, config.Example(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// talking is one command line of every verb that talks to the daemon, but check, which has exit codes of its own.
func talking(file string) [][]string {
	return [][]string{
		{"status"}, {"status", "shop"}, {"status", "--watch"}, {"explain", "shop"}, {"switchover", "shop", "--yes"}, {"switchover", "shop", "--dry-run"},
		{"abort", "shop"}, {"retry", "shop"}, {"ack", "shop"}, {"pause"}, {"pause", "shop"}, {"resume"}, {"resume", "shop"},
		{"history"}, {"history", "shop"}, {"events"}, {"events", "--follow"}, {"apply", file}, {"apply", file, "--dry-run"}, {"diff", file}, {"rehearse", "shop"}, {"reprotect", "shop"},
	}
}

// TestEveryVerbIsTested: who adds a verb that talks to the daemon adds it to talking.
func TestEveryVerbIsTested(t *testing.T) {
	tested := map[string]bool{"check": true}
	for _, args := range talking("x") {
		tested[args[0]] = true
	}
	for _, cmd := range newRoot(&newSession("", "").ui).Commands() {
		if cmd.Flags().Lookup("socket") != nil && !tested[cmd.Name()] {
			t.Errorf("%s talks to the daemon, but is not among those that are tried without one", cmd.Name())
		}
	}
}

// TestWithoutALeader: what changes something fails with 4, what only reads does not need a leader.
func TestWithoutALeader(t *testing.T) {
	b := up()
	b.FailWith(control.ErrNoLeader)
	b.EditLocal(func(l *control.Local) { l.Leader, l.HasQuorum = "", false })
	socket, file := serving(t, b), exampleFile(t)
	reads := map[string]bool{"rehearse": true, "status": true, "explain": true, "history": true, "events": true, "diff": true}
	for _, args := range talking(file) {
		if slices.Contains(args, "--watch") || slices.Contains(args, "--follow") || slices.Contains(args, "--dry-run") {
			continue
		}
		code, _, stderr := run(t, socket, "", args...)
		if want := map[bool]int{true: exitDone, false: exitNoLeader}[reads[args[0]]]; code != want {
			t.Errorf("%v: exit %d, want %d; %q", args, code, want, stderr)
		} else if code != exitDone && (strings.Count(stderr, "watchover: ") != 1 || !strings.HasPrefix(stderr, "watchover: cannot ")) {
			t.Errorf("%v: %q", args, stderr)
		}
	}
}

func TestUnknownGroup(t *testing.T) {
	socket := serving(t, up())
	for _, args := range append(talking("x"), []string{"events", "--group", "shop"}) {
		group := slices.Index(args, "shop")
		if group < 0 {
			continue
		}
		args[group] = "shap"
		code, _, stderr := run(t, socket, "", args...)
		if code != exitUsage || !strings.HasPrefix(stderr, "watchover: cannot ") || !strings.Contains(stderr, `"shap"`) {
			t.Errorf("%v: exit %d, %q", args, code, stderr)
		}
	}
}

func TestUnreachable(t *testing.T) {
	stale := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	for socket, want := range map[string]string{"/nonexistent/socket": "no such socket", stale: "no daemon listens"} {
		for _, args := range talking(exampleFile(t)) {
			code, _, stderr := run(t, socket, "", args...)
			if code != exitUnreachable || !strings.Contains(stderr, want) || !strings.Contains(stderr, "\nhint: ") {
				t.Errorf("%v: exit %d, %q", args, code, stderr)
			}
		}
	}
	code, stdout, stderr := run(t, "/nonexistent/socket", "", "check")
	if code != checkUnknown || !strings.HasPrefix(stdout, "UNKNOWN - ") || stderr != "" {
		t.Errorf("check: exit %d, %q, %q", code, stdout, stderr)
	}
	if code, _, stderr := run(t, stale, "", "status", "--socket", "/nonexistent/other"); code != exitUnreachable || !strings.Contains(stderr, "/nonexistent/other") {
		t.Errorf("--socket: exit %d, %q", code, stderr)
	}
}

func TestJSONIsTheReply(t *testing.T) {
	const body = `{"odd":  [1, 2],"switchovers":[]}` + "\n"
	socket := answering(t, 200, body)
	for _, args := range [][]string{
		{"status"}, {"status", "shop"}, {"explain", "shop"}, {"history"}, {"diff", exampleFile(t)}, {"apply", exampleFile(t)}, {"abort", "shop"}, {"pause"}, {"resume"}, {"ack", "shop"},
		{"switchover", "shop", "--dry-run"}, {"switchover", "shop", "--yes", "--wait=false"},
	} {
		if code, stdout, stderr := run(t, socket, "", append(args, "-o", "json")...); code != exitDone || stdout != body {
			t.Errorf("%v: exit %d, %q, %q", args, code, stdout, stderr)
		}
	}
}

func TestOrders(t *testing.T) {
	b := up()
	socket := serving(t, b)
	for _, test := range []struct {
		args string
		want string
	}{
		{"pause shop --for 90m --reason work", "automation of shop paused for 1h30m0s\n"},
		{"pause", "automation of all groups paused until resume\n"},
		{"resume shop", "automation of shop resumed\n"},
		{"resume", "automation of all groups resumed\n"},
		{"ack shop", "nothing to acknowledge\n"},
	} {
		if code, stdout, stderr := run(t, socket, "", strings.Fields(test.args)...); code != exitDone || stdout != test.want {
			t.Errorf("%s: exit %d, %q, %q", test.args, code, stdout, stderr)
		}
	}
	if code, _, stderr := run(t, socket, "", "abort", "shop"); code != exitRefused || !strings.Contains(stderr, "not_open") {
		t.Errorf("abort: exit %d, %q", code, stderr)
	}
	if code, _, stderr := run(t, socket, "", "abort", "shap"); code != exitUsage || !strings.Contains(stderr, `"shap"`) {
		t.Errorf("abort of an unknown group: exit %d, %q", code, stderr)
	}
	if code, _, stderr := run(t, socket, "", "status", "shap"); code != exitUsage || !strings.Contains(stderr, `"shap"`) {
		t.Errorf("status of an unknown group: exit %d, %q", code, stderr)
	}
	if r := b.Commit(failover.Command{By: "uid:0", Request: &failover.Request{Group: "shop"}}); !r.Accepted {
		t.Fatalf("%+v", r)
	}
	if code, stdout, stderr := run(t, socket, "", "abort", "shop"); code != exitDone || !strings.Contains(stdout, "being undone") {
		t.Errorf("abort of an open one: exit %d, %q, %q", code, stdout, stderr)
	}
}

func TestVersion(t *testing.T) {
	if code, stdout, _ := run(t, "", "", "version"); code != exitDone || !strings.HasPrefix(stdout, "watchover "+defaultVersion+" ") {
		t.Errorf("exit %d, %q", code, stdout)
	}
	Version = "1.2.3"
	defer func() { Version = "" }()
	if _, stdout, _ := run(t, "", "", "version"); !strings.HasPrefix(stdout, "watchover 1.2.3 ") {
		t.Errorf("got %q", stdout)
	}
}

func TestConfig(t *testing.T) {
	code, example, _ := run(t, "", "", "config", "example")
	if code != exitDone {
		t.Fatalf("config example: exit %d", code)
	}
	path := filepath.Join(t.TempDir(), "w.yaml")
	if err := os.WriteFile(path, []byte(example), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := run(t, "", "", "config", "check", path)
	if code != exitDone || stdout != path+" is valid\n" || !strings.Contains(stderr, ": warning: ") {
		t.Errorf("the example: exit %d, %q, %q", code, stdout, stderr)
	}
	inVariable := strings.Replace(example, "url_file: slack.url", "url_env: CLI_TEST_URL", 1)
	if err := os.WriteFile(path, []byte(inVariable), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := run(t, "", "", "config", "check", path); code != exitDone || !strings.Contains(stderr, ": warning: environment variable CLI_TEST_URL is not set here; the watcher needs it") {
		t.Errorf("a variable that is not set: exit %d, %q", code, stderr)
	}
	if err := os.WriteFile(path, []byte("watcher: {nam: w1}\nclutser: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr = run(t, "", "", "config", "check", path)
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	if code != exitUsage || stdout != "" || len(lines) < 2 {
		t.Errorf("a bad file: exit %d, %q, %q", code, stdout, stderr)
	}
	for _, line := range lines {
		if !strings.HasPrefix(line, path+":") {
			t.Errorf("line %q does not begin with file and line", line)
		}
	}
	if code, _, again := run(t, "", "", "run", "--config", path); code != exitUsage || again != stderr {
		t.Errorf("run with it: exit %d, %q", code, again)
	}
}
