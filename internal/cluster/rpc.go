package cluster

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

const (
	maxFrame = 8 << 20 // bytes of one request or answer
	// maxProposals bounds the forwarded commands in work on the leader. More are told that nothing was done.
	maxProposals = 64
	idleTimeout  = time.Minute // of a connection that carries no requests
	bodyTimeout  = 10 * time.Second
	idleConns    = 4 // kept per watcher
)

// request is one question to another watcher; exactly one field is set.
type request struct {
	Beat    *beat         `json:"beat,omitempty"`
	Propose *proposal     `json:"propose,omitempty"`
	Failed  *failure      `json:"failed,omitempty"` // to the leader: an app has failed for the first time
	Poke    *failure      `json:"poke,omitempty"`   // from the leader: probe that app at once
	Join    *joinQuestion `json:"join,omitempty"`
	// To the leader: hand leadership over.
	Transfer *transferOrder `json:"transfer,omitempty"`
	Rehearse *rehearsal     `json:"rehearse,omitempty"`
}

// answer is the reply to a request.
type answer struct {
	Error  string           `json:"error,omitempty"`
	Kind   string           `json:"kind,omitempty"` // of the error
	Beat   *beatAnswer      `json:"beat,omitempty"`
	Result *failover.Result `json:"result,omitempty"`
	Join   *joinAnswer      `json:"join,omitempty"`

	Rehearsed *rehearsed `json:"rehearsed,omitempty"`
}

// Kinds of errors in answers.
const (
	errorNoLeader = "no_leader"
	errorUnknown  = "unknown"
	errorInvalid  = "invalid"
)

// proposal is a command forwarded to the leader.
type proposal struct {
	Command json.RawMessage `json:"command"`
	Wait    time.Duration   `json:"wait"` // how long the caller will
}

// failure names an app that failed.
type failure struct {
	Group string `json:"group"`
	App   string `json:"app"`
}

// errNotSent means that a request did not reach the other watcher.
var errNotSent = errors.New("not sent")

// writeFrame writes the length in four bytes, big-endian, and the text.
func writeFrame(w io.Writer, text []byte) error {
	if len(text) > maxFrame {
		return fmt.Errorf("a message of %d bytes is over the limit of %d", len(text), maxFrame)
	}
	frame := make([]byte, 4, 4+len(text))
	binary.BigEndian.PutUint32(frame, uint32(len(text)))
	_, err := w.Write(append(frame, text...))
	return err
}

// readFrame reads what writeFrame wrote. It makes room for what arrives, not for what is announced.
func readFrame(r io.Reader, limit int64) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	return readBody(r, head, limit)
}

func readBody(r io.Reader, head [4]byte, limit int64) ([]byte, error) {
	length := int64(binary.BigEndian.Uint32(head[:]))
	if length > limit {
		return nil, fmt.Errorf("a message of %d bytes is over the limit of %d", length, limit)
	}
	var body bytes.Buffer
	if _, err := io.CopyN(&body, r, length); err != nil {
		return nil, err
	}
	return body.Bytes(), nil
}

// serve answers one watcher's requests, one after the other, until the connection ends.
func (n *Node) serve(ctx context.Context, c *conn, h hello) {
	name := h.Name
	defer func() { _ = c.Close() }()
	for {
		_ = c.SetDeadline(time.Now().Add(idleTimeout))
		var head [4]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return
		}
		_ = c.SetDeadline(time.Now().Add(bodyTimeout))
		text, err := readBody(c, head, maxFrame)
		if err != nil {
			n.gate.warn("request", c.RemoteAddr().String(), err)
			return
		}
		var q request
		if err := json.Unmarshal(text, &q); err != nil {
			n.gate.warn("request", c.RemoteAddr().String(), fmt.Errorf("cannot read request of %s: %w", name, err))
			return
		}
		reply, err := json.Marshal(n.answer(ctx, h, q))
		if err != nil {
			n.gate.warn("request", c.RemoteAddr().String(), fmt.Errorf("cannot encode answer: %w", err))
			return
		}
		_ = c.SetDeadline(time.Now().Add(writeTimeout))
		if err := writeFrame(c, reply); err != nil {
			return
		}
	}
}

