package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// appEnv makes the test binary the app itself: the tests kill, freeze and restart real processes.
const appEnv = "SAMPLEAPP_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(appEnv) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// node is one running app.
type node struct {
	t    *testing.T
	dir  string
	url  string
	args []string
	cmd  *exec.Cmd
}

func start(t *testing.T, dir string, args ...string) *node {
	t.Helper()
	n := &node{t: t, dir: dir, args: append([]string{"serve", "--data", dir, "--listen", "127.0.0.1:0"}, args...)}
	n.start()
	t.Cleanup(n.kill)
	return n
}

var serving = regexp.MustCompile(`serving on (http://\S+) as`)

func (n *node) start() {
	n.t.Helper()
	n.cmd = exec.Command("/proc/self/exe", n.args...)
	n.cmd.Env = append(os.Environ(), appEnv+"=1")
	errs, err := n.cmd.StderrPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	line, _ := bufio.NewReader(errs).ReadString('\n')
	m := serving.FindStringSubmatch(line)
	if m == nil {
		n.t.Fatalf("the app says %q", line)
	}
	n.url = m[1]
	n.args[4] = strings.TrimPrefix(n.url, "http://") // the same again after a restart
	go io.Copy(io.Discard, errs)                     // ends with the process
}

func (n *node) kill() {
	_ = n.cmd.Process.Kill()
	_ = n.cmd.Wait()
}

func (n *node) signal(s os.Signal) {
	n.t.Helper()
	if err := n.cmd.Process.Signal(s); err != nil {
		n.t.Fatal(err)
	}
}

