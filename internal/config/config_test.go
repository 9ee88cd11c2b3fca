package config

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/internal/localfile"
	"github.com/watchover-ha/watchover/internal/localfile/hung"
	"github.com/watchover-ha/watchover/pkg/failover"
)

var update = flag.Bool("update", false, "write testdata/bad/*.want anew")

// TestBad holds each bad file against the exact faults that a person is told.
func TestBad(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) < 45 {
		t.Fatalf("found %d bad files, want 45 or more (%v)", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Parse(name+".yaml", text, "testdata/bad")
			var faults Errors
			if !errors.As(err, &faults) {
				t.Fatalf("got %v, want Errors", err)
			}
			got, want := faults.Error()+"\n", strings.TrimSuffix(file, ".yaml")+".want"
			if *update {
				if err := os.WriteFile(want, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			expected, err := os.ReadFile(want)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(expected) {
				t.Errorf("got:\n%swant:\n%s", got, expected)
			}
		})
	}
}

func TestGoodFiles(t *testing.T) {
	for file, check := range map[string]func(*testing.T, *File){
		"minimal.yaml": checkMinimal,
		"full.yaml":    checkFull,
		"wan.yaml":     checkWAN,
		"cname.yaml":   checkCNAME,
		"records.yaml": checkRecords,
		"servers.yaml": checkServers,

		"environment.yaml": checkEnvironment,
	} {
		t.Run(file, func(t *testing.T) {
			path := filepath.Join("testdata/good", file)
			f, err := Load(path)
			if err != nil {
				t.Fatal(err)
			}
			if f.Path != path || len(f.Sum) != 64 {
				t.Errorf("got path %q and sum %q", f.Path, f.Sum)
			}
			check(t, f)
		})
	}
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: got %+v, want %+v", what, got, want)
	}
}

// checkMinimal spells the documented defaults out once more, so that a change of one is noticed.
func checkMinimal(t *testing.T, f *File) {
	equal(t, "watcher", f.Watcher, Watcher{
		Name: "w1", DataDir: "/var/lib/watchover", Socket: "/run/watchover/watchover.sock",
		Listen: "127.0.0.1:7653", DNSListen: []string{"127.0.0.1:53", "[::1]:53"}, HTTPListen: "127.0.0.1:9653",
		Log: Log{Level: "info", Format: "auto"},
	})
	equal(t, "timing", f.Cluster.Timing, Timing{
		Heartbeat: time.Second, Election: time.Second, Lease: 500 * time.Millisecond,
		Commit: 50 * time.Millisecond, Transport: time.Second,
	})
	equal(t, "zone", f.Policy.Zone, failover.Zone{
		Name: "ha.example.com.", TTL: 300 * time.Second,
		Isolation: failover.Isolation{After: 10 * time.Second, TTL: 30 * time.Second},
	})
	g := f.Policy.Groups[0]
	equal(t, "probing", g.Probing, failover.Probing{
		Interval: 2 * time.Second, RetryInterval: 500 * time.Millisecond, Timeout: time.Second, Fall: 3, Rise: 2,
	})
	equal(t, "rules", g.Failover, failover.Rules{
		Mode: "automatic", ConfirmFor: 10 * time.Second, Cooldown: 600 * time.Second,
		MaxLag: failover.MaxLag{Bytes: 16777216, Time: 30 * time.Second}, RequireFence: "auto", RehearseEvery: 600 * time.Second,
	})
	ordinary := failover.StepSetting{Timeout: 10 * time.Second, Tries: 3, Backoff: time.Second}
	equal(t, "steps", g.Steps, failover.StepSettings{
		"maintenance-on": ordinary, "freeze": ordinary, "stop-replication": ordinary, "maintenance-off": ordinary, "switch-dns": ordinary,
		"catch-up": {Timeout: 30 * time.Second, Tries: 1, Backoff: time.Second},
		"promote":  {Timeout: 60 * time.Second, Tries: 3, Backoff: time.Second},
		"verify":   {Timeout: 30 * time.Second, Tries: 1, Backoff: time.Second},
	})
	equal(t, "probes", g.Apps[0].Probes, []failover.Probe{
		{Kind: "http", Name: "http", HTTP: failover.HTTP{Method: "GET", URL: "http://127.0.0.1:9001/healthz"}},
	})
	equal(t, "warnings", f.Warnings, []string(nil))
	equal(t, "missing", Missing(t.Context(), f.Policy, f.Dir), []string(nil))
}

