package control_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/internal/control"
	"github.com/watchover-ha/watchover/internal/control/controltest"
	"github.com/watchover-ha/watchover/pkg/client"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// types are the types of the events in a reply.
func types(t *testing.T, text string) (list []string) {
	t.Helper()
	for line := range strings.Lines(text) {
		var e map[string]any
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		for _, key := range []string{"seq", "time", "type", "group", "app", "text", "data"} {
			if e[key] == nil {
				t.Errorf("no %q in %s", key, line)
			}
		}
		list = append(list, e["type"].(string))
	}
	return list
}

func TestEventsKept(t *testing.T) {
	b := controltest.New(controltest.Policy("blog", "shop"))
	s := startServer(t, b)
	b.Commit(failover.Command{By: "uid:0", Pause: &failover.PauseOrder{Group: "shop"}})
	b.Commit(failover.Command{By: "uid:0", Pause: &failover.PauseOrder{Group: "blog"}})
	b.Commit(failover.Command{By: "uid:0", Resume: &failover.GroupOrder{Group: "shop"}})
	for _, test := range []struct {
		query string
		want  []string
	}{
		{"", []string{"cluster", "paused", "paused", "resumed"}},
		{"&since=2", []string{"paused", "resumed"}},
		{"&since=4", nil},
		{"&since=99", nil},
		{"&n=1", []string{"resumed"}},
		{"&n=99", []string{"cluster", "paused", "paused", "resumed"}},
		{"&group=shop", []string{"paused", "resumed"}},
		{"&group=shop&n=1", []string{"resumed"}},
		{"&group=blog&n=1", []string{"paused"}},
		{"&group=shop&since=3", []string{"resumed"}},
	} {
		response, text := s.ask(t, "GET", "/v1/events?follow=false"+test.query, "")
		if got := types(t, text); response.StatusCode != 200 || !slices.Equal(got, test.want) {
			t.Errorf("%s: %d %v, want %v", test.query, response.StatusCode, got, test.want)
		}
	}
}

// TestEventsMissed: who comes late is told what is gone, and a seq to go on from.
func TestEventsMissed(t *testing.T) {
	b := up()
	s := startServer(t, b)
	var oldest uint64
	b.Edit(func(state *failover.State) {
		state.Events = state.Events[4:]
		oldest = state.Events[0].Seq
	})
	_, text := s.ask(t, "GET", "/v1/events?follow=false&since=1", "")
	var first client.Event
	line, _, _ := strings.Cut(text, "\n")
	if err := json.Unmarshal([]byte(line), &first); err != nil {
		t.Fatal(err)
	}
	if first.Type != client.EventMissed || first.Seq != oldest-1 || first.Data["missed"] != fmt.Sprint(oldest-2) {
		t.Errorf("got %s", line)
	}
	if _, text := s.ask(t, "GET", "/v1/events?follow=false", ""); strings.Contains(text, client.EventMissed) {
		t.Errorf("who asks for what is kept has missed nothing: %s", text)
	}
}

// following collects events until it is stopped.
type following struct {
	events chan client.Event
	done   chan error
	stop   context.CancelFunc
}

func follow(t *testing.T, s *server, r client.EventsRequest) *following {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	f := &following{events: make(chan client.Event, 1000), done: make(chan error, 1), stop: cancel}
	c := client.New(s.path)
	r.Follow = true
	go func() {
		defer c.Close()
		f.done <- c.Events(ctx, r, func(e client.Event, _ []byte) error {
			f.events <- e
			return nil
		})
	}()
	t.Cleanup(cancel)
	return f
}

func (f *following) next(t *testing.T) client.Event {
	t.Helper()
	select {
	case e := <-f.events:
		return e
	case err := <-f.done:
		t.Fatalf("the stream ended: %v", err)
	case <-time.After(10 * time.Second):
		t.Fatal("no event came")
	}
	return client.Event{}
}