// db runs "sampleapp db" as a hook would.
func (n *node) db(token int, args ...string) (string, error) {
	n.t.Helper()
	args = append(append([]string{"db"}, args...), "--url", n.url)
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = []string{appEnv + "=1", "WATCHOVER_DEADLINE=" + time.Now().Add(5*time.Second).Format(time.RFC3339Nano)}
	if token > 0 {
		cmd.Env = append(cmd.Env, fmt.Sprint("WATCHOVER_TOKEN=", token))
	}
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (n *node) mustDB(token int, args ...string) string {
	n.t.Helper()
	out, err := n.db(token, args...)
	if err != nil {
		n.t.Fatalf("db %v: %v: %s", args, err, out)
	}
	return out
}

func (n *node) refuses(token int, text string, args ...string) {
	n.t.Helper()
	out, err := n.db(token, args...)
	if err == nil || !strings.Contains(out, text) {
		n.t.Fatalf("db %v: %v: %q, want a refusal with %q", args, err, out, text)
	}
}

// request returns code and body of one request.
func (n *node) request(method, path, token string) (int, string) {
	n.t.Helper()
	req, err := http.NewRequest(method, n.url+path, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Watchover-Token", token)
	}
	resp, err := client.Do(req)
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// order places an order and returns the answer's code: 200 after the redirect if it was taken.
func (n *node) order(name string) int {
	n.t.Helper()
	resp, err := client.PostForm(n.url+"/orders", url.Values{"name": {name}, "item": {"a red balloon"}})
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// eventually waits until the role's line, the number of entries and the stream's fault begin as the pattern says.
func (n *node) eventually(pattern string) {
	n.t.Helper()
	re := regexp.MustCompile("^" + pattern + `\b`)
	limit := time.After(10 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		var st status
		err := call(n.t.Context(), http.MethodGet, n.url+"/admin/db", nil, &st)
		line := fmt.Sprintf("%s seq=%d %s", st.line(), st.Seq, st.Fault+" ")
		if err == nil && re.MatchString(line) {
			return
		}
		select {
		case <-limit:
			n.t.Fatalf("never %q; now %q, %v", pattern, line, err)
		case <-tick.C:
		}
	}
}

func (n *node) lines(name string) []string {
	n.t.Helper()
	b, err := os.ReadFile(filepath.Join(n.dir, name))
	if err != nil {
		n.t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}

func pair(t *testing.T) (primary, replica *node) {
	t.Helper()
	primary = start(t, t.TempDir(), "--name", "main")
	replica = start(t, t.TempDir(), "--name", "standby", "--peer", primary.url)
	replica.eventually(`replica streaming lag_bytes=0 lag_seconds=0.000 id=\w+ seq=0`)
	return primary, replica
}

// The whole way: what the eight steps do to both apps, then main made a replica again.
func TestSwitchAndBack(t *testing.T) {
	t.Parallel()
	main, standby := pair(t)
	for i := range 3 {
		if code := main.order(fmt.Sprint("ann ", i)); code != http.StatusOK {
			t.Fatalf("order: %d", code)
		}
	}
	standby.eventually(`replica streaming lag_bytes=0 lag_seconds=0.000 id=\w+ seq=3`)
	if code := standby.order("too early"); code != http.StatusServiceUnavailable {
		t.Fatalf("the replica answers an order with %d", code)
	}
	main.mustDB(10, "freeze")
	if code := main.order("frozen"); code != http.StatusServiceUnavailable {
		t.Fatalf("frozen, an order got %d", code)
	}
	standby.mustDB(11, "catch-up")
	standby.mustDB(12, "stop-replication")
	standby.mustDB(12, "freeze") // left over from an earlier switch: promoting opens it
	standby.mustDB(13, "promote")
	standby.mustDB(14, "promote") // again, after a lost answer
	if a, b := main.mustDB(0, "role"), standby.mustDB(0, "role"); !regexp.MustCompile(`^primary frozen id=\w+$`).MatchString(a) || b != strings.Replace(a, " frozen", "", 1) {
		t.Fatalf("roles %q and %q", a, b)
	}
	standby.order("ben")
	// Somebody opened the old main: its order is set aside, not lost, when it follows the new one.
	main.mustDB(15, "unfreeze")
	main.order("late")
	main.order("later")
	if out := main.mustDB(16, "follow", "--peer", standby.url); !strings.Contains(out, "2 diverged entries moved to") {
		t.Fatalf("follow: %q", out)
	}
	main.eventually(`replica streaming lag_bytes=0 lag_seconds=0.000 id=\w+ seq=4`)
	if a, b := main.lines("log.jsonl"), standby.lines("log.jsonl"); strings.Join(a, "\n") != strings.Join(b, "\n") || len(a) != 4 {
		t.Fatalf("logs differ:\n%s\n%s", a, b)
	}
	aside, _ := filepath.Glob(filepath.Join(main.dir, "diverged-*.jsonl"))
	if len(aside) != 1 || len(main.lines(filepath.Base(aside[0]))) != 2 || !strings.Contains(main.lines(filepath.Base(aside[0]))[0], "late") {
		t.Fatalf("set aside: %v", aside)
	}
	standby.refuses(17, "is no primary", "follow", "--peer", main.url)
}

func TestStoppedReplicationStaysStopped(t *testing.T) {
	t.Parallel()
	main, standby := pair(t)
	standby.mustDB(1, "stop-replication")
	main.order("unseen")
	standby.refuses(2, "replication is stopped", "catch-up")
	standby.kill()
	standby.start()
	standby.eventually(`replica lag_bytes=0 lag_seconds=0.000 id=\w+ seq=0`)
	standby.mustDB(3, "resume-replication")
	standby.mustDB(4, "catch-up")
	standby.eventually(`replica streaming .* seq=1`)
	main.refuses(0, "this is the primary", "resume-replication")
	main.refuses(0, "no replica", "catch-up")
	main.mustDB(0, "stop-replication") // nothing to stop
}

func TestPrimaryGone(t *testing.T) {
	t.Parallel()
	main, standby := pair(t)
	main.order("ann")
	standby.eventually(`replica streaming .* seq=1`)
	main.signal(unix.SIGSTOP)
	standby.eventually(`replica lag_bytes=0 .* seq=1`) // alive but silent is not streaming
	main.signal(unix.SIGCONT)
	standby.eventually(`replica streaming .* seq=1`)
	main.kill()
	standby.eventually(`replica lag_bytes=0 .* seq=1`)
	standby.refuses(1, "cannot ask the primary", "catch-up")
	standby.mustDB(2, "stop-replication")
	standby.mustDB(3, "promote")
	if code := standby.order("ben"); code != http.StatusOK {
		t.Fatalf("after the promotion an order got %d", code)
	}
	main.start() // it comes back as it was: what it is to do is Watchover's business
	main.eventually(`primary id=\w+ seq=1`)
}

// A main that came back empty was once copied by its replicas, which then were empty too (redis #1297).
func TestNothingIsCopiedFromAnotherPast(t *testing.T) {
	t.Parallel()
	t.Run("empty main", func(t *testing.T) {
		main, standby := pair(t)
		main.order("ann")
		standby.eventually(`replica streaming .* seq=1`)
		main.kill()
		if err := os.RemoveAll(main.dir); err != nil {
			t.Fatal(err)
		}
		main.start()
		standby.eventually(`replica lag_bytes=0 .* seq=1 409 Conflict: this is data set \w+, not \w+`)
		main.order("eve")
		standby.refuses(0, "cannot catch up in time", "catch-up")
		standby.refuses(0, "holds data set", "follow", "--peer", main.url)
	})
	t.Run("log cut short", func(t *testing.T) {
		main, standby := pair(t)
		main.order("ann")
		main.order("bob")
		standby.eventually(`replica streaming .* seq=2`)
		main.kill()
		log := filepath.Join(main.dir, "log.jsonl")
		if err := os.WriteFile(log, []byte(main.lines("log.jsonl")[0]+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		main.start()
		main.eventually(`primary id=\w+ seq=1`)
		standby.eventually(`replica lag_bytes=0 .* seq=2`)
		main.order("another bob") // as long again, and different
		standby.eventually(`replica lag_bytes=\d+ .* seq=2 409 Conflict: the replica's log has parted`)
		if got := standby.lines("log.jsonl"); !strings.Contains(got[1], "\"bob\"") {
			t.Fatalf("the replica's entry was replaced: %s", got[1])
		}
	})
}

func TestReceiveRefuses(t *testing.T) {
	t.Parallel()
	s, err := openStore(t.TempDir(), roleReplica, "http://peer")
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	one := entry{Seq: 1, Timeline: 3, Order: order{Name: "ann", Item: "tea"}}
	one.Sum = one.sumAfter("")
	if err := s.receive(status{ID: "a", Timeline: 3, Seq: 1, Entries: []entry{one}}); err != nil {
		t.Fatal(err)
	}
	two := entry{Seq: 2, Timeline: 3, Order: order{Name: "bob", Item: "tea"}}
	two.Sum = two.sumAfter(one.Sum)
	forged, skipped := two, two
	forged.Order.Name, skipped.Seq = "eve", 3
	for name, a := range map[string]status{
		"another data set":    {ID: "b", Timeline: 3, Seq: 2, Entries: []entry{two}},
		"no data set":         {Timeline: 3, Seq: 2, Entries: []entry{two}},
		"an older timeline":   {ID: "a", Timeline: 2, Seq: 2, Entries: []entry{two}},
		"a shorter log":       {ID: "a", Timeline: 3, Seq: 0},
		"an entry changed":    {ID: "a", Timeline: 3, Seq: 2, Entries: []entry{forged}},
		"an entry left out":   {ID: "a", Timeline: 3, Seq: 3, Entries: []entry{skipped}},
		"an entry seen twice": {ID: "a", Timeline: 3, Seq: 1, Entries: []entry{one}},
	} {
		if err := s.receive(a); err == nil || len(s.entries) != 1 || s.meta.ID != "a" || s.meta.Timeline != 3 {
			t.Errorf("%s: accepted: %v, %d entries", name, err, len(s.entries))
		}
	}
}

func TestMaintenance(t *testing.T) {
	t.Parallel()
	main := start(t, t.TempDir())
	steps := []struct {
		method, path, token string
		code                int
		text                string
	}{
		{"GET", "/admin/maintenance", "", 404, "not in maintenance"},
		{"GET", "/", "", 200, "The Corner Shop"},
		{"PUT", "/admin/maintenance", "40", 200, ""},
		{"GET", "/admin/maintenance", "", 200, "in maintenance"},
		{"GET", "/", "", 503, "Back in a moment"},
		{"POST", "/orders", "", 503, "Back in a moment"},
		{"GET", "/healthz", "", 200, "ok"},
		{"DELETE", "/admin/maintenance", "39", 409, "token 39 is lower than 40"},
		{"DELETE", "/admin/maintenance", "x", 409, "no number"},
		{"GET", "/admin/maintenance", "", 200, "in maintenance"},
		{"PUT", "/admin/maintenance", "40", 200, ""}, // the same attempt again
		{"restart", "", "", 0, ""},
		{"GET", "/", "", 503, "Back in a moment"},
		{"DELETE", "/admin/maintenance", "39", 409, "token 39 is lower than 40"},
		{"DELETE", "/admin/maintenance", "41", 200, ""},
		{"GET", "/", "", 200, "No orders yet"},
		{"PUT", "/admin/maintenance", "", 200, ""}, // a person
		{"DELETE", "/admin/maintenance", "40", 409, "lower than 41"},
		{"GET", "/nothing", "", 404, ""},
	}
	for i, s := range steps {
		if s.method == "restart" {
			main.kill()
			main.start()
			continue
		}
		if code, body := main.request(s.method, s.path, s.token); code != s.code || !strings.Contains(body, s.text) {
			t.Fatalf("%d: %s %s: %d %q", i, s.method, s.path, code, body)
		}
	}
	resp, err := client.Get(main.url + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After in maintenance")
	}
}

func TestTokensOfTheDatabase(t *testing.T) {
	t.Parallel()
	main := start(t, t.TempDir())
	main.mustDB(50, "freeze")
	main.kill()
	main.start()
	main.eventually(`primary frozen id=\w+ seq=0`)
	main.refuses(49, "token 49 is lower than 50", "unfreeze")
	// Maintenance has tokens of its own: both steps run at the same time, in any order.
	if code, body := main.request("PUT", "/admin/maintenance", "49"); code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	if _, body := main.request("POST", "/admin/db/melt", ""); !strings.Contains(body, "unknown verb") {
		t.Fatal(body)
	}
	main.mustDB(51, "unfreeze")
	if out := main.mustDB(0, "role"); strings.Contains(out, "frozen") {
		t.Fatal(out)
	}
	req, _ := http.NewRequest("POST", main.url+"/admin/db/freeze", nil)
	req.Header.Set("Watchover-Deadline", time.Now().Add(-time.Second).Format(time.RFC3339Nano))
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusConflict {
		t.Fatalf("after its deadline a freeze got %d", resp.StatusCode)
	}
}

func TestLogOnDisk(t *testing.T) {
	t.Parallel()
	fill := func(t *testing.T) (string, []byte) {
		dir := t.TempDir()
		s, err := openStore(dir, rolePrimary, "")
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		for _, name := range []string{"ann", "bob"} {
			if _, err := s.add(order{Name: name, Item: "tea"}); err != nil {
				t.Fatal(err)
			}
		}
		b, err := os.ReadFile(s.file("log.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, "log.jsonl"), b
	}
	tests := []struct {
		name    string
		change  func(b []byte) []byte
		entries int
		text    string
	}{
		{"whole", func(b []byte) []byte { return b }, 2, ""},
		{"torn last line", func(b []byte) []byte { return b[:len(b)-5] }, 1, ""},
		{"changed entry", func(b []byte) []byte { return bytes.Replace(b, []byte("ann"), []byte("eve"), 1) }, 0, "entry 1 is damaged"},
		{"entry removed", func(b []byte) []byte { return b[bytes.IndexByte(b, '\n')+1:] }, 0, "entry 1 is damaged"},
		{"no lines", func(b []byte) []byte { return bytes.Repeat([]byte("x"), 2*maxLine) }, 0, "entry 1 is too long"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file, b := fill(t)
			if err := os.WriteFile(file, tt.change(b), 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := openStore(filepath.Dir(file), rolePrimary, "")
			if tt.text != "" {
				if err == nil || !strings.Contains(err.Error(), tt.text) {
					t.Fatalf("got %v, want %q", err, tt.text)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer s.close()
			if len(s.entries) != tt.entries {
				t.Fatalf("%d entries", len(s.entries))
			}
			if e, err := s.add(order{Name: "cid", Item: "tea"}); err != nil || e.Seq != tt.entries+1 {
				t.Fatalf("appended %d, %v", e.Seq, err)
			}
			if _, err := openStore(filepath.Dir(file), rolePrimary, ""); err == nil || !strings.Contains(err.Error(), "another process") {
				t.Fatalf("opened twice: %v", err)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"sing"}, {"serve"}, {"serve", "--data", "x", "--role", "king"}, {"db"}, {"db", "melt"}, {"db", "follow"}, {"db", "freeze", "--peer", "x"}, {"db", "role", "extra"}} {
		cmd := exec.Command("/proc/self/exe", args...)
		cmd.Env = []string{appEnv + "=1"}
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), "usage:") {
			t.Errorf("%v: code %d, %q", args, cmd.ProcessState.ExitCode(), out)
		}
	}
	main := start(t, t.TempDir())
	main.kill()
	main.refuses(0, "cannot ask for the role", "role")
}