func checkFull(t *testing.T, f *File) {
	dir, err := filepath.Abs("testdata/good")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "watcher", f.Watcher, Watcher{
		Name: "w2", DataDir: filepath.Join(dir, "state"), Socket: filepath.Join(dir, "w.sock"), SocketGroup: "adm",
		Operators: []string{"alice", "bob"}, Listen: "127.0.0.1:7700",
		DNSListen: []string{"127.0.0.2:5353", ":5354"}, HTTPListen: "",
		Log: Log{Level: "debug", Format: "json"}, Signals: Signals{Switchover: "shop"},
	})
	equal(t, "member", f.Cluster.Watchers["w2"], Member{Address: "[::1]:7653", DNS: []netip.Addr{netip.MustParseAddr("127.0.0.2")}})
	equal(t, "timing", f.Cluster.Timing, Timing{
		Heartbeat: 200 * time.Millisecond, Election: 300 * time.Millisecond, Lease: 100 * time.Millisecond,
		Commit: 10 * time.Millisecond, Transport: time.Second,
	})
	z := f.Policy.Zone
	equal(t, "zone", z.Name, "ha.example.com.")
	equal(t, "isolation", z.Isolation, failover.Isolation{After: 5 * time.Second, TTL: 10 * time.Second, ServfailAfter: time.Hour})
	equal(t, "records", z.Records, "www 300 IN A 192.0.2.80\n")
	var names []string
	for _, g := range f.Policy.Groups {
		names = append(names, g.Name+"="+g.Record)
	}
	equal(t, "groups", names, []string{"api=@", "blog=www.blog", "shop=shop"})
	checkShop(t, f.Policy.Groups[2])
	missing := []string{
		"/nonexistent/maintenance", "/nonexistent/shop-db", filepath.Join(dir, "announce"), filepath.Join(dir, "main.headers"),
		filepath.Join(dir, "hook.url"), filepath.Join(dir, "page"),
	}
	slices.Sort(missing) // where the checkout lies decides which come first
	equal(t, "missing", Missing(t.Context(), f.Policy, f.Dir), missing)
}