func TestEventsFollow(t *testing.T) {
	b := controltest.New(controltest.Policy("blog", "shop"))
	s := startServer(t, b)
	all, shop := follow(t, s, client.EventsRequest{}), follow(t, s, client.EventsRequest{Group: "shop"})
	if e := all.next(t); e.Type != "cluster" || e.Seq != 1 {
		t.Errorf("first the kept ones, got %+v", e)
	}
	for _, group := range []string{"blog", "shop"} {
		b.Commit(failover.Command{By: "uid:7", Pause: &failover.PauseOrder{Group: group, Reason: "work"}})
	}
	if e := all.next(t); e.Type != "paused" || e.Group != "blog" || e.Seq != 2 || e.Data["reason"] != "work" || e.Data["by"] != "uid:7" {
		t.Errorf("got %+v", e)
	}
	for name, f := range map[string]*following{"all": all, "shop": shop} {
		if e := f.next(t); e.Group != "shop" || e.Seq != 3 {
			t.Errorf("%s: got %+v", name, e)
		}
	}
	all.stop()
	if err := <-all.done; !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
	waitFollowers(t, s, 1)
}

// waitFollowers waits until so many follow the events.
func waitFollowers(t *testing.T, s *server, want int) {
	t.Helper()
	end := time.Now().Add(20 * time.Second)
	for tick := time.Tick(5 * time.Millisecond); s.Followers() != want; <-tick {
		if time.Now().After(end) {
			t.Fatalf("%d followers, want %d", s.Followers(), want)
		}
	}
}

// TestFollowersAreBounded: one more than there is room for is told so; others are not affected.
func TestFollowersAreBounded(t *testing.T) {
	s := startServer(t, up())
	var list []*following
	for range control.MaxFollowers {
		list = append(list, follow(t, s, client.EventsRequest{}))
	}
	waitFollowers(t, s, control.MaxFollowers)
	response, text := s.ask(t, "GET", "/v1/events", "")
	if response.StatusCode != 409 || !strings.Contains(text, "16 follow them already") {
		t.Errorf("one too many: %d %s", response.StatusCode, text)
	}
	if response, _ := s.ask(t, "GET", "/v1/events?follow=false", ""); response.StatusCode != 200 {
		t.Errorf("who does not follow needs no room: %d", response.StatusCode)
	}
	list[0].stop()
	waitFollowers(t, s, control.MaxFollowers-1)
	f := follow(t, s, client.EventsRequest{})
	f.next(t)
}

// TestSlowFollower: one who does not read holds up nobody, and is dropped.
func TestSlowFollower(t *testing.T) {
	b := up()
	s := startServer(t, b)
	s.SetFollowerPatience(200 * time.Millisecond)
	slow, err := net.Dial("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = slow.Close() }()
	if _, err := io.WriteString(slow, "GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	waitFollowers(t, s, 1)
	quick := follow(t, s, client.EventsRequest{})
	waitFollowers(t, s, 2)
	want := b.State().EventSeq
	for range 60 { // far more than a socket's buffers hold
		b.Edit(func(state *failover.State) {
			state.EventSeq++
			state.Events = append(state.Events, failover.Event{Seq: state.EventSeq, Type: "test", Text: strings.Repeat("x", 32<<10), Time: state.Time})
		})
		want++
	}
	for e := quick.next(t); e.Seq != want; e = quick.next(t) {
		if e.Type == client.EventMissed {
			t.Fatalf("the quick one missed something: %+v", e)
		}
	}
	waitFollowers(t, s, 1)
	// What had been sent to him comes to an end instead of going on for ever.
	if _, err := io.Copy(io.Discard, bufio.NewReader(slow)); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Logf("read: %v", err)
	}
}

// TestStopEndsFollowing: a follower does not hold up the daemon's stop, and knows that it was one.
func TestStopEndsFollowing(t *testing.T) {
	b := up()
	var f *following
	t.Run("serving", func(serving *testing.T) { // at its end the server stops
		s := startServer(serving, b)
		f = follow(t, s, client.EventsRequest{Since: b.State().EventSeq})
		waitFollowers(t, s, 1)
	})
	select {
	case err := <-f.done:
		if !errors.Is(err, client.ErrUnreachable) && !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it still follows")
	}
}
