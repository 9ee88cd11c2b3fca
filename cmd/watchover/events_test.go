package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

func TestEvents(t *testing.T) {
	b := up()
	b.Commit(failover.Command{By: "uid:7", Pause: &failover.PauseOrder{Group: "shop", Reason: "work"}})
	socket := serving(t, b)
	code, stdout, stderr := run(t, socket, "", "events")
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	if code != exitDone || stderr != "" || len(lines) != int(b.State().EventSeq) {
		t.Fatalf("exit %d, %q, %q", code, stdout, stderr)
	}
	if got, want := lines[len(lines)-1], "shop               paused              automation of shop paused (work) (uid:7)"; !strings.HasSuffix(got, want) {
		t.Errorf("got %q", got)
	}
	if code, stdout, _ := run(t, socket, "", "events", "-n", "1", "-o", "json"); code != exitDone || strings.Count(stdout, "\n") != 1 ||
		!strings.HasPrefix(stdout, `{"seq":`) || !strings.HasSuffix(stdout, `"type":"paused","group":"shop","app":"","text":"automation of shop paused","data":{"by":"uid:7","reason":"work"}}`+"\n") {
		t.Errorf("json: exit %d, %q", code, stdout)
	}
	if code, stdout, _ := run(t, socket, "", "events", "--since", "1", "--group", "shop", "-n", "2"); code != exitDone || strings.Count(stdout, "\n") != 2 {
		t.Errorf("of a group: exit %d, %q", code, stdout)
	}
}

// TestEventsFollow: Ctrl-C ends it well, and events are shown as they come.
func TestEventsFollow(t *testing.T) {
	b := up()
	s := newSession(serving(t, b), "")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	go func() { done <- execute(ctx, []string{"events", "--follow", "-n", "1"}, &s.ui) }()
	await := func(part string) {
		t.Helper()
		end := time.Now().Add(20 * time.Second)
		for tick := time.Tick(5 * time.Millisecond); !strings.Contains(s.stdout.String(), part); <-tick {
			if time.Now().After(end) {
				t.Fatalf("no %q in %q, %q", part, s.stdout.String(), s.stderr.String())
			}
		}
	}
	await("\n")
	b.Commit(failover.Command{By: "uid:7", Pause: &failover.PauseOrder{Group: "shop"}})
	await("automation of shop paused")
	cancel()
	if code := <-done; code != exitDone || s.stderr.String() != "" {
		t.Errorf("exit %d, %q", code, s.stderr.String())
	}
}