func checkShop(t *testing.T, g failover.Group) {
	main, standby := g.Apps[0], g.Apps[1]
	equal(t, "address", main.Address, []string{"192.0.2.10", "2001:db8::10"})
	equal(t, "http probe", main.Probes[0], failover.Probe{Kind: "http", Name: "web", ExpectBody: "ok", HTTP: failover.HTTP{
		Method: "OPTIONS", URL: "https://192.0.2.10/healthz", Host: "shop.example.com", CAFile: "ca.pem", ExpectStatus: []int{200, 204},
	}})
	equal(t, "tcp probe", main.Probes[1], failover.Probe{Kind: "tcp", Name: "db-port", Address: "192.0.2.10:5432"})
	equal(t, "tls probe", main.Probes[2], failover.Probe{
		Kind: "tls", Name: "tls", Address: "[2001:db8::10]:443", ServerName: "shop.example.com", HTTP: failover.HTTP{CAFile: "ca.pem"},
	})
	equal(t, "dns probe", main.Probes[3], failover.Probe{
		Kind: "dns", Name: "dns", Address: "192.0.2.10:53", Query: "shop.example.com.", QueryType: "A", ExpectAnswer: []string{"192.0.2.10"},
	})
	equal(t, "exec probe", main.Probes[4], failover.Probe{Kind: "exec", Name: "exec", Exec: []string{"./alive", "--fast"}})
	equal(t, "grpc probe", main.Probes[5], failover.Probe{
		Kind: "grpc", Name: "grpc", Address: "192.0.2.10:50051", Service: "shop.v1.Cart", TLS: true, ServerName: "shop.example.com",
		HTTP: failover.HTTP{CAFile: "ca.pem"},
	})
	equal(t, "icmp probe", main.Probes[6], failover.Probe{Kind: "icmp", Name: "icmp", Address: "2001:db8::10"})
	equal(t, "standby probes", standby.StandbyProbes, []failover.Probe{{Kind: "tcp", Name: "tcp", Address: "198.51.100.10:22"}})
	equal(t, "maintenance on", main.Maintenance.On.HTTP, &failover.HTTP{
		Method: "PUT", URL: "https://192.0.2.10/admin/maintenance", HeaderFile: "main.headers", Body: "on",
	})
	equal(t, "maintenance off", main.Maintenance.Off.HTTP.Method, "POST")
	equal(t, "maintenance check", main.Maintenance.Check.HTTP.Method, "GET")
	equal(t, "maintenance exec", standby.Maintenance.On.Exec, []string{"/nonexistent/maintenance", "on"})
	equal(t, "database", standby.Database, &failover.Database{Kind: "exec", Exec: &failover.DatabaseExec{
		Role: []string{"/nonexistent/shop-db", "role"}, Freeze: []string{"/nonexistent/shop-db", "freeze"},
		Unfreeze: []string{"/nonexistent/shop-db", "unfreeze"}, CatchUp: []string{"/nonexistent/shop-db", "catch-up"},
		StopReplication:   []string{"/nonexistent/shop-db", "stop"},
		ResumeReplication: []string{"/nonexistent/shop-db", "resume"}, Promote: []string{"/nonexistent/shop-db", "promote"},
	}})
	equal(t, "probing", g.Probing, failover.Probing{
		Interval: 200 * time.Millisecond, RetryInterval: 200 * time.Millisecond, Timeout: 50 * time.Millisecond, Fall: 1, Rise: 5,
	})
	equal(t, "rules", g.Failover, failover.Rules{
		Mode: "observe", Quorum: 3, ConfirmFor: 0, Cooldown: 30 * time.Second,
		MaxLag: failover.MaxLag{Bytes: 1500, Time: 1500 * time.Millisecond}, RequireFence: "never",
		Witnesses: []string{"192.0.2.1:443", "[2001:db8::1]:53"}, RehearseEvery: 10 * time.Minute,
	})
	equal(t, "promote", g.Steps[failover.StepPromote], failover.StepSetting{
		Timeout: 90 * time.Second, Tries: 2, Backoff: time.Second,
		Before: []failover.Action{{HTTP: &failover.HTTP{Method: "POST", URL: "http://127.0.0.1/before"}}},
		After:  []failover.Action{{Exec: []string{"./announce"}}},
	})
	equal(t, "notify", g.Notify, []failover.Action{{Webhook: &failover.Webhook{URLFile: "hook.url"}}, {Exec: []string{"./page", "night"}}})
	equal(t, "untouched step", g.Steps[failover.StepVerify].Timeout, 30*time.Second)
}

func checkServers(t *testing.T, f *File) {
	main := f.Policy.Group("shop").Apps[0]
	dsn := "host=192.0.2.10 user=watchover dbname=postgres sslmode=verify-full"
	equal(t, "database", main.Database, &failover.Database{Kind: "postgres", DSN: dsn, PasswordFile: "pg.pass", CAFile: "ca.pem", Reprotect: []string{"/usr/local/bin/rewind", "--fast"}})
	equal(t, "probe", main.Probes[0], failover.Probe{Kind: "postgres", Name: "db", DSN: dsn, PasswordFile: "pg.pass", HTTP: failover.HTTP{CAFile: "ca.pem"}})
	missing := []string{
		"/usr/local/bin/rewind", filepath.Join(f.Dir, "my.pass"), filepath.Join(f.Dir, "pg.pass"), filepath.Join(f.Dir, "redis.pass")}
	slices.Sort(missing) // where the checkout lies decides which comes first
	equal(t, "missing files", Missing(t.Context(), f.Policy, f.Dir), missing)
}

// checkEnvironment: wherever a secret may be in a file, it may be in a variable, of which the policy has the name.
func checkEnvironment(t *testing.T, f *File) {
	g := f.Policy.Group("shop")
	main := g.Apps[0]
	equal(t, "probe's headers", main.Probes[0].HeaderEnv, failover.Variable("SHOP_PROBE_HEADERS"))
	equal(t, "probe's password", main.Probes[1].PasswordEnv, failover.Variable("_pg_password2"))
	equal(t, "maintenance", main.Maintenance.On.HTTP, &failover.HTTP{Method: "PUT", URL: "https://192.0.2.10/admin/maintenance", HeaderEnv: "SHOP_HEADERS"})
	equal(t, "database", main.Database, &failover.Database{Kind: "postgres", DSN: "postgres://watchover@192.0.2.10/postgres", PasswordEnv: "SHOP_PG_PASSWORD"})
	equal(t, "hook", g.Steps[failover.StepPromote].After[0].HTTP.HeaderEnv, failover.Variable("ANNOUNCE_HEADERS"))
	equal(t, "notify", g.Notify, []failover.Action{
		{Webhook: &failover.Webhook{URLEnv: "SLACK_URL"}}, {Webhook: &failover.Webhook{URLEnv: "PAGER_URL"}}, {Webhook: &failover.Webhook{URLFile: "hook.url"}},
	})
	missing, unset := Lacks(t.Context(), f.Policy, f.Dir)
	equal(t, "missing files", missing, []string{filepath.Join(f.Dir, "hook.url"), filepath.Join(f.Dir, "main.headers"), filepath.Join(f.Dir, "pg.pass")})
	equal(t, "variables that are not set", unset, []string{
		"environment variable ANNOUNCE_HEADERS", "environment variable PAGER_URL", "environment variable SHOP_HEADERS",
		"environment variable SHOP_PG_PASSWORD", "environment variable SHOP_PROBE_HEADERS", "environment variable SLACK_URL",
		"environment variable _pg_password2",
	})
}