// answer does what another watcher asks.
func (n *Node) answer(ctx context.Context, h hello, q request) answer {
	name := h.Name
	switch {
	case h.Kind == kindJoin && q.Join == nil:
		return answer{Kind: errorInvalid, Error: "only questions of who takes part are answered here"}
	case q.Beat != nil:
		a := n.takeBeat(ctx, name, *q.Beat)
		return answer{Beat: &a}
	case q.Propose != nil:
		return n.takeProposal(ctx, *q.Propose)
	case q.Failed != nil:
		n.spreadFailure(name, *q.Failed)
		return answer{}
	case q.Poke != nil:
		n.poked(*q.Poke)
		return answer{}
	case q.Transfer != nil:
		return n.takeTransfer(ctx, *q.Transfer)
	case q.Rehearse != nil:
		return n.takeRehearsal(ctx, *q.Rehearse)
	case q.Join != nil:
		a := n.takeJoin(ctx, h, *q.Join)
		return answer{Join: &a}
	}
	return answer{Kind: errorInvalid, Error: "the request carries nothing that this version knows"}
}

// peer is this watcher's line to another one: a few connections, each for one request at a time.
type peer struct {
	g    *gate
	name string
	kind string
	idle chan *conn // connections without a request in flight
}

func (n *Node) peer(name string) *peer { return n.line(kindRequest, name) }

// line is the one for a kind of connection.
func (n *Node) line(kind, name string) *peer {
	n.peersMu.Lock()
	defer n.peersMu.Unlock()
	key := kind + " " + name
	p := n.peers[key]
	if p == nil {
		p = &peer{g: n.gate, name: name, kind: kind, idle: make(chan *conn, idleConns)}
		n.peers[key] = p
	}
	return p
}

// closePeers forgets the lines; the gate has closed their connections.
func (n *Node) closePeers() {
	n.peersMu.Lock()
	defer n.peersMu.Unlock()
	clear(n.peers)
}

// call sends one request and waits for its answer. An error that is errNotSent says that the other watcher has not seen
// the request; after any other it may have acted on it. The context needs a deadline.
func (p *peer) call(ctx context.Context, address string, q request) (answer, error) {
	text, err := json.Marshal(q)
	if err != nil {
		return answer{}, fmt.Errorf("%w: cannot encode request: %v", errNotSent, err)
	}
	if len(text) > maxFrame {
		return answer{}, fmt.Errorf("%w: the request has %d bytes, the limit is %d", errNotSent, len(text), maxFrame)
	}
	c, err := p.connect(ctx, address)
	if err != nil {
		return answer{}, fmt.Errorf("%w: cannot reach watcher %s at %s: %w", errNotSent, p.name, address, err)
	}
	a, err := exchange(ctx, c, text)
	if err != nil {
		_ = c.Close()
		return a, fmt.Errorf("cannot hear from watcher %s at %s: %w", p.name, address, err)
	}
	select {
	case p.idle <- c:
	default:
		_ = c.Close()
	}
	return a, nil
}

func exchange(ctx context.Context, c *conn, text []byte) (answer, error) {
	var a answer
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := writeFrame(c, text); err != nil {
		return a, err
	}
	reply, err := readFrame(c, maxFrame)
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(reply, &a); err != nil {
		return a, err
	}
	if !stop() { // the deadline may have been put into the past: this connection is no longer to be used
		return a, ctx.Err()
	}
	return a, nil
}

// connect takes an idle connection that is still alive, or dials.
func (p *peer) connect(ctx context.Context, address string) (*conn, error) {
	for {
		select {
		case c := <-p.idle:
			if alive(c) {
				return c, nil
			}
			_ = c.Close()
			continue
		default:
		}
		return p.g.dial(ctx, p.name, address, p.kind)
	}
}

// alive reports whether the other end has kept an idle connection open. A request written to one that it has closed
// would be lost, and nobody could say whether it was acted on. It looks at the TCP connection, below TLS: nothing comes
// there between requests, since the other end sends no session tickets and no farewell.
func alive(c *conn) bool {
	if a, ok := c.Conn.(interface{ Alive() bool }); ok {
		return a.Alive()
	}
	s, ok := c.Conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return false
	}
	open := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		open = errors.Is(err, syscall.EAGAIN) // nothing to read and not ended
		return true
	})
	return err == nil && open
}
