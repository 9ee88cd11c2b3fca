package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/internal/config"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// file is the configuration of a cluster of one watcher on this machine.
type file struct {
	path, http, peer, dns string
	groups                string
}

func newFile(t *testing.T) *file {
	t.Helper()
	f := &file{path: filepath.Join(t.TempDir(), "watchover.yaml"), peer: freeAddress(t), http: freeAddress(t), dns: "127.0.0.1:0", groups: groupText("shop", "192.0.2.10")}
	f.write(t)
	return f
}

func groupText(name, address string) string {
	return fmt.Sprintf(`
  %s:
    record: %[1]s
    apps:
      - {name: main, address: [%s], probes: [{kind: tcp, address: "127.0.0.1:1"}]}
      - {name: standby, address: [198.51.100.10], probes: [{kind: tcp, address: "127.0.0.1:1"}]}
    probe: {interval: 60s}
`, name, address)
}

func (f *file) write(t *testing.T) {
	t.Helper()
	text := fmt.Sprintf(`
watcher:
  name: w1
  data_dir: data
  socket: sock
  dns_listen: [%q]
  http_listen: %q
cluster:
  name: test
  watchers:
    w1: {address: %q, dns: [127.0.0.1]}
  timing: {heartbeat: 200ms, election: 200ms, lease: 100ms}
zone:
  name: ha.example.com
groups:%s`, f.dns, f.http, f.peer, f.groups)
	if err := os.WriteFile(f.path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// edit replaces a part of the file.
func (f *file) edit(t *testing.T, old, changed string) {
	t.Helper()
	text, err := os.ReadFile(f.path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		t.Fatalf("%q is not in the file", old)
	}
	if err := os.WriteFile(f.path, []byte(strings.Replace(string(text), old, changed, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// freeAddress is on a loopback address of this process's own, so that no other process takes it meanwhile, and is not given out
// again: the kernel may well choose a port once more that was closed just now.
func freeAddress(t *testing.T) string {
	t.Helper()
	pid := os.Getpid()
	for {
		l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 64+pid>>16&63, pid>>8&255, pid&255))
		if err != nil {
			t.Fatal(err)
		}
		address := l.Addr().String()
		_ = l.Close()
		if _, again := givenOut.LoadOrStore(address, true); !again {
			return address
		}
	}
}

var givenOut sync.Map // addresses

func TestLoadConfigErrors(t *testing.T) {
	f := newFile(t)
	if _, err := LoadConfig(f.path); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ old, new, want string }{
		{"zone:", "zoon:", "zoon"},
		{"name: ha.example.com", "name: ha.example.com\n  records_file: static.zone", "static.zone"},
		{"record: shop", `record: "@"`, ""}, // addresses at the zone's own name are fine
		{"address: [192.0.2.10]", "address: [cdn.example.net]", ""},
		{"record: shop\n    apps:\n      - {name: main, address: [192.0.2.10]", "record: \"@\"\n    apps:\n      - {name: main, address: [cdn.example.net]", "CNAME"},
	} {
		text, err := os.ReadFile(f.path)
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.Replace(string(text), tc.old, tc.new, 1)
		if changed == string(text) {
			t.Fatalf("%q is not in the file", tc.old)
		}
		path := filepath.Join(filepath.Dir(f.path), "other.yaml")
		if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = LoadConfig(path)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", tc.new, err)
		}
	}
	if _, err := LoadConfig(filepath.Join(t.TempDir(), "none.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := New(Options{ConfigPath: "/none.yaml", Log: zerolog.Nop()}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

// Whatever a failed start had opened is free again: the next one works.
func TestNewThatFailsHalfWayLeavesNothingOpen(t *testing.T) {
	f := newFile(t)
	f.dns = freeAddress(t)
	f.write(t)
	taken, err := net.Listen("tcp", f.http) // the last thing that New opens
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // twice: the second finds what the first left behind
		_, err = New(Options{ConfigPath: f.path, Log: zerolog.Nop()})
		if !errors.Is(err, syscall.EADDRINUSE) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v, want only that the address is in use", err)
		}
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(f.path), "sock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
	taken.Close()
	d, err := New(Options{ConfigPath: f.path, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	stop := runs(t, d)
	until(t, d, "at rest", served)
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// runs starts a daemon; the returned func stops it and gives what Run returned.
func runs(t *testing.T, d *Daemon) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	return func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(20 * time.Second):
			t.Error("the daemon does not stop")
			return nil
		}
	}
}

// served reports whether the watcher has confirmed that its name server answers what the state says.
func served(s *failover.State) bool {
	return s.Policy != nil && s.Members[0].About.Served == s.ZoneIndex()
}

// until waits for a condition on the daemon's state.
func until(t *testing.T, d *Daemon, what string, ok func(*failover.State) bool) *failover.State {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		changed := d.node.Watch()
		if s := d.node.State(); ok(s) {
			return s
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func answer(t *testing.T, d *Daemon, name string) string {
	t.Helper()
	reply, _, err := (&dns.Client{Timeout: 2 * time.Second}).Exchange(new(dns.Msg).SetQuestion(name, dns.TypeA), d.dns.Addrs()[0].String())
	if err != nil {
		return err.Error()
	}
	if len(reply.Answer) == 0 {
		return dns.RcodeToString[reply.Rcode]
	}
	if a, ok := reply.Answer[0].(*dns.A); ok {
		return a.A.String()
	}
	return reply.Answer[0].String()
}

func TestWatcherFromStartToStop(t *testing.T) {
	f := newFile(t)
	d, err := New(Options{ConfigPath: f.path, Version: "0.1.0", Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	stop := runs(t, d)
	first := until(t, d, "the name server's answer is confirmed", served)
	if v := first.Members[0].About.Version; v != "0.1.0" {
		t.Errorf("version %q", v)
	}
	if got := answer(t, d, "shop.ha.example.com."); got != "192.0.2.10" {
		t.Errorf("answered %s", got)
	}

	d.Reload() // unchanged
	if s := d.node.State(); s.PolicyRevision != first.PolicyRevision {
		t.Error("an unchanged file changed the policy")
	}
	f.groups = groupText("shop", "192.0.2.99")
	f.write(t)
	d.Reload()
	second := until(t, d, "the changed file is in force and served", func(s *failover.State) bool { return s.PolicyRevision > first.PolicyRevision && served(s) })
	if got := answer(t, d, "shop.ha.example.com."); got != "192.0.2.99" {
		t.Errorf("answered %s after the change", got)
	}
	f.groups = strings.ReplaceAll(groupText("shop", "192.0.2.99"), "name: main", "name: renamed")
	f.write(t)
	d.Reload() // refused: main is active
	if s := d.node.State(); s.PolicyRevision != second.PolicyRevision {
		t.Error("the active app was dropped")
	}
	f.groups = groupText("shop", "192.0.2.98")
	f.write(t)
	d.Reload() // corrected, after a refusal
	second = until(t, d, "the corrected file is in force", func(s *failover.State) bool { return s.PolicyRevision > second.PolicyRevision })
	f.groups = "\n  shop: 7\n"
	f.write(t)
	d.Reload() // faulty
	if s := d.node.State(); s.PolicyRevision != second.PolicyRevision || d.configured().Policy.Groups == nil {
		t.Error("a faulty file changed something")
	}

	d.Pause() // SIGUSR2, twice
	d.Pause()
	if p := until(t, d, "paused", func(s *failover.State) bool { return s.Groups["shop"].Pause != nil }).Groups["shop"].Pause; p.By != "signal:w1" {
		t.Errorf("paused by %s", p.By)
	}
	d.Switchover() // SIGUSR1: refused, nothing is ready
	until(t, d, "refused", func(s *failover.State) bool { return s.Events[len(s.Events)-1].Type == "refused" })

	until(t, d, "the faulty file counts for nothing", func(*failover.State) bool { return !backend{d}.Local().FileDiffers })
	l := backend{d}.Local()
	if l.Watcher != "w1" || l.Cluster != "test" || l.Leader != "w1" || !l.HasQuorum || l.Isolated {
		t.Errorf("local view: %+v", l)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}

	f.groups = groupText("shop", "192.0.2.99")
	f.write(t)
	if d, err = New(Options{ConfigPath: f.path, Version: "0.1.0", Log: zerolog.Nop()}); err != nil {
		t.Fatal(err)
	}
	stop = runs(t, d)
	again := until(t, d, "confirmed again after the restart", func(s *failover.State) bool {
		return served(s) && s.Members[0].About.Boot > second.Members[0].About.Boot
	})
	if again.PolicyRevision != second.PolicyRevision || again.Groups["shop"].Pause == nil {
		t.Error("the state was not kept")
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestSignalledGroup(t *testing.T) {
	f := newFile(t)
	f.groups = groupText("blog", "192.0.2.20") + groupText("shop", "192.0.2.10")
	f.write(t)
	d, err := New(Options{ConfigPath: f.path, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	stop := runs(t, d)
	until(t, d, "at rest", served)
	if name, ok := d.signalled(); ok {
		t.Errorf("of two groups %q was taken", name)
	}
	d.Switchover() // refused without asking the cluster
	d.configured().Watcher.Signals.Switchover = "shop"
	if name, ok := d.signalled(); !ok || name != "shop" {
		t.Errorf("named is shop, taken was %q", name)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// A file is held against the watchers that there are: those that it names are of the day when the cluster began, and with
// them a policy came into force that no watcher could serve, or that no quorum could ever meet.
func TestAReloadIsHeldAgainstTheMembers(t *testing.T) {
	f := newFile(t)
	level := ""
	d, err := New(Options{ConfigPath: f.path, Log: zerolog.Nop(), SetLevel: func(text string) { level = text }})
	if err != nil {
		t.Fatal(err)
	}
	stop := runs(t, d)
	first := until(t, d, "at rest", served)
	if result, err := d.propose(t.Context(), failover.Command{AddMember: &failover.AddMember{Name: "w4", Address: "127.0.0.1:1", DNS: []string{"127.0.0.4"}}}); err != nil || !result.Accepted {
		t.Fatalf("%+v, %v", result, err)
	}
	unchanged := func(what string) {
		t.Helper()
		if d.Reload(); d.node.State().PolicyRevision != first.PolicyRevision {
			t.Fatalf("%s: is in force", what)
		}
	}
	f.edit(t, "name: ha.example.com", "name: ha.example.com\n  records: \"w4 IN A 192.0.2.4\"")
	unchanged("a record at the name of a watcher that the file does not know")

	f.write(t)
	f.edit(t, "  timing:", "    w5: {address: \"127.0.0.1:5\", dns: [127.0.0.5]}\n    w6: {address: \"127.0.0.1:6\", dns: [127.0.0.6]}\n  timing:")
	f.edit(t, "    probe: {", "    failover: {quorum: 3}\n    probe: {")
	unchanged("a quorum of more watchers than there are")

	f.write(t)
	f.edit(t, "name: ha.example.com", "name: ha.example.com\n  records: \"w7 IN A 192.0.2.4\"")
	f.edit(t, "  name: w1\n", "  name: w1\n  log: {level: warn}\n")
	d.Reload()
	until(t, d, "the corrected file is in force", func(s *failover.State) bool { return s.PolicyRevision > first.PolicyRevision })
	if level != "warn" {
		t.Errorf("the level is %q", level)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// Whatever this machine's part of a file may say is either taken up by a reload or told to be waiting.
func TestKeysThatAReloadDoesNotTakeUp(t *testing.T) {
	began := &config.File{Watcher: config.Watcher{Name: "w1", DNSListen: []string{"127.0.0.1:53"}}}
	if got := laterKeys(began, &config.File{Watcher: config.Watcher{Name: "w1", DNSListen: []string{"127.0.0.1:53"}}}); got != nil {
		t.Errorf("nothing differs, but %v", got)
	}
	other := &config.File{
		Watcher: config.Watcher{Name: "w2", DataDir: "d", Socket: "s", SocketGroup: "g", Operators: []string{"ann"}, Listen: "l", DNSListen: []string{"127.0.0.1:54"},
			HTTPListen: "h", Log: config.Log{Level: "debug", Format: "json"}, Signals: config.Signals{Switchover: "shop"}},
		Cluster: config.Cluster{Name: "c", Timing: config.Timing{Heartbeat: 1}},
	}
	for v, i := reflect.ValueOf(other.Watcher), 0; i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Errorf("%s is new: take it up in a reload or in laterKeys, and give it a value here", v.Type().Field(i).Name)
		}
	}
	want := "watcher.name watcher.data_dir watcher.socket watcher.socket_group watcher.listen watcher.dns_listen watcher.http_listen watcher.log.format cluster.name cluster.timing"
	if got := strings.Join(laterKeys(began, other), " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestJudgeFile(t *testing.T) {
	policy := func(ttl time.Duration) *failover.Policy {
		return &failover.Policy{Zone: failover.Zone{Name: "ha.example.com.", TTL: ttl}}
	}
	held := func(sum string, ttl time.Duration) *config.File { return &config.File{Sum: sum, Policy: *policy(ttl)} }
	for _, tc := range []struct {
		name     string
		inForce  *failover.Policy
		old, now *config.File
		want     fileJudgement
	}{
		{"no policy yet", nil, held("a", 1), held("b", 2), fileEarly},
		{"nothing changed", policy(1), held("a", 1), held("a", 1), fileInForce},
		{"only the watcher's own part changed", policy(1), held("a", 1), held("b", 1), fileInForce},
		{"changed here", policy(1), held("a", 1), held("b", 2), fileToPropose},
		{"changed here and by somebody else", policy(3), held("a", 1), held("b", 2), fileStale},
		{"changed by somebody else", policy(3), held("a", 1), held("a", 1), fileUnchanged},
		{"changed here to what somebody else has proposed", policy(2), held("a", 1), held("b", 2), fileInForce},
	} {
		if got := judgeFile(tc.inForce, tc.old, tc.now); got != tc.want {
			t.Errorf("%s: got %d, want %d", tc.name, got, tc.want)
		}
	}
}