func checkRecords(t *testing.T, f *File) {
	equal(t, "records", f.Policy.Zone.Records, "www 300 IN A 192.0.2.80\nmail 300 IN A 192.0.2.25\n")
	equal(t, "a plain grpc probe", f.Policy.Groups[0].Apps[0].Probes[0], failover.Probe{Kind: "grpc", Name: "grpc", Address: "192.0.2.1:50051"})
	equal(t, "a host to ping", f.Policy.Groups[0].Apps[1].Probes[0], failover.Probe{Kind: "icmp", Name: "icmp", Address: "standby.example.net"})
}

func checkWAN(t *testing.T, f *File) {
	equal(t, "timing", f.Cluster.Timing, Timing{
		Heartbeat: 3 * time.Second, Election: 3 * time.Second, Lease: 1500 * time.Millisecond,
		Commit: 200 * time.Millisecond, Transport: 3 * time.Second,
	})
	equal(t, "isolation ttl follows a short zone ttl", f.Policy.Zone.Isolation.TTL, 5*time.Second)
	equal(t, "retry interval follows a short interval", f.Policy.Groups[0].Probing.RetryInterval, 100*time.Millisecond)
	equal(t, "warnings", f.Warnings, []string{
		"testdata/good/wan.yaml:13: groups.shop.apps[0].probes[0].url: parameter \"token\" looks like a secret, and URLs are replicated and shown; use header_file or header_env",
		"2 watchers survive no more failures than 1 do; use three or five",
		"watchers w1 and w2 share the DNS address 192.0.2.53: they fail together",
		"apps a and b of group shop have the same addresses: a switch between them changes no DNS answer",
	})
}

func checkCNAME(t *testing.T, f *File) {
	equal(t, "absolute host name", f.Policy.Groups[0].Apps[0].Address, []string{"main.example.net."})
	equal(t, "host name as plain text", f.Policy.Groups[0].Apps[1].Address, []string{"standby.example.net."})
	equal(t, "warnings", f.Warnings, []string{
		"a cluster of one watcher is for trials: its own trouble looks like the app's, and nobody takes over",
		"groups shop and wiki run the same database programs: a database belongs to one group only",
	})
}

func TestExample(t *testing.T) {
	file, err := os.ReadFile("../../examples/watchover.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if string(file) != string(Example()) {
		t.Error("examples/watchover.yaml is not what `config example` prints")
	}
	f, err := Load("../../examples/watchover.yaml")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "warnings", f.Warnings, []string(nil))

	// The example calls values default; all but the keys that are named as exceptions have to be.
	d, g := Default(), f.Policy.Groups[0]
	equal(t, "probing", g.Probing, d.Group.Probing)
	g.Failover.Witnesses = nil
	equal(t, "rules", g.Failover, d.Group.Failover)
	equal(t, "timing", f.Cluster.Timing, d.Cluster.Timing)
	zone := d.Zone
	zone.Name = "ha.example.com."
	equal(t, "zone", f.Policy.Zone, zone)
	promote := g.Steps[failover.StepPromote]
	promote.After = nil
	g.Steps[failover.StepPromote] = promote
	equal(t, "steps", g.Steps, d.Group.Steps)
}

