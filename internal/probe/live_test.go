package probe

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/watchover-ha/watchover/internal/localfile/hung"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// live runs a Prober against real sockets and returns the channels of what it tells.
func live(t *testing.T, registerer prometheus.Registerer, dir string) (p *Prober, changes chan Verdict, alarms chan string) {
	t.Helper()
	changes, alarms = make(chan Verdict, 100), make(chan string, 100)
	p, err := New(Options{Watcher: "w1", Dir: dir, Registerer: registerer,
		OnChange:       func(v Verdict) { changes <- v },
		OnFirstFailure: func(group, app string) { alarms <- group + "/" + app }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return p, changes, alarms
}

func await(t *testing.T, changes chan Verdict, want failover.Verdict) Verdict {
	t.Helper()
	timeout := time.NewTimer(2 * testTimeout)
	defer timeout.Stop()
	for {
		select {
		case v := <-changes:
			if v.Verdict == want {
				return v
			}
		case <-timeout.C:
			t.Fatalf("never told %s", want)
		}
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	timeout := time.NewTimer(2 * testTimeout)
	defer timeout.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-timeout.C:
			t.Fatalf("waited too long until %s", what)
		}
	}
}

// With an interval of an hour, only the closed connection can tell that the server died.
func TestDeathIsSeenAtOnce(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	p, changes, alarms := live(t, prometheus.NewRegistry(), "")
	target := Target{Group: "shop", App: "main", Revision: 7, Probes: []failover.Probe{httpProbe(server.URL)}, Probing: rhythm}
	target.Probing.Interval = time.Hour
	target.Probing.RetryInterval = 20 * time.Millisecond
	if err := p.SetTargets([]Target{target}); err != nil {
		t.Fatal(err)
	}
	await(t, changes, failover.VerdictUp)
	server.Listener.Close()
	server.CloseClientConnections()
	v := await(t, changes, failover.VerdictDown)
	if v.Reason != "connection refused" || v.Probe != "http" || v.Revision != 7 || v.Probes["http"].Verdict != failover.VerdictDown {
		t.Errorf("%+v", v)
	}
	select {
	case name := <-alarms:
		if name != "shop/main" {
			t.Errorf("first failure of %s", name)
		}
	default:
		t.Error("the first failure was not told before the verdict")
	}
}

// An app that accepts no new connections still serves the ones that it has. Someone's suspicion is not denied over such a
// connection, and without anyone's it is found out within a few intervals.
func TestAcceptingNoMoreIsDown(t *testing.T) {
	for _, tt := range []struct {
		name     string
		interval time.Duration
		poke     bool
	}{{"someone suspects it", time.Hour, true}, {"nobody does", 50 * time.Millisecond, false}} {
		t.Run(tt.name, func(t *testing.T) {
			server, _ := counting(t, func(http.ResponseWriter, *http.Request) {})
			p, changes, _ := live(t, prometheus.NewRegistry(), "")
			target := Target{Group: "shop", App: "main", Probes: []failover.Probe{httpProbe(server.URL)}, Probing: rhythm}
			target.Probing.Interval, target.Probing.RetryInterval = tt.interval, 20*time.Millisecond
			if err := p.SetTargets([]Target{target}); err != nil {
				t.Fatal(err)
			}
			await(t, changes, failover.VerdictUp)
			server.Listener.Close() // the kept connection lives on
			if tt.poke {
				p.Poke("shop", "main")
			}
			if v := await(t, changes, failover.VerdictDown); v.Reason != "connection refused" {
				t.Errorf("down because of %q", v.Reason)
			}
		})
	}
}

func TestMetricsComeAndGo(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	registry := prometheus.NewRegistry()
	p, changes, _ := live(t, registry, "")
	good := Target{Group: "shop", App: "main", Probes: []failover.Probe{httpProbe(server.URL)}, Probing: rhythm}
	bad := Target{Group: "shop", App: "old", Probes: []failover.Probe{{Kind: "tcp", Name: "port", Address: closedAddress(t)}}, Probing: rhythm}
	if err := p.SetTargets([]Target{good, bad}); err != nil {
		t.Fatal(err)
	}
	await(t, changes, failover.VerdictDown)
	const help = "# HELP watchover_probe_up Whether the last probe succeeded (1) or failed (0). No sample while this watcher cannot ask.\n# TYPE watchover_probe_up gauge\n"
	const main = "watchover_probe_up{app=\"main\",group=\"shop\",probe=\"http\"} 1\n"
	const old = "watchover_probe_up{app=\"old\",group=\"shop\",probe=\"port\"} 0\n"
	compare := func(want string) {
		t.Helper()
		if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "watchover_probe_up"); err != nil {
			t.Error(err)
		}
	}
	compare(help + main + old)
	if n := testutil.CollectAndCount(p.metrics.duration); n != 2 {
		t.Errorf("%d histograms", n)
	}
	if err := p.SetTargets([]Target{good}); err != nil {
		t.Fatal(err)
	}
	compare(help + main)
	if n := testutil.CollectAndCount(p.metrics.duration); n != 1 {
		t.Errorf("%d histograms after a target was removed", n)
	}
	if _, err := New(Options{Registerer: registry}); err == nil {
		t.Error("two probers share the metrics")
	}
	if _, err := New(Options{}); err == nil {
		t.Error("a prober without a registerer was made")
	}
}

