// Package client speaks to a watcher over its Unix socket: the types of every reply, and a Client with one method per
// request. A Client keeps no state and never retries: whether to repeat an order whose outcome is unknown is for a
// person, since a repeated switchover may switch back.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// DefaultSocket is where a watcher listens if its file does not say otherwise.
const DefaultSocket = "/run/watchover/watchover.sock"

// Bounds of one request.
const (
	dialTimeout    = 5 * time.Second
	requestTimeout = 20 * time.Second // the server gives an order 10 s to be committed
	maxReply       = 65 << 20         // 100 switchovers with 4 KiB of output per step are about 4 MiB; a snapshot may have 64 MiB
)

var (
	// ErrUnreachable says that no daemon answered on the socket.
	ErrUnreachable = errors.New("daemon unreachable")
	// ErrUnknown says that an order was sent and not answered: it may have been carried out.
	ErrUnknown = errors.New("the outcome is unknown")
)

// Codes of Error.
const (
	CodeRefused    = "refused"
	CodeNotFound   = "not_found"
	CodeNotAllowed = "not_allowed"
	CodeNoLeader   = "no_leader"
	CodeInvalid    = "invalid"
	CodeInternal   = "internal"
)

// Error is an error reply of the API.
type Error struct {
	Message string `json:"error"`
	Code    string `json:"code"`
	Rule    string `json:"rule,omitempty"` // the rule that refused
	Hint    string `json:"hint"`
	Status  int    `json:"-"` // HTTP status

	Faults []Fault `json:"faults,omitempty"` // of a policy that was sent, all of them
}

// Error gives the message alone; the hint is for whoever shows it to a person.
func (e *Error) Error() string { return e.Message }

// Client asks one watcher.
type Client struct {
	socket string
	http   *http.Client
}

// New makes a client for the watcher behind the socket. It does not connect yet.
func New(socket string) *Client {
	if socket == "" {
		socket = DefaultSocket
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	return &Client{socket: socket, http: &http.Client{
		Timeout: requestTimeout,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, "unix", socket)
			},
			MaxIdleConns:    2,
			IdleConnTimeout: 30 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Do sends one request and returns the reply's HTTP status and body. body nil sends none, a YAML itself. An error reply of the API is
// an *Error; errors.Is(err, ErrUnreachable) tells that nobody answered and nothing was changed. A change that was sent and
// not answered is ErrUnknown: it may have been made.
func (c *Client) Do(ctx context.Context, method, path string, body any) (int, []byte, error) {
	var sent atomic.Bool
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }})
	request, err := newRequest(traced, method, path, body)
	if err != nil {
		return 0, nil, err
	}
	lost := func(err error) error {
		err = c.unreachable(ctx, err)
		if method == http.MethodGet || !sent.Load() {
			return err
		}
		return fmt.Errorf("%w: %s %s was sent to the watcher at %s and not answered: %v", ErrUnknown, method, path, c.socket, err)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return 0, nil, lost(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxReply+1))
	if err != nil {
		return 0, nil, lost(err)
	}
	if len(text) > maxReply {
		return 0, nil, fmt.Errorf("cannot read reply to %s %s: it is larger than %d bytes", method, path, maxReply)
	}
	if response.StatusCode >= 300 {
		return response.StatusCode, text, replyError(response.StatusCode, text)
	}
	return response.StatusCode, text, nil
}

func newRequest(ctx context.Context, method, path string, body any) (*http.Request, error) {
	var reader io.Reader
	contentType := "application/json"
	if text, ok := body.(YAML); ok {
		reader, contentType = bytes.NewReader(text), "application/yaml"
	} else if file, ok := body.(File); ok {
		reader, contentType = bytes.NewReader(file), "application/octet-stream"
	} else if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("cannot encode request for %s: %w", path, err)
		}
		reader = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://watchover"+path, reader)
	if err != nil {
		return nil, fmt.Errorf("cannot make request for %s: %w", path, err)
	}
	if body != nil {
		request.Header.Set("Content-Type", contentType)
	}
	return request, nil
}

// unreachable says in a person's words why nobody answered; the caller's own cancelling stays what it is.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("cannot wait for watcher at %s: %w", c.socket, ctx.Err())
	}
	var text string
	switch {
	case errors.Is(err, fs.ErrNotExist):
		text = "there is no such socket"
	case errors.Is(err, fs.ErrPermission):
		text = "permission denied"
	case errors.Is(err, syscall.ECONNREFUSED):
		text = "no daemon listens on it"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		text = fmt.Sprintf("no answer within %s", requestTimeout)
	default:
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		text = err.Error()
	}
	return &unreachable{text: fmt.Sprintf("cannot reach watcher at %s: %s", c.socket, text)}
}

// unreachable is ErrUnreachable in words that say why.
type unreachable struct{ text string }

func (e *unreachable) Error() string        { return e.text }
func (e *unreachable) Is(target error) bool { return target == ErrUnreachable }

func replyError(status int, text []byte) error {
	e := &Error{Status: status}
	if err := json.Unmarshal(text, e); err != nil || e.Message == "" {
		e.Message = fmt.Sprintf("cannot read reply: HTTP status %d", status)
		e.Code = CodeInternal
		e.Hint = "is this socket Watchover's?"
	}
	return e
}