// TestDefaultsHaveEveryStep keeps the runner from meeting a step without a timeout.
func TestDefaultsHaveEveryStep(t *testing.T) {
	steps := Default().Group.Steps
	for _, name := range failover.Plan {
		if s := steps[name]; s.Timeout <= 0 || s.Tries < 1 || s.Backoff <= 0 {
			t.Errorf("%s: got %+v", name, s)
		}
	}
	if len(steps) != len(failover.Plan) {
		t.Errorf("got %d steps, want %d", len(steps), len(failover.Plan))
	}
}

// TestPolicyJSONRoundTrip: what is written to the log is what was read from the file.
func TestPolicyJSONRoundTrip(t *testing.T) {
	for _, file := range []string{"minimal.yaml", "full.yaml", "cname.yaml"} {
		f, err := Load(filepath.Join("testdata/good", file))
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(f.Policy)
		if err != nil {
			t.Fatal(err)
		}
		var back failover.Policy
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatal(err)
		}
		equal(t, file, back, f.Policy)
	}
}

func TestSumCoversRecords(t *testing.T) {
	dir := t.TempDir()
	text, err := os.ReadFile("testdata/good/minimal.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(strings.Replace(string(text), "name: ha.example.com", "name: ha.example.com, records_file: z", 1))
	load := func(records string) string {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "z"), []byte(records), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := Parse("f", text, dir)
		if err != nil {
			t.Fatal(err)
		}
		return f.Sum
	}
	a, b, again := load("www A 192.0.2.1\n"), load("www A 192.0.2.2\n"), load("www A 192.0.2.1\n")
	if a == b || a != again {
		t.Errorf("sums of two records files and the first again: %s, %s, %s", a, b, again)
	}
}

func TestCheckRecords(t *testing.T) {
	text, err := os.ReadFile("testdata/good/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	o := Options{CheckRecords: func(zone string, ttl time.Duration, text string) error {
		return fmt.Errorf("line 1: refused for %s with TTL %s: %s", zone, ttl, text[:3])
	}}
	_, err = o.Parse("full.yaml", text, "testdata/good")
	want := `full.yaml:20: zone.records_file: "static.zone": line 1: refused for ha.example.com. with TTL 1m0s: www`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestCheckZone(t *testing.T) {
	o := Options{CheckZone: func(p failover.Policy, members map[string]Member) error {
		return fmt.Errorf("%d groups and %d watchers in %s", len(p.Groups), len(members), p.Zone.Name)
	}}
	_, err := o.Load("testdata/good/full.yaml")
	if want := "testdata/good/full.yaml:20: zone.records_file: 3 groups and 3 watchers in ha.example.com."; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	text, err := os.ReadFile("testdata/good/minimal.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, err = o.ParsePolicy("f", text, "")
	if want := "f:8: zone: 1 groups and 0 watchers in ha.example.com."; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	o.CheckZone = func(failover.Policy, map[string]Member) error { t.Error("asked about a faulty file"); return nil }
	if _, err := o.Parse("f", append(text, "oops: 1\n"...), ""); err == nil {
		t.Error("a faulty file was accepted")
	}
}

func TestSameDatabases(t *testing.T) {
	v, r := scalar(t, "[{database: {}}, {database: {}}, {database: {}}]")
	exec, other := &failover.Database{Kind: "exec"}, &failover.Database{Kind: "other"}
	r.sameDatabases(v.list(3), []failover.App{{Name: "a", Database: exec}, {Database: other}, {Database: exec}})
	if want := `is of kind other, but that of "a" is of kind exec`; len(r.faults) != 1 || r.faults[0].Message != want {
		t.Errorf("got %v, want %q", r.faults, want)
	}
}

func TestParsePolicy(t *testing.T) {
	text, err := os.ReadFile("testdata/good/minimal.yaml")
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse("f", text, "")
	if err != nil {
		t.Fatal(err)
	}
	_, policy, _ := strings.Cut(string(text), "zone:")
	policy = "zone:" + policy
	for name, file := range map[string]string{
		"policy alone":             policy,
		"other sections unjudged":  "watcher: 5\ncluster: [nonsense]\n" + policy,
		"whole file":               string(text),
		"without watcher's keys":   "watcher:\n" + policy,
		"address that needs a TLS": "cluster: {watchers: {w1: {address: \"192.0.2.1:1\"}}}\n" + policy,
	} {
		p, err := ParsePolicy("f", []byte(file), "")
		if name == "without watcher's keys" {
			if err == nil || err.Error() != "f:1: watcher: has no value; write one or leave the key out" {
				t.Errorf("%s: got %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		equal(t, name, p, f.Policy)
	}
	o := Options{Members: []string{"shop", "w2", "w3"}}
	if _, err := o.ParsePolicy("f", []byte(policy), ""); err == nil || !strings.Contains(err.Error(), "is the name of a watcher") {
		t.Errorf("record equal to a member's name: got %v", err)
	}
	if _, err := ParsePolicy("f", []byte("zones: {}\n"), ""); err == nil || !strings.Contains(err.Error(), `did you mean "zone"?`) {
		t.Errorf("misspelled section: got %v", err)
	}
}

// A file of a running cluster names the watchers of the day when it began: quorum and records are held against those that
// there are.
func TestParseAmongOtherMembers(t *testing.T) {
	text, err := os.ReadFile("testdata/good/minimal.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for members, want := range map[string]string{
		"":            "",
		"w1 w2 w3 w4": "",
		"shop w2 w3":  "is the name of a watcher",
	} {
		_, err := Options{Members: strings.Fields(members)}.Parse("f", text, "")
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("among %q: %v", members, err)
		}
	}
}

func TestLoadRefusesWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, slices.Repeat([]byte("#\n"), maxFileSize), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "none"): "no such file",
		dir:                        "is not a regular file",
		"/dev/zero":                "is not a regular file",
		big:                        "is larger than 1024 KiB",
	} {
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "cannot read configuration: ") {
			t.Errorf("%s: got %v, want %q", path, err, want)
		}
	}
	if _, err := Parse("f", make([]byte, maxFileSize+1), ""); err == nil || !strings.Contains(err.Error(), "is larger than 1024 KiB") {
		t.Errorf("text that is too long: got %v", err)
	}
}