func TestMissingFiles(t *testing.T) {
	dir := t.TempDir()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	p, changes, _ := live(t, prometheus.NewRegistry(), dir)
	spec := httpProbe(server.URL)
	spec.HeaderFile = "main.headers"
	path := filepath.Join(dir, "main.headers")
	if err := p.SetTargets([]Target{{Group: "shop", App: "main", Probes: []failover.Probe{spec}, Probing: rhythm}}); err != nil {
		t.Fatal(err)
	}
	if v := await(t, changes, failover.VerdictUnknown); v.Group != "shop" {
		t.Errorf("%+v", v)
	}
	until(t, "it is told which file", func() bool {
		return p.Verdicts()[0].Probes["http"].Reason == "cannot read file: stat "+path+": no such file or directory"
	})
	if err := os.WriteFile(path, []byte("X-Key: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	await(t, changes, failover.VerdictUp)
}

// The header file of an app lies on a mount that hangs: that says nothing about the app, and is nothing to the others.
func TestAFileThatHangsIsNoFaultOfTheApp(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "main.headers")
	if err := os.WriteFile(path, []byte("X-Key: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	free := hung.File(t, path)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	p, changes, _ := live(t, prometheus.NewRegistry(), dir)
	hanging := httpProbe(server.URL)
	hanging.HeaderFile = "main.headers"
	if err := p.SetTargets([]Target{
		{Group: "shop", App: "main", Probes: []failover.Probe{hanging}, Probing: rhythm},
		{Group: "shop", App: "standby", Probes: []failover.Probe{httpProbe(server.URL)}, Probing: rhythm},
	}); err != nil {
		t.Fatal(err)
	}
	if v := await(t, changes, failover.VerdictUp); v.App != "standby" {
		t.Errorf("%s is up", v.App)
	}
	asked := func() bool {
		p.Poke("shop", "main") // waits as little as Verdicts does
		return p.Verdicts()[0].Probes["http"].Reason != ""
	}
	until(t, "main's file is told to hang", asked)
	if v := p.Verdicts()[0]; v.Verdict != failover.VerdictUnknown || v.Probes["http"].Reason != "cannot read file: "+path+": its file system does not answer" {
		t.Errorf("%+v", v)
	}
	free()
	if v := await(t, changes, failover.VerdictUp); v.App != "main" {
		t.Errorf("%s is up", v.App)
	}
}

// A variable that is not set here is named like a missing file, and the app is unknown and not down.
func TestMissingVariables(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	p, changes, _ := live(t, prometheus.NewRegistry(), t.TempDir())
	spec := httpProbe(server.URL)
	spec.HeaderEnv = "PROBE_TEST_MISSING"
	if err := p.SetTargets([]Target{{Group: "shop", App: "main", Probes: []failover.Probe{spec}, Probing: rhythm}}); err != nil {
		t.Fatal(err)
	}
	until(t, "it is told which variable", func() bool {
		v := p.Verdicts()[0]
		return v.Verdict == failover.VerdictUnknown && v.Probes["http"].Reason == "cannot read environment variable PROBE_TEST_MISSING: it is not set"
	})
	t.Setenv("PROBE_TEST_MISSING", "X-Key: 1")
	await(t, changes, failover.VerdictUp)
}

func TestCertificatesAreTold(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	p, changes, _ := live(t, prometheus.NewRegistry(), "")
	if err := p.SetTargets([]Target{{Group: "shop", App: "main", Probes: []failover.Probe{tlsSpec(t, server)}, Probing: rhythm}}); err != nil {
		t.Fatal(err)
	}
	want := server.Certificate().NotAfter
	if v := await(t, changes, failover.VerdictUp); !v.Expires.Equal(want) {
		t.Errorf("verdict says %v, want %v", v.Expires, want)
	}
	if all := p.Certificates(); len(all) != 1 || all[0] != (Certificate{"shop", "main", "http", want}) {
		t.Errorf("%+v", all)
	}
}

func TestARefusedCertificateIsTold(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	p, changes, _ := live(t, prometheus.NewRegistry(), "")
	other := tlsSpec(t, server)
	other.Host = "other.test"
	if err := p.SetTargets([]Target{
		{Group: "shop", App: "main", Probes: []failover.Probe{other}, Probing: rhythm},
		{Group: "shop", App: "gone", Probes: []failover.Probe{httpProbe("https://" + closedAddress(t))}, Probing: rhythm},
	}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if v := await(t, changes, failover.VerdictDown); v.Untrusted != (v.App == "main") {
			t.Errorf("%s is down, %q: untrusted %v", v.App, v.Reason, v.Untrusted)
		}
	}
}
