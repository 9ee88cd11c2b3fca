package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/internal/control/controltest"
	"github.com/watchover-ha/watchover/internal/daemon"
	"github.com/watchover-ha/watchover/pkg/client"
	"github.com/watchover-ha/watchover/pkg/failover"
)

const shopFile = `watcher: {name: w1, nonsense: is not looked at}
zone: {name: ha.example.com%s}
groups:
  shop:
    record: shop
    apps:
      - {name: main, address: 192.0.2.10, probes: [{kind: tcp, address: "192.0.2.10:80"}]}
      - {name: %s, address: 198.51.100.10, probes: [{kind: tcp, address: "198.51.100.10:80"}]}
    failover: {cooldown: %s%s}
`

// policyFile writes a file and returns its path.
func policyFile(t *testing.T, zone, standby, cooldown, more string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(path, fmt.Appendf(nil, shopFile, zone, standby, cooldown, more), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// withPolicy is a cluster in which that file is in force.
func withPolicy(t *testing.T, path string) *controltest.Backend {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := daemon.ParsePolicy(path, text, filepath.Dir(path), nil)
	if err != nil {
		t.Fatal(err)
	}
	b := controltest.New(p)
	b.Verdicts("shop", "main", failover.VerdictUp, "")
	b.Verdicts("shop", "standby", failover.VerdictUp, "")
	return b
}

func TestApply(t *testing.T) {
	before := policyFile(t, "", "standby", "10m", "")
	b := withPolicy(t, before)
	socket := serving(t, b)
	for _, args := range [][]string{{"apply", before}, {"apply", before, "--dry-run"}, {"diff", before}, {"diff", before, "--exit-code"}} {
		if code, stdout, stderr := run(t, socket, "", args...); code != exitDone || stdout != "nothing to change: revision 1 says the same\n" {
			t.Errorf("%v: exit %d, %q, %q", args, code, stdout, stderr)
		}
	}
	after := policyFile(t, "", "standby", "5m", "")
	code, stdout, stderr := run(t, socket, "", "diff", after)
	if code != exitDone || stderr != "" || !strings.Contains(stdout, "-      cooldown: 10m\n+      cooldown: 5m\n") {
		t.Errorf("diff: exit %d, %q, %q", code, stdout, stderr)
	}
	if code, again, stderr := run(t, socket, "", "diff", after, "--exit-code"); code != exitFailed || again != stdout || stderr != "" {
		t.Errorf("diff --exit-code: exit %d, %q, %q", code, again, stderr)
	}
	if code, stdout, _ := run(t, socket, "", "apply", after, "--dry-run"); code != exitDone || !strings.HasSuffix(stdout, "would be accepted in place of revision 1; nothing is changed yet\n") {
		t.Errorf("dry run: exit %d, %q", code, stdout)
	}
	if b.State().PolicyRevision != 1 {
		t.Fatal("a dry run changed the policy")
	}
	code, stdout, stderr = run(t, socket, "", "apply", after)
	revision := b.State().PolicyRevision
	if want := fmt.Sprintf("policy revision %d in force, in place of 1: +1 -1 lines of `watchover diff`\n", revision); code != exitDone || stdout != want || revision == 1 {
		t.Errorf("apply: exit %d, %q, %q, revision %d", code, stdout, stderr, revision)
	}
	if got := b.State().Policy.Groups[0].Failover.Cooldown; got != 5*time.Minute {
		t.Errorf("cooldown %s", got)
	}
	code, _, stderr = run(t, socket, "", "apply", before, "--revision", "1")
	if want := fmt.Sprintf("refused by policy_revision: the policy in force is revision %d, not 1", revision); code != exitRefused || !strings.Contains(stderr, want) {
		t.Errorf("a stale revision: exit %d, %q", code, stderr)
	}
	code, stdout, _ = run(t, socket, "", "apply", before, "-o", "json")
	var set client.PolicySet
	if err := json.Unmarshal([]byte(stdout), &set); err != nil || code != exitDone || !set.Changed || set.Revision != b.State().PolicyRevision {
		t.Errorf("json: exit %d, %q, %v", code, stdout, err)
	}
}

func TestApplyIsRefused(t *testing.T) {
	b := withPolicy(t, policyFile(t, "", "standby", "10m", ""))
	if r := b.Commit(failover.Command{By: "uid:0", Request: &failover.Request{Group: "shop"}}); !r.Accepted {
		t.Fatalf("%+v", r)
	}
	socket, other := serving(t, b), policyFile(t, "", "other", "10m", "")
	for _, args := range [][]string{{"apply", other}, {"apply", other, "--dry-run"}} {
		code, _, stderr := run(t, socket, "", args...)
		if code != exitRefused || !strings.HasPrefix(stderr, "watchover: cannot apply "+other+": refused by in_use: app standby of group shop is in switchover ") {
			t.Errorf("%v: exit %d, %q", args, code, stderr)
		}
	}
	if code, stdout, stderr := run(t, socket, "", "diff", other); code != exitDone || !strings.Contains(stdout, "+        - name: other\n") && !strings.Contains(stdout, "name: other") ||
		!strings.HasPrefix(stderr, "watchover: the cluster would refuse this now: in_use: ") {
		t.Errorf("diff: exit %d, %q, %q", code, stdout, stderr)
	}
}

// TestApplyFaults: a file is judged with its own lines, by what the members have to do with it too, and before anybody is
// asked for anything.
func TestApplyFaults(t *testing.T) {
	good := policyFile(t, "", "standby", "10m", "")
	socket := serving(t, withPolicy(t, good))
	for _, test := range []struct{ path, want string }{
		{policyFile(t, "", "standby", "10", ""), ":9: groups.shop.failover.cooldown: want a duration with its unit"},
		{policyFile(t, "", "standby", "10m", ", quorum: 1"), ":9: groups.shop.failover.quorum: 1 is less than the majority of 3 watchers"},
		{policyFile(t, ", records: \"shop 60 IN A 192.0.2.1\"", "standby", "10m", ""), ":2: zone.records: "},
		{policyFile(t, ", records_file: nowhere.zone", "standby", "10m", ""), ":2: zone.records_file: cannot read records"},
	} {
		for _, verb := range []string{"apply", "diff"} {
			code, stdout, stderr := run(t, socket, "", verb, test.path)
			if code != exitUsage || stdout != "" || !strings.HasPrefix(stderr, test.path+test.want) {
				t.Errorf("%s: exit %d, %q, want %q", verb, code, stderr, test.want)
			}
		}
	}
	if code, _, stderr := run(t, "/nonexistent/socket", "", "apply", policyFile(t, "", "standby", "10", "")); code != exitUsage {
		t.Errorf("a bad file without a daemon: exit %d, %q", code, stderr)
	}
}

// The daemon reads no file for whoever asks: the records go with the proposal.
func TestApplyInlinesRecords(t *testing.T) {
	b := withPolicy(t, policyFile(t, "", "standby", "10m", ""))
	path := policyFile(t, ", records_file: static.zone", "standby", "10m", "")
	const records = "www 300 IN A 192.0.2.80\n"
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), "static.zone"), []byte(records), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := run(t, serving(t, b), "", "apply", path); code != exitDone {
		t.Fatalf("exit %d, %q, %q", code, stdout, stderr)
	}
	if got := b.State().Policy.Zone.Records; got != records {
		t.Errorf("records %q", got)
	}
}