func TestRecordsFileTooLarge(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "z"), make([]byte, maxRecordsSize+1), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := ParsePolicy("f", []byte("zone: {name: a.example, records_file: z}\ngroups: {}\n"), dir)
	if err == nil || !strings.Contains(err.Error(), "f:1: zone.records_file: cannot read records: ") || !strings.Contains(err.Error(), "larger than 256 KiB") {
		t.Errorf("got %v", err)
	}
	_, err = ParsePolicy("f", []byte("zone: {name: a.example, records_file: z}\n"), "")
	if err == nil || !strings.Contains(err.Error(), `zone.records_file: "z" cannot be read here`) {
		t.Errorf("without a directory: got %v", err)
	}
}

func TestMissingWantsExecutablePrograms(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"run": 0o755, "plain": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	p := failover.Policy{Groups: []failover.Group{{
		Apps: []failover.App{{Probes: []failover.Probe{
			{Exec: []string{"./run"}}, {Exec: []string{"./plain"}}, {HTTP: failover.HTTP{CAFile: "plain", HeaderFile: "gone"}},
		}}},
		Notify: []failover.Action{{Webhook: &failover.Webhook{URLFile: "gone"}}, {Exec: []string{"./notify"}}},
	}}}
	equal(t, "missing", Missing(t.Context(), p, dir), []string{filepath.Join(dir, "gone"), filepath.Join(dir, "notify"), filepath.Join(dir, "plain")})
}

