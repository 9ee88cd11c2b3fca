package proctest

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/watchover-ha/watchover/pkg/client"
)

// A watcher that was killed and starts again knows its log, but not how much of it was committed. It must take back
// nothing that resolvers have seen: before it has caught up it answers what it answered last, and says with each
// answer that it may be stale.
func TestARestartedWatcherNeverAnswersThePastAsThePresent(t *testing.T) {
	t.Parallel()
	c := newCluster(t, settings{})
	leader, victim := c.leader()
	before := c.serial(victim)
	c.watchers[victim].kill()
	// History to go through, for whoever would answer it on the way.
	cl := c.client(leader)
	defer cl.Close()
	for range 150 {
		_, err := cl.Pause(t.Context(), group, client.PauseRequest{})
		must(t, err)
		_, err = cl.Resume(t.Context(), group)
		must(t, err)
	}
	c.killApp("main")
	c.waitEnded(1)
	after := c.serial(leader)
	if after <= before {
		t.Fatalf("serial %d after the switch, %d before", after, before)
	}

	w := c.listen(victim, before)
	c.startWatcher(victim)
	w.until("the new record with the full TTL", func(a answer) bool { return a.address == addresses["standby"] && a.ttl == 300 && a.ede == -1 })
	if w.last < after {
		t.Errorf("serial %d, want %d", w.last, after)
	}

	// Alone it stays with what it has answered: not before that, not silent.
	c.freeze(c.others(victim)...)
	c.watchers[victim].kill()
	w = c.listen(victim, after)
	c.startWatcher(victim)
	w.until("the first answer", func(a answer) bool { return a.address != "" })
	during(t, 3*time.Second, "the last answer, marked as stale", func() (bool, any) {
		a := w.hear()
		return a.address == addresses["standby"] && a.ttl <= 30 && a.ede == 3, a
	})
	if c.serial(victim) != after {
		t.Errorf("alone it answers serial %d, want %d", c.serial(victim), after)
	}
	c.thaw(c.others(victim)...)
	w.until("the full TTL again", func(a answer) bool { return a.ttl == 300 && a.ede == -1 })
	if w.silent > 0 {
		t.Errorf("%d queries were answered with nothing though it had answered before", w.silent)
	}
	c.judge()
}

// All watchers are killed at once: whoever comes back first answers as before, and only a quorum makes it sure again.
func TestTheFirstOfAllRestartedWatchersAnswersAsStale(t *testing.T) {
	t.Parallel()
	c := newCluster(t, settings{mode: "manual"})
	serial := c.serial("w1")
	for _, name := range names {
		c.watchers[name].signal(t, syscall.SIGKILL)
	}
	for _, name := range names {
		c.watchers[name].kill()
	}
	for i, name := range names {
		w := c.listen(name, serial)
		c.startWatcher(name)
		w.until("an answer", func(a answer) bool { return a.address == addresses["main"] })
		if i == 0 {
			during(t, 2*time.Second, "marked as stale", func() (bool, any) { a := w.hear(); return a.ttl <= 30 && a.ede == 3, a })
		}
	}
	for _, name := range names {
		c.listen(name, serial).until("the full TTL again", func(a answer) bool { return a.ttl == 300 && a.ede == -1 })
	}
}

func (c *cluster) others(watcher string) (list []string) {
	for _, name := range names {
		if name != watcher {
			list = append(list, name)
		}
	}
	return list
}

// listener asks one watcher's name server without a pause and judges every answer: the record of an app that is no
// longer active must not come unmarked, and the serial must not fall.
type listener struct {
	c       *cluster
	watcher string
	first   uint32 // the serial that it has answered before
	last    uint32 // the highest serial heard
	silent  int    // queries answered, but without a record
}

func (c *cluster) listen(watcher string, serial uint32) *listener {
	return &listener{c: c, watcher: watcher, first: serial, last: serial}
}

// hear asks once for the record and once for the serial. The zero answer: nobody listens yet.
func (l *listener) hear() answer {
	l.c.t.Helper()
	a, err := l.c.ask(l.watcher)
	if err != nil && a != (answer{}) { // an answer without a record; the zero one: nobody listened
		l.silent++
	}
	marked := a.ttl <= 30 && a.ede == 3
	if a.address == addresses["main"] && l.c.movedTo("standby") && !marked {
		l.c.t.Fatalf("%s answers the old app unmarked: %+v", l.watcher, a)
	}
	if serial := l.c.serial(l.watcher); serial != 0 {
		if serial < l.last {
			l.c.t.Fatalf("%s answers serial %d after %d", l.watcher, serial, l.last)
		}
		l.last = serial
	}
	return a
}

// movedTo reports whether the record has been moved to an app for good, as the test knows it.
func (c *cluster) movedTo(app string) bool { return app == "standby" && !c.apps["main"].alive() }

func (l *listener) until(what string, ok func(answer) bool) {
	l.c.t.Helper()
	end := time.Now().Add(patience)
	for a := l.hear(); !ok(a); a = l.hear() {
		if time.Now().After(end) {
			l.c.t.Fatalf("%s: still not %s; last heard: %+v", l.watcher, what, a)
		}
	}
}

// serial is the zone's as a watcher's name server answers it; 0: it does not.
func (c *cluster) serial(watcher string) uint32 {
	r, _, err := (&dns.Client{Timeout: 2 * time.Second}).Exchange(new(dns.Msg).SetQuestion("ha.example.com.", dns.TypeSOA), c.dnsAddress(watcher))
	if err != nil || len(r.Answer) != 1 {
		return 0
	}
	soa, ok := r.Answer[0].(*dns.SOA)
	if !ok {
		c.t.Fatal(fmt.Sprint(r))
	}
	return soa.Serial
}
