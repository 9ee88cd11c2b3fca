package control_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/internal/control/controltest"
	"github.com/watchover-ha/watchover/pkg/client"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// text is a policy as the fake writes it.
func text(t *testing.T, p failover.Policy) client.YAML {
	t.Helper()
	out, err := controltest.PolicyText{}.YAML(p)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// slower is the policy of up with another cooldown.
func slower() failover.Policy {
	p := controltest.Policy("shop")
	p.Groups[0].Failover.Cooldown = time.Hour
	return p
}

func TestPolicy(t *testing.T) {
	s := startServer(t, up())
	c := client.New(s.path)
	defer c.Close()
	ctx := t.Context()
	inForce, err := c.Policy(ctx)
	if err != nil || inForce.Revision != 1 || !json.Valid(inForce.Policy) {
		t.Fatalf("%+v, %v", inForce, err)
	}
	trial, err := c.TryPolicy(ctx, text(t, slower()))
	if err != nil || !trial.Changed || trial.Refused != "" || trial.Revision != 1 || trial.Diff == "" {
		t.Fatalf("dry run: %+v, %v", trial, err)
	}
	if len(s.Proposed()) != 0 {
		t.Fatal("the dry run proposed something")
	}
	set, err := c.SetPolicy(ctx, 1, text(t, slower()))
	if err != nil || !set.Changed || set.Revision != set.Index || s.State().PolicyRevision != set.Revision {
		t.Fatalf("set: %+v, %v", set, err)
	}
	if by := s.Proposed()[0].By; by != "uid:0" {
		t.Errorf("recorded as %q", by)
	}
	again, err := c.SetPolicy(ctx, set.Revision, text(t, slower()))
	if err != nil || again.Changed || again.Revision != set.Revision || again.Note != "unchanged" {
		t.Errorf("again: %+v, %v", again, err)
	}
	if trial, err := c.TryPolicy(ctx, text(t, slower())); err != nil || trial.Changed || trial.Diff != "" {
		t.Errorf("dry run of what is in force: %+v, %v", trial, err)
	}
	response, body := s.ask(t, "PUT", "/v1/policy?revision=1", string(text(t, controltest.Policy("shop"))))
	if response.StatusCode != 409 || !strings.Contains(body, `"rule":"policy_revision"`) {
		t.Errorf("a stale revision: %d %s", response.StatusCode, body)
	}
}

func TestPolicyInUse(t *testing.T) {
	s := startServer(t, up())
	c := client.New(s.path)
	defer c.Close()
	without := controltest.Policy("shop")
	without.Groups[0].Apps = append(without.Groups[0].Apps[1:], failover.App{Name: "third", Address: []string{"203.0.113.10"}})
	trial, err := c.TryPolicy(t.Context(), text(t, without))
	if err != nil || trial.Refused != "in_use: app main of group shop is active" {
		t.Errorf("dry run: %+v, %v", trial, err)
	}
	response, body := s.ask(t, "PUT", "/v1/policy?revision=1", string(text(t, without)))
	if response.StatusCode != 409 || !strings.Contains(body, "refused by in_use: app main of group shop is active") {
		t.Errorf("%d %s", response.StatusCode, body)
	}
}

func TestPolicyErrors(t *testing.T) {
	good := string(text(t, slower()))
	for _, test := range []struct {
		name, method, path, body string
		uid                      uint32
		status                   int
		want                     string
	}{
		{name: "no revision", method: "PUT", path: "/v1/policy", body: good, status: 400, want: `revision \"\" is no number`},
		{name: "no number", method: "PUT", path: "/v1/policy?revision=x", body: good, status: 400, want: `revision \"x\"`},
		{name: "unknown parameter", method: "PUT", path: "/v1/policy?rev=1", body: good, status: 400, want: `\"rev\"`},
		{name: "twice", method: "PUT", path: "/v1/policy?revision=1&revision=2", body: good, status: 400, want: "2 times"},
		{name: "no truth", method: "PUT", path: "/v1/policy?dry_run=maybe", body: good, status: 400, want: "dry_run"},
		{name: "dry run and revision", method: "PUT", path: "/v1/policy?dry_run=true&revision=1", body: good, status: 400, want: `\"revision\"`},
		{name: "odd escape", method: "PUT", path: "/v1/policy?%zz", body: good, status: 400, want: "cannot read the parameters"},
		{name: "empty", method: "PUT", path: "/v1/policy?revision=1", status: 400, want: `"faults":[{"line":1`},
		{name: "faults", method: "PUT", path: "/v1/policy?revision=1", body: `{"zones":{}}`, status: 400, want: "it has 2 faults; line 1: groups.shop: json: unknown field"},
		{name: "too large", method: "PUT", path: "/v1/policy?revision=1", body: strings.Repeat(" ", 1<<20+1), status: 400, want: "larger than 1048576 bytes"},
		{name: "as large as allowed", method: "PUT", path: "/v1/policy?revision=1", body: good + strings.Repeat(" ", 1<<20-len(good)), status: 200, want: `"changed":true`},
		{name: "not allowed", method: "PUT", path: "/v1/policy?revision=1", body: good, uid: 65534, status: 403, want: "uid 65534"},
		{name: "not allowed, before the body", method: "PUT", path: "/v1/policy?revision=1", body: "nonsense", uid: 65534, status: 403, want: "uid 65534"},
		{name: "a reader may try", method: "PUT", path: "/v1/policy?dry_run=true", body: good, uid: 65534, status: 200, want: `"changed":true`},
		{name: "a reader may read", method: "GET", path: "/v1/policy", uid: 65534, status: 200, want: `{"revision":1,"policy":{`},
		{name: "as YAML", method: "GET", path: "/v1/policy?format=yaml", status: 200, want: "# policy revision 1 of cluster prod\n"},
		{name: "as what", method: "GET", path: "/v1/policy?format=xml", status: 400, want: `\"xml\"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := startServer(t, up())
			s.uid.Store(test.uid)
			response, body := s.ask(t, test.method, test.path, test.body)
			if response.StatusCode != test.status || !strings.Contains(body, test.want) {
				t.Errorf("got %d %s, want %d with %s", response.StatusCode, body, test.status, test.want)
			}
			if test.status != 200 && len(s.Proposed()) > 0 {
				t.Error("it proposed something")
			}
		})
	}
}

// Before its first start is complete a cluster has no policy to show, and none to be measured against.
func TestPolicyBeforeTheFirstStart(t *testing.T) {
	b := up()
	s := startServer(t, b)
	b.Edit(func(state *failover.State) { *state = *failover.NewState() })
	if response, body := s.ask(t, "GET", "/v1/policy", ""); response.StatusCode != 200 || strings.TrimSpace(body) != `{"revision":0,"policy":null}` {
		t.Errorf("%d %s", response.StatusCode, body)
	}
	for _, path := range []string{"?revision=0", "?dry_run=true"} {
		if response, body := s.ask(t, "PUT", "/v1/policy"+path, string(text(t, slower()))); response.StatusCode != 503 {
			t.Errorf("%s: %d %s", path, response.StatusCode, body)
		}
	}
	if response, body := s.ask(t, "GET", "/v1/policy?format=yaml", ""); response.StatusCode != 404 {
		t.Errorf("%d %s", response.StatusCode, body)
	}
}