// call sends a request and decodes its reply.
func call[T any](ctx context.Context, c *Client, method, path string, body any) (*T, error) {
	_, text, err := c.Do(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	reply := new(T)
	if err := json.Unmarshal(text, reply); err != nil {
		return nil, fmt.Errorf("cannot read reply to %s %s: %w", method, path, err)
	}
	return reply, nil
}

// Status asks for everything that the watcher knows.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	return call[Status](ctx, c, http.MethodGet, "/v1/status", nil)
}

// StatusAfter is Status as soon as the state is newer than index, or after one second without news.
func (c *Client) StatusAfter(ctx context.Context, index uint64) (*Status, error) {
	return call[Status](ctx, c, http.MethodGet, "/v1/status?wait="+strconv.FormatUint(index, 10), nil)
}

// Group asks for one group.
func (c *Client) Group(ctx context.Context, group string) (*Group, error) {
	return call[Group](ctx, c, http.MethodGet, GroupPath(group, ""), nil)
}

// Explain asks why the group would or would not switch by itself now.
func (c *Client) Explain(ctx context.Context, group string) (*Explanation, error) {
	return call[Explanation](ctx, c, http.MethodGet, GroupPath(group, "explain"), nil)
}

// History asks for the n newest ended switchovers of a group, or of all if group is empty. n is 1 to 100; 0: 10.
func (c *Client) History(ctx context.Context, group string, n int) (*History, error) {
	return call[History](ctx, c, http.MethodGet, HistoryPath(group, n), nil)
}

// Switchover asks for a switchover; it returns as soon as that is committed, not when it has ended.
func (c *Client) Switchover(ctx context.Context, group string, r SwitchoverRequest) (*Started, error) {
	r.DryRun = false
	return call[Started](ctx, c, http.MethodPost, GroupPath(group, "switchover"), r)
}

// DryRun asks what a switchover would do now, changing nothing.
func (c *Client) DryRun(ctx context.Context, group string, r SwitchoverRequest) (*DryRun, error) {
	r.DryRun = true
	return call[DryRun](ctx, c, http.MethodPost, GroupPath(group, "switchover"), r)
}

// Abort undoes the open switchover before its point of no return.
func (c *Client) Abort(ctx context.Context, group string) (*Accepted, error) {
	return call[Accepted](ctx, c, http.MethodPost, GroupPath(group, "abort"), nil)
}

// Retry tries the halted step now, or leaves it out.
func (c *Client) Retry(ctx context.Context, group string, skip bool) (*Accepted, error) {
	return call[Accepted](ctx, c, http.MethodPost, GroupPath(group, "retry"), RetryRequest{SkipStep: skip})
}

// Ack ends the cooldown, or confirms a recovery.
func (c *Client) Ack(ctx context.Context, group string) (*Accepted, error) {
	return call[Accepted](ctx, c, http.MethodPost, GroupPath(group, "ack"), nil)
}

// Pause stops the automation of a group, or of all if group is empty.
func (c *Client) Pause(ctx context.Context, group string, r PauseRequest) (*Accepted, error) {
	return call[Accepted](ctx, c, http.MethodPost, GroupPath(group, "pause"), r)
}

// Resume restarts the automation of a group, or of all if group is empty.
func (c *Client) Resume(ctx context.Context, group string) (*Accepted, error) {
	return call[Accepted](ctx, c, http.MethodPost, GroupPath(group, "resume"), nil)
}

// File is a request's body that is sent as it is.
type File []byte

// SaveSnapshot asks for the watcher's state, in the form that RestoreSnapshot takes. Stale: also without a quorum.
func (c *Client) SaveSnapshot(ctx context.Context, stale bool) ([]byte, error) {
	_, text, err := c.Do(ctx, http.MethodGet, "/v1/snapshot?stale="+strconv.FormatBool(stale), nil)
	return text, err
}

// RestoreSnapshot puts a saved state in the place of the cluster's. Open says what becomes of switchovers that are open in it:
// undo or keep; empty: the order is refused if there are any.
func (c *Client) RestoreSnapshot(ctx context.Context, file []byte, open string) (*Accepted, error) {
	return call[Accepted](ctx, c, http.MethodPut, RestorePath(open), File(file))
}

// RestorePath is the path of a restore.
func RestorePath(open string) string {
	if open == "" {
		return "/v1/snapshot"
	}
	return "/v1/snapshot?open_switchovers=" + url.QueryEscape(open)
}

// GroupPath is the path of a verb on a group; group empty: on all of them; verb empty: the group itself.
func GroupPath(group, verb string) string {
	path := "/v1"
	if group != "" {
		path += "/groups/" + url.PathEscape(group)
	}
	if verb != "" {
		path += "/" + verb
	}
	return path
}

// HistoryPath is the path of the n newest switchovers of a group; empty: of all groups; 0: as many as the server likes.
func HistoryPath(group string, n int) string {
	query := url.Values{}
	if group != "" {
		query.Set("group", group)
	}
	if n != 0 {
		query.Set("n", strconv.Itoa(n))
	}
	if len(query) == 0 {
		return "/v1/history"
	}
	return "/v1/history?" + query.Encode()
}
