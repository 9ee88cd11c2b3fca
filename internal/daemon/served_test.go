package daemon

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/internal/nameserver"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// life is one life of a watcher's name server and its voice.
type life struct {
	*voice
	current chan struct{} // close it to make the voice current
	end     func()
}

func liveOn(t *testing.T, dir string) *life {
	t.Helper()
	server, err := nameserver.New(nameserver.Options{Listen: []string{"127.0.0.1:0"}, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	l := &life{current: make(chan struct{})}
	l.voice = newVoice(server, dir, l.current, zerolog.Nop())
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() { _ = server.Run(ctx) })
	parts.Go(func() { l.save(ctx) })
	l.end = func() { cancel(); parts.Wait() }
	t.Cleanup(l.end)
	return l
}

// says is the address of shop, "fresh" or "stale", and the zone's serial.
func (l *life) says(t *testing.T) string {
	t.Helper()
	q := new(dns.Msg).SetQuestion("shop.ha.example.com.", dns.TypeA)
	q.SetEdns0(1232, false)
	r, _, err := (&dns.Client{Timeout: 5 * time.Second}).Exchange(q, l.dns.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Answer) != 1 {
		return dns.RcodeToString[r.Rcode]
	}
	words := []string{r.Answer[0].(*dns.A).A.String()}
	switch marked := len(r.IsEdns0().Option) == 1; {
	case r.Answer[0].Header().Ttl == 30 && marked:
		words = append(words, "stale")
	case r.Answer[0].Header().Ttl == 300 && !marked:
		words = append(words, "fresh")
	default:
		words = append(words, r.String())
	}
	return strings.Join(append(words, time.Unix(int64(l.dns.Serial()), 0).UTC().Format("05")), " ")
}

// switched is the state before and after shop moved to standby, with serials 1 and 2.
func switched() (before, after *failover.State) {
	before, after = shopState(), shopState()
	for _, s := range []*failover.State{before, after} {
		s.Policy.Groups = s.Policy.Groups[1:]
		s.Policy.Groups[0].Apps[0].Address = []string{"192.0.2.10"}
	}
	after.Groups["shop"].Active = "standby"
	before.Serial, after.Serial = 1, 2
	return before, after
}

// What a watcher has answered it answers again after a restart, as stale, whatever its log shows it of older times.
func TestARestartedWatcherNeverGoesBack(t *testing.T) {
	dir := t.TempDir()
	before, after := switched()
	expect := func(l *life, when, want string) {
		t.Helper()
		if got := l.says(t); got != want {
			t.Fatalf("%s: says %q, want %q", when, got, want)
		}
	}
	l := liveOn(t, dir)
	expect(l, "never started before", "SERVFAIL")
	l.publish(before)
	expect(l, "not current", "SERVFAIL")
	close(l.current)
	l.publish(before)
	expect(l, "current", "192.0.2.10 fresh 01")
	l.publish(after)
	expect(l, "switched", "198.51.100.10 fresh 02")
	l.end()

	l = liveOn(t, dir)
	expect(l, "restarted", "198.51.100.10 stale 02")
	l.publish(before)
	l.publish(after)
	expect(l, "history went by", "198.51.100.10 stale 02")
	close(l.current)
	l.publish(before)
	expect(l, "current, with a state from before", "198.51.100.10 stale 02")
	l.publish(after)
	expect(l, "caught up", "198.51.100.10 fresh 02")
	l.end()

	l = liveOn(t, dir)
	before.Generation++
	close(l.current)
	l.publish(before)
	expect(l, "a new generation", "192.0.2.10 fresh 01")
}

// The records of the zone's file and the isolation policy come back, too.
func TestServedIsKeptWhole(t *testing.T) {
	dir := t.TempDir()
	s := shopState()
	s.Policy.Groups = s.Policy.Groups[1:]
	zone, err := zoneOf(s)
	if err != nil {
		t.Fatal(err)
	}
	want := servedOf(s, zone)
	if err := want.write(dir); err != nil {
		t.Fatal(err)
	}
	got, err := readServed(dir)
	if err != nil {
		t.Fatal(err)
	}
	equal := func(a, b *servedZone) bool { return shownServed(t, a) == shownServed(t, b) }
	if !equal(got, want) || got.Zone.Isolation != zone.Isolation || len(got.Zone.Nameservers[0].Addresses) != 2 {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if _, err := got.answers(); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, servedFile))
	if err != nil || !strings.Contains(string(text), `"records":"www 60 IN A 192.0.2.80\n"`) {
		t.Errorf("%s, %v", text, err)
	}
}

func shownServed(t *testing.T, s *servedZone) string {
	t.Helper()
	dir := t.TempDir()
	if err := s.write(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, servedFile))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A file that cannot be used costs the stale answers, not the start.
func TestServedThatCannotBeUsed(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "cut off": `{"format":1,"zone":{"name":"ha.ex`, "of a later version": `{"format":2}`, "without a zone": `{"format":1}`,
		"too large": `{"format":1}` + strings.Repeat(" ", maxServed),
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, servedFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		l := liveOn(t, dir)
		if got := l.says(t); got != "SERVFAIL" {
			t.Errorf("%s: says %q", name, got)
		}
		_, after := switched()
		close(l.current)
		l.publish(after)
		if got := l.says(t); got != "198.51.100.10 fresh 02" {
			t.Errorf("%s: says %q once it is current", name, got)
		}
	}
}

// A disk that hangs must not hold up a switch.
func TestAnAnswerDoesNotWaitForAHangingDisk(t *testing.T) {
	server, err := nameserver.New(nameserver.Options{Listen: []string{"127.0.0.1:0"}, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	current := make(chan struct{})
	close(current)
	v := newVoice(server, t.TempDir(), current, zerolog.Nop()) // without save: nothing is ever written
	_, after := switched()
	for range 2 {
		after.Serial++
		v.publish(after)
		if server.Serial() != after.Serial {
			t.Errorf("answers serial %d, want %d", server.Serial(), after.Serial)
		}
	}
}
