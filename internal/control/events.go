package control

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/watchover-ha/watchover/pkg/client"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// Bounds of those who follow the events.
const (
	maxFollowers = 16
	followerSlow = 10 * time.Second // to take what is sent to him; then he is dropped
	eventsMost   = 1000             // of n; more than are kept
)

// eventsAsk is a request for events.
type eventsAsk struct {
	since  uint64
	group  string
	most   int // 0: all that are kept
	follow bool
}

// events streams them, one line of JSON each: first those that are kept, then those that come. Nobody waits for a
// reader: he reads from the states that are published, at his own pace, and is told what was dropped before he came to
// it. One who does not read at all is dropped himself.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	ask, e := s.eventsAsked(r)
	if e != nil {
		writeError(w, e)
		return
	}
	if ask.follow {
		select {
		case s.followers <- struct{}{}:
			defer func() { <-s.followers }()
		default:
			writeError(w, fail(client.CodeRefused, "ask again when another one has gone", "cannot follow the events: %d follow them already", maxFollowers))
			return
		}
	}
	header := w.Header()
	header.Set("Content-Type", "application/x-ndjson")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	out := &lines{w: w, connection: http.NewResponseController(w), patience: s.followerSlow}
	if err := out.begin(); err != nil {
		return // the caller has gone
	}
	s.stream(r, ask, out)
}

// stream sends until there is nothing more to send, the reader is gone, or the daemon stops.
func (s *Server) stream(r *http.Request, ask eventsAsk, out *lines) {
	last := ask.since
	for first := true; ; first = false {
		news := s.backend.Watch() // before looking, so that nothing is missed in between
		batch := due(s.backend.State(), last)
		if first && ask.since == 0 {
			batch.missed = 0 // who asks for what is kept has not missed what is not
		}
		last = max(last, batch.last)
		if first && ask.most > 0 {
			batch.keepNewest(ask.group, ask.most)
		}
		if err := out.send(batch, ask.group); err != nil || !ask.follow {
			return
		}
		select {
		case <-news:
		case <-r.Context().Done():
			return
		}
	}
}

func (s *Server) eventsAsked(r *http.Request) (eventsAsk, *client.Error) {
	ask := eventsAsk{follow: true}
	if e := onlyQuery(r, "since", "group", "n", "follow"); e != nil {
		return ask, e
	}
	query := r.URL.Query()
	var err error
	if text := query.Get("since"); text != "" {
		if ask.since, err = strconv.ParseUint(text, 10, 64); err != nil {
			return ask, fail(client.CodeInvalid, "since takes the seq of an event", "cannot list events since %q: it is no number", text)
		}
	}
	if text := query.Get("n"); text != "" {
		if ask.most, err = strconv.Atoi(text); err != nil || ask.most < 1 || ask.most > eventsMost {
			return ask, fail(client.CodeInvalid, fmt.Sprintf("n is a number from 1 to %d", eventsMost), "cannot list %q events", text)
		}
	}
	var e *client.Error
	if ask.follow, e = truth(query.Get("follow"), "follow", true); e != nil {
		return ask, e
	}
	if ask.group = query.Get("group"); ask.group != "" && s.backend.State().Groups[ask.group] == nil {
		return ask, noGroup(ask.group)
	}
	return ask, nil
}

// truth reads a parameter that is true or false.
func truth(text, name string, absent bool) (bool, *client.Error) {
	if text == "" {
		return absent, nil
	}
	b, err := strconv.ParseBool(text)
	if err != nil {
		return false, fail(client.CodeInvalid, name+" is true or false", "cannot use %s=%q", name, text)
	}
	return b, nil
}

// batch is what of a state a reader has not seen yet.
type batch struct {
	events []failover.Event
	missed uint64 // dropped before he came to them
	last   uint64 // seq of the newest event, whether sent to him or not
}

// due is what came after the event last. Events are in order, without gaps, and the oldest are dropped.
func due(state *failover.State, last uint64) batch {
	kept := state.Events
	if len(kept) == 0 || state.EventSeq <= last {
		return batch{last: last}
	}
	from, _ := slices.BinarySearchFunc(kept, last+1, func(e failover.Event, seq uint64) int { return cmp.Compare(e.Seq, seq) })
	b := batch{events: kept[from:], last: state.EventSeq}
	if oldest := kept[0].Seq; oldest > last+1 {
		b.missed = oldest - last - 1
	}
	return b
}

// keepNewest leaves only the newest events of the group; empty: of all.
func (b *batch) keepNewest(group string, most int) {
	for i := len(b.events) - 1; i >= 0; i-- {
		if group != "" && b.events[i].Group != group {
			continue
		}
		if most--; most == 0 {
			b.events = b.events[i:]
			return
		}
	}
}

// lines writes events to a reader, each write with a time limit of its own.
type lines struct {
	w          http.ResponseWriter
	connection *http.ResponseController
	patience   time.Duration
}

// begin lifts the limits of ordinary requests and sends the header.
func (l *lines) begin() error {
	if err := l.connection.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	if err := l.limit(); err != nil {
		return err
	}
	l.w.WriteHeader(http.StatusOK)
	return l.connection.Flush()
}

func (l *lines) limit() error { return l.connection.SetWriteDeadline(time.Now().Add(l.patience)) }

func (l *lines) send(b batch, group string) error {
	if b.missed == 0 && len(b.events) == 0 {
		return nil
	}
	if err := l.limit(); err != nil {
		return err
	}
	if b.missed > 0 {
		if err := l.line(missedView(b)); err != nil {
			return err
		}
	}
	for i := range b.events {
		if group != "" && b.events[i].Group != group {
			continue
		}
		if err := l.line(eventView(&b.events[i])); err != nil {
			return err
		}
	}
	return l.connection.Flush()
}

func (l *lines) line(e client.Event) error {
	text, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("cannot encode event %d: %w", e.Seq, err)
	}
	_, err = l.w.Write(append(text, '\n'))
	return err
}

func eventView(e *failover.Event) client.Event {
	data := maps.Clone(e.Data)
	if data == nil {
		data = map[string]string{}
	}
	return client.Event{Seq: e.Seq, Time: client.Time{Time: e.Time}, Type: e.Type, Group: e.Group, App: e.App, Text: e.Text, Data: data}
}

// missedView stands where events are missing.
func missedView(b batch) client.Event {
	seq, at := b.last, time.Now()
	if len(b.events) > 0 {
		seq, at = b.events[0].Seq-1, b.events[0].Time
	}
	return client.Event{Seq: seq, Time: client.Time{Time: at}, Type: client.EventMissed,
		Text: fmt.Sprintf("%d events before this are no longer kept", b.missed), Data: map[string]string{"missed": strconv.FormatUint(b.missed, 10)}}
}
