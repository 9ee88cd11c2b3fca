package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// EventMissed is the type of the line that says how many events a reader has missed: they were dropped before it had
// read that far. Its Seq is that of the last one missed.
const EventMissed = "missed"

// maxLine bounds one event, in bytes; the texts in it are each bounded by the rules to 1 KiB.
const maxLine = 1 << 20

// Event is one line of the reply to GET /v1/events.
type Event struct {
	Seq   uint64            `json:"seq"` // one more with each event of the cluster, the same on every watcher
	Time  Time              `json:"time"`
	Type  string            `json:"type"`
	Group string            `json:"group"` // empty: about the cluster
	App   string            `json:"app"`
	Text  string            `json:"text"` // for people
	Data  map[string]string `json:"data"` // for programs
}

// EventsRequest says which events are asked for. The zero value: all that the cluster keeps.
type EventsRequest struct {
	Since  uint64 // only events after this one
	Group  string // only events of this group
	Most   int    // of the events kept, only the newest; 0: all
	Follow bool   // and then what comes, until the watcher stops
}

// EventsPath is the path of a request for events.
func EventsPath(r EventsRequest) string {
	query := url.Values{}
	if r.Since != 0 {
		query.Set("since", strconv.FormatUint(r.Since, 10))
	}
	if r.Group != "" {
		query.Set("group", r.Group)
	}
	if r.Most != 0 {
		query.Set("n", strconv.Itoa(r.Most))
	}
	if !r.Follow {
		query.Set("follow", "false")
	}
	if len(query) == 0 {
		return "/v1/events"
	}
	return "/v1/events?" + query.Encode()
}

// Events hands every event to take, with the line that it came in, until there are no more, ctx ends or take fails.
// That a watcher stopped while it was followed is ErrUnreachable.
func (c *Client) Events(ctx context.Context, r EventsRequest, take func(Event, []byte) error) error {
	path := EventsPath(r)
	response, err := c.stream(ctx, path)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(make([]byte, 0, 4<<10), maxLine)
	for lines.Scan() {
		var e Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("cannot read reply to GET %s: %w", path, err)
		}
		if err := take(e, lines.Bytes()); err != nil {
			return err
		}
	}
	err = lines.Err()
	switch {
	case errors.Is(err, bufio.ErrTooLong):
		return fmt.Errorf("cannot read reply to GET %s: an event is larger than %d bytes", path, maxLine)
	case err != nil:
		return c.unreachable(ctx, err)
	case r.Follow:
		return &unreachable{text: fmt.Sprintf("cannot reach watcher at %s: it has ended the stream", c.socket)}
	}
	return nil
}

// stream sends a GET whose reply may last for ever: only its beginning has a time limit.
func (c *Client) stream(ctx context.Context, path string) (*http.Response, error) {
	asking, cancel := context.WithCancel(ctx)
	late := time.AfterFunc(requestTimeout, cancel)
	request, err := newRequest(asking, http.MethodGet, path, nil)
	if err != nil {
		cancel()
		return nil, err
	}
	response, err := (&http.Client{Transport: c.http.Transport, CheckRedirect: c.http.CheckRedirect}).Do(request)
	if !late.Stop() && ctx.Err() == nil && err != nil {
		err = context.DeadlineExceeded
	}
	if err != nil {
		cancel()
		return nil, c.unreachable(ctx, err)
	}
	response.Body = &cancelling{ReadCloser: response.Body, cancel: cancel}
	if response.StatusCode >= 300 {
		defer func() { _ = response.Body.Close() }()
		text, err := io.ReadAll(io.LimitReader(response.Body, maxLine))
		if err != nil {
			return nil, c.unreachable(ctx, err)
		}
		return nil, replyError(response.StatusCode, text)
	}
	return response, nil
}

// cancelling lets go of a request's context with its body.
type cancelling struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b *cancelling) Close() error {
	b.cancel()
	return b.ReadCloser.Close()
}