// What a watcher shows as its policy can be applied again, as YAML and as JSON.
func TestPolicyOfTheSocketIsAppliedAgain(t *testing.T) {
	b := withPolicy(t, policyFile(t, "", "standby", "10m", ", witnesses: [\"192.0.2.1:443\"]"))
	socket := serving(t, b)
	c := client.New(socket)
	defer c.Close()
	for _, path := range []string{"/v1/policy?format=yaml", "/v1/policy"} {
		_, text, err := c.Do(t.Context(), "GET", path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if path == "/v1/policy" {
			var reply client.Policy
			if err := json.Unmarshal(text, &reply); err != nil {
				t.Fatal(err)
			}
			text = reply.Policy
		}
		file := filepath.Join(t.TempDir(), "again.yaml")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if code, stdout, stderr := run(t, socket, "", "diff", file); code != exitDone || !strings.HasPrefix(stdout, "nothing to change") {
			t.Errorf("%s: exit %d, %q, %q\n%s", path, code, stdout, stderr, text)
		}
	}
}

// Faults that only the daemon finds come with the paths of their keys.
func TestFaultsOfTheDaemon(t *testing.T) {
	path := policyFile(t, "", "standby", "10m", "")
	socket := answering(t, 400, `{"error":"cannot take the policy: it has 2 faults; line 3: a: b","code":"invalid","hint":"h","faults":[{"line":3,"path":"a","message":"b"},{"line":4,"path":"c","message":"d"}]}`)
	code, _, stderr := run(t, socket, "", "apply", path)
	if want := "watchover: cannot take the policy: it has 2 faults; line 3: a: b\na: b\nc: d\nhint: h\n"; code != exitUsage || stderr != want {
		t.Errorf("exit %d, %q", code, stderr)
	}
}
