package database

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// Bounds of what a Redis may answer: the longest answer that is asked for is the list of its clients.
const (
	maxRedisText  = 16 << 20 // bytes of one text
	maxRedisItems = 100_000  // of one list
	maxRedisDepth = 4        // of lists in lists
	maxRedisError = 300      // bytes kept of an error
)

// reply is one answer of the protocol's version 2.
type reply struct {
	text string // of a text or a number
	null bool
	err  error // *redisError
	list []reply
}

// redisError is what a server said; its first word is the code.
type redisError struct{ text string }

func (e *redisError) Error() string { return e.text }

func saidRedis(err error, codes ...string) bool {
	var said *redisError
	if !errors.As(err, &said) {
		return false
	}
	for _, code := range codes {
		if strings.HasPrefix(said.text, code) {
			return true
		}
	}
	return false
}

// redisConn is one connection. What is asked together is sent in one piece, and there is no second try: a library that
// connects again by itself would let hands act that were cut off.
type redisConn struct {
	net    net.Conn
	reader *bufio.Reader
	broken error
}

func dialRedis(ctx context.Context, address string, secure *tls.Config) (*redisConn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &redisConn{net: conn}
	if secure != nil {
		wrapped := tls.Client(conn, secure)
		if err := wrapped.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, err
		}
		c.net = wrapped
	}
	c.reader = bufio.NewReader(c.net)
	return c, nil
}

// ask sends commands and reads one answer for each. An error is about the connection; what the server refuses is in the
// answers.
func (c *redisConn) ask(ctx context.Context, commands ...[]string) ([]reply, error) {
	if c.broken != nil {
		return nil, c.broken
	}
	deadline, _ := ctx.Deadline() // zero: none
	if err := c.net.SetDeadline(deadline); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.net.SetDeadline(time.Unix(1, 0)) })
	replies, err := c.exchange(commands)
	if !stop() { // its end comes just now, or may still come while something later is asked
		c.broken = errors.New("the connection is lost")
	}
	if err != nil {
		c.broken = errors.New("the connection is lost")
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, err
	}
	return replies, nil
}

func (c *redisConn) exchange(commands [][]string) ([]reply, error) {
	var text bytes.Buffer
	for _, words := range commands {
		fmt.Fprintf(&text, "*%d\r\n", len(words))
		for _, word := range words {
			fmt.Fprintf(&text, "$%d\r\n%s\r\n", len(word), word)
		}
	}
	if _, err := c.net.Write(text.Bytes()); err != nil {
		return nil, err
	}
	replies := make([]reply, len(commands))
	for i := range replies {
		var err error
		if replies[i], err = c.read(0); err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("the server has closed the connection")
			}
			return nil, err
		}
	}
	return replies, nil
}

func (c *redisConn) read(depth int) (reply, error) {
	line, err := c.reader.ReadSlice('\n') // as long as the buffer at most
	if err != nil {
		return reply{}, err
	}
	if len(line) < 3 || line[len(line)-2] != '\r' {
		return reply{}, errors.New("not an answer of Redis")
	}
	rest := string(line[1 : len(line)-2])
	switch line[0] {
	case '+', ':':
		return reply{text: rest}, nil
	case '-':
		return reply{err: &redisError{text: cutText(rest, maxRedisError)}}, nil
	case '$':
		return c.readText(rest)
	case '*':
		return c.readList(rest, depth)
	}
	return reply{}, errors.New("not an answer of Redis")
}

func (c *redisConn) readText(length string) (reply, error) {
	n, err := strconv.Atoi(length)
	switch {
	case err != nil || n < -1 || n > maxRedisText:
		return reply{}, fmt.Errorf("cannot read an answer of %q bytes; at most %d are read", cutText(length, 20), maxRedisText)
	case n == -1:
		return reply{null: true}, nil
	}
	var text bytes.Buffer // grows with what really comes
	if _, err := io.CopyN(&text, c.reader, int64(n)+2); err != nil {
		return reply{}, err
	}
	return reply{text: string(text.Bytes()[:n])}, nil
}

func (c *redisConn) readList(length string, depth int) (reply, error) {
	n, err := strconv.Atoi(length)
	switch {
	case err != nil || n < -1 || n > maxRedisItems || depth >= maxRedisDepth:
		return reply{}, fmt.Errorf("cannot read a list of %q answers; at most %d are read", cutText(length, 20), maxRedisItems)
	case n == -1:
		return reply{null: true}, nil
	}
	var out reply
	for range n {
		item, err := c.read(depth + 1)
		if err != nil {
			return reply{}, err
		}
		out.list = append(out.list, item)
	}
	return out, nil
}

func (c *redisConn) close() { _ = c.net.Close() }
