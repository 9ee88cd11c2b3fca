package daemon

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/internal/localfile/hung"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// accepts is the address of an app that is well until down is called.
func accepts(t *testing.T) (address string, down func()) {
	t.Helper()
	l, err := net.Listen("tcp", freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() { // ends with the listener
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	return l.Addr().String(), func() { _ = l.Close() }
}

// withToken runs a watcher whose policy names the file token, until shop could be switched over.
func withToken(t *testing.T, groups string) (d *Daemon, token string) {
	t.Helper()
	f := newFile(t)
	token = filepath.Join(filepath.Dir(f.path), "token")
	if err := os.WriteFile(token, []byte("X-Token: a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.groups = groups
	f.write(t)
	d, err := New(Options{ConfigPath: f.path, Version: "0.1.0", Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	stop := runs(t, d)
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	until(t, d, "shop is ready", func(s *failover.State) bool { return served(s) && s.Ready("shop", "standby") })
	return d, token
}

func switchOver(t *testing.T, d *Daemon) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if r, err := d.propose(ctx, failover.Command{Request: &failover.Request{Group: "shop", To: "standby"}}); err != nil || !r.Accepted {
		t.Fatalf("%+v, %v", r, err)
	}
}

// A secret of another group lies on a mount that hangs. This watcher was then heard as before, but answered and reported
// nothing new any more.
func TestAFileThatHangsHoldsUpNoAnswer(t *testing.T) {
	address, down := accepts(t)
	d, token := withToken(t, fmt.Sprintf(`
  shop:
    record: shop
    apps:
      - {name: main, address: [192.0.2.10], probes: [{kind: tcp, address: %[1]q}]}
      - {name: standby, address: [198.51.100.10], probes: [{kind: tcp, address: %[1]q}]}
    probe: {interval: 1s}
  other:
    record: other
    apps:
      - {name: a, address: [192.0.2.11], probes: [{kind: http, url: "http://127.0.0.1:1/", header_file: token}]}
      - {name: b, address: [198.51.100.11], probes: [{kind: tcp, address: "127.0.0.1:1"}]}
    probe: {interval: 60s}
`, address))
	free := hung.File(t, token)
	d.Reload() // has the files looked at now
	want := []failover.MissingFile{{Group: "other", File: token}}
	until(t, d, "the file is told as missing", func(s *failover.State) bool { return slices.Equal(s.Members[0].About.Missing, want) })
	switchOver(t, d)
	until(t, d, "the name server follows", func(s *failover.State) bool { return s.Groups["shop"].Active == "standby" && served(s) })
	if got := answer(t, d, "shop.ha.example.com."); got != "198.51.100.10" {
		t.Errorf("answers %s", got)
	}
	down()
	until(t, d, "that the apps are down is told", func(s *failover.State) bool {
		r := s.Groups["shop"].Apps["standby"].Reports["w1"]
		return r != nil && r.Verdict == failover.VerdictDown
	})
	free()
	d.Reload()
	until(t, d, "the file is there again", func(s *failover.State) bool { return len(s.Members[0].About.Missing) == 0 })
}

// The secret of main's maintenance switch lies on a mount that hangs: the attempt ends at its deadline all the same, with the reason in the
// journal, and the switchover goes on to what follows.
func TestAFileThatHangsHoldsUpNoSwitchover(t *testing.T) {
	address, _ := accepts(t)
	d, token := withToken(t, fmt.Sprintf(`
  shop:
    record: shop
    apps:
      - name: main
        address: [192.0.2.10]
        probes: [{kind: tcp, address: %[1]q}]
        maintenance: {on: {http: {url: "http://127.0.0.1:1/on", header_file: token}}, off: {http: {url: "http://127.0.0.1:1/off", header_file: token}}}
      - {name: standby, address: [198.51.100.10], probes: [{kind: tcp, address: %[1]q}]}
    probe: {interval: 1s}
    steps: {maintenance-on: {timeout: 1s, tries: 1}}
`, address))
	hung.File(t, token)
	switchOver(t, d)
	s := until(t, d, "the attempt is over", func(s *failover.State) bool {
		w := s.Groups["shop"].Switchover
		return w != nil && w.Step(failover.StepMaintenanceOn).State == failover.StepFailed
	})
	if step := s.Groups["shop"].Switchover.Step(failover.StepMaintenanceOn); !strings.Contains(step.Error, "token: its file system does not answer") {
		t.Errorf("it says %q", step.Error)
	}
}

// A restart lifts nothing of what the process before it had found missing, before it has looked itself: an outage would be acted on
// meanwhile.
func TestARestartLiftsNoMissingFile(t *testing.T) {
	address, _ := accepts(t)
	f := newFile(t)
	token := filepath.Join(filepath.Dir(f.path), "token")
	if err := os.WriteFile(token, []byte("X-Token: a\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.groups = fmt.Sprintf(`
  shop:
    record: shop
    apps:
      - {name: main, address: [192.0.2.10], probes: [{kind: http, url: "http://127.0.0.1:1/", header_file: token}]}
      - {name: standby, address: [198.51.100.10], probes: [{kind: tcp, address: %q}]}
    probe: {interval: 60s}
`, address)
	f.write(t)
	hung.File(t, token)
	var boot uint64 // of the process before
	for range 2 {
		d, err := New(Options{ConfigPath: f.path, Version: "0.1.0", Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		stop := runs(t, d)
		s := until(t, d, "it has looked, and the file is missing", func(s *failover.State) bool {
			if s.Policy == nil || s.Members[0].About.Boot == boot {
				return false
			}
			about := s.Members[0].About
			if boot != 0 && len(about.Missing) == 0 {
				t.Errorf("entry %d says that nothing is missing", s.Index)
			}
			return !about.Unseen && len(about.Missing) == 1
		})
		boot = s.Members[0].About.Boot
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
}
