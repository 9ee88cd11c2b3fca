package daemon

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/internal/cluster"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// listener is a service manager that writes down what it is told.
type listener struct {
	mu   sync.Mutex // guards told
	told []string
}

func (l *listener) hear(word string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told = append(l.told, word)
	return nil
}

func (l *listener) heard(word string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.told, word)
}

func (l *listener) Ready() error              { return l.hear("ready") }
func (l *listener) Reloading() error          { return l.hear("reloading") }
func (l *listener) Stopping() error           { return l.hear("stopping") }
func (l *listener) Status(text string) error  { return l.hear("status " + text) }
func (l *listener) Feed() error               { return l.hear("feed") }
func (l *listener) FeedEvery() time.Duration  { return time.Second }
func (l *listener) last() (word string)       { return l.told[len(l.told)-1] }
func (l *listener) index(word string) (n int) { return slices.Index(l.told, word) }

func TestServiceManagerIsKeptInformed(t *testing.T) {
	f := newFile(t)
	m := &listener{}
	d, err := New(Options{ConfigPath: f.path, Log: zerolog.Nop(), Manager: m})
	if err != nil {
		t.Fatal(err)
	}
	stop := runs(t, d)
	for _, word := range []string{"ready", "status leading in term 2", "feed"} {
		late := time.After(20 * time.Second)
		tick := time.NewTicker(10 * time.Millisecond)
		for !m.heard(word) {
			select {
			case <-tick.C:
			case <-late:
				t.Fatalf("never told %q: %q", word, m.told)
			}
		}
		tick.Stop()
	}
	until(t, d, "at rest", func(s *failover.State) bool { return served(s) })
	d.Reload()
	if err := stop(); err != nil {
		t.Error(err)
	}
	if m.last() != "stopping" || m.index("reloading") < m.index("ready") || m.index("reloading") < 0 || m.told[m.index("reloading")+1] != "ready" && m.told[m.index("reloading")+2] != "ready" {
		t.Errorf("told %q", m.told)
	}
}

func TestWhenAStartIsComplete(t *testing.T) {
	for _, tc := range []struct {
		name  string
		s     cluster.Status
		since time.Duration
		want  bool
	}{
		{"just begun", cluster.Status{}, 0, false},
		{"takes part", cluster.Status{Leader: "w2", HasQuorum: true, CommitIndex: 7, AppliedIndex: 7}, 0, true},
		{"reads its log", cluster.Status{Leader: "w2", HasQuorum: true, CommitIndex: 7, AppliedIndex: 3}, 0, false},
		{"has heard of more", cluster.Status{Leader: "w2", HasQuorum: true, CommitIndex: 7, AppliedIndex: 7, Behind: time.Second}, 0, false},
		{"no quorum yet", cluster.Status{CommitIndex: 7, AppliedIndex: 7}, readyPatience - 1, false},
		{"no quorum for long", cluster.Status{CommitIndex: 7, AppliedIndex: 7}, readyPatience, true},
		{"waits for the cluster's first start", cluster.Status{Waiting: "w3 is not reachable"}, 0, true},
	} {
		if got := takesPart(tc.s, tc.since); got != tc.want {
			t.Errorf("%s: %t", tc.name, got)
		}
	}
}

func TestDeskThatDoesNotLookUp(t *testing.T) {
	k := emptyDesk("/")
	if k.looksUp(context.Background()) {
		t.Error("a desk that does not run looks up")
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if !k.looksUp(ended) {
		t.Error("a desk is blamed while all stop")
	}
}

func TestWhyAWatcherIsBehind(t *testing.T) {
	for _, tc := range []struct {
		s    cluster.Status
		want string
	}{
		{cluster.Status{}, ""},
		{cluster.Status{Behind: stuckAfter - 1}, ""},
		{cluster.Status{Behind: 12 * time.Second, CommitIndex: 7}, "hears the leader, but its log has stood still at 7 for 12s"},
		{cluster.Status{Waiting: "no space"}, "takes no part: no space"},
	} {
		if got := behind(tc.s); got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
}