// A file that is there and cannot be used is as good as missing.
func TestMissingWantsFilesThatCanBeUsed(t *testing.T) {
	dir := t.TempDir()
	files := map[string]os.FileMode{"header": 0o600, "program": 0o700, "public": 0o755}
	for name, mode := range files {
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	p := failover.Policy{Groups: []failover.Group{{
		Apps:   []failover.App{{Probes: []failover.Probe{{HTTP: failover.HTTP{CAFile: "public", HeaderFile: "header"}}}}},
		Notify: []failover.Action{{Exec: []string{"./program"}}, {Exec: []string{"./public"}}},
	}}}
	equal(t, "missing for their owner", Missing(t.Context(), p, dir), []string(nil))
	got := asNobody(t, dir, files, func() (missing []string) { // on that thread alone: Missing looks from others
		for f := range walk(p, dir).files {
			if !f.usable() {
				missing = append(missing, f.path)
			}
		}
		slices.Sort(missing)
		return missing
	})
	equal(t, "missing for somebody else", got, []string{filepath.Join(dir, "header"), filepath.Join(dir, "program")})
}

// A variable that is not set is named like a missing file, and so is an empty one that has to hold a password or a URL. What
// is in a variable is not told.
func TestMissingWantsVariables(t *testing.T) {
	p := failover.Policy{Groups: []failover.Group{{
		Apps: []failover.App{{
			Probes:   []failover.Probe{{HTTP: failover.HTTP{HeaderEnv: "WANTED_HEADERS"}}, {PasswordEnv: "WANTED_PROBE_PASSWORD"}},
			Database: &failover.Database{PasswordFile: "gone", PasswordEnv: "WANTED_PASSWORD"},
		}},
		Notify: []failover.Action{{Webhook: &failover.Webhook{URLEnv: "WANTED_URL"}}},
	}}}
	dir := t.TempDir()
	names := []string{"WANTED_HEADERS", "WANTED_PASSWORD", "WANTED_PROBE_PASSWORD", "WANTED_URL"}
	check := func(what string, unset ...string) {
		t.Helper()
		want := []string{filepath.Join(dir, "gone")}
		for _, name := range unset {
			want = append(want, "environment variable "+name)
		}
		equal(t, what, Missing(t.Context(), p, dir), want)
	}
	check("not set", names...)
	for _, name := range names {
		t.Setenv(name, "")
	}
	check("empty", names[1:]...)
	for _, name := range names {
		t.Setenv(name, "\n")
	}
	check("an empty line", names[1:]...)
	for _, name := range names {
		t.Setenv(name, "hunter2")
	}
	check("set")
}

// A file on a mount that hangs is as good as missing, and takes no time from the others; a configuration on one is not waited
// for without end.
func TestFilesThatHang(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	there, token, file := path("there"), path("token"), path("watchover.yaml")
	hung.File(t, token)
	hung.File(t, file)
	p := failover.Policy{Groups: []failover.Group{{Apps: []failover.App{{Probes: []failover.Probe{
		{HTTP: failover.HTTP{HeaderFile: token, CAFile: there}}, {PasswordFile: token},
	}}}}}}
	var looks sync.WaitGroup
	looks.Go(func() { equal(t, "missing", Missing(t.Context(), p, dir), []string{token}) })
	looks.Go(func() {
		if _, err := Load(file); !errors.Is(err, localfile.ErrHangs) {
			t.Errorf("a configuration that hangs: %v", err)
		}
	})
	looks.Wait()
}

// asNobody runs f without the rights of the files' owner: as another user if this process may become one, which the
// kernel does for each thread alone, else with the rights taken off the files.
func asNobody(t *testing.T, dir string, files map[string]os.FileMode, f func() []string) (got []string) {
	t.Helper()
	if os.Geteuid() != 0 {
		for name, mode := range files {
			if err := os.Chmod(filepath.Join(dir, name), mode&0o077); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(filepath.Join(dir, "public"), 0o755); err != nil {
			t.Fatal(err)
		}
		return f()
	}
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for ever: the thread ends with this goroutine
		if err := syscall.Setfsuid(65534); err != nil {
			return
		}
		got = f()
	}()
	<-done
	return got
}

// TestFaultsAreBounded: a file that is wrong throughout is answered in a page.
func TestFaultsAreBounded(t *testing.T) {
	var b strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&b, "key%d: 1\n", i)
	}
	_, err := Parse("f", []byte(b.String()), "")
	var faults Errors
	if !errors.As(err, &faults) || len(faults) != maxFaults+1 {
		t.Fatalf("got %d faults, want %d", len(faults), maxFaults+1)
	}
	if !slices.IsSortedFunc(faults, func(a, b Fault) int { return a.Line - b.Line }) {
		t.Error("faults are not sorted by line")
	}
}

// The sample app's page shows a database section; it is one that can be copied.
func TestSampleAppsDatabaseSection(t *testing.T) {
	page, err := os.ReadFile("../../examples/sampleapp/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "```yaml\n")
	section, _, closed := strings.Cut(section, "```")
	if !found || !closed {
		t.Fatal("the page shows no YAML")
	}
	text, err := os.ReadFile("testdata/good/minimal.yaml")
	if err != nil {
		t.Fatal(err)
	}
	indented := "        " + strings.ReplaceAll(strings.TrimSpace(section), "\n", "\n        ") + "\n"
	changed := strings.ReplaceAll(string(text), "        probes:", indented+"        probes:")
	f, err := Parse("f", []byte(changed), "")
	if err != nil {
		t.Fatal(err)
	}
	if d := f.Policy.Groups[0].Apps[0].Database; d == nil || len(d.Exec.Promote) == 0 {
		t.Errorf("database %+v", d)
	}
}
