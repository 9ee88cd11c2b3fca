package database

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
)

func TestRedisDSN(t *testing.T) {
	for dsn, want := range map[string]string{
		"redis://watchover@192.0.2.10:6379":   "",
		"rediss://[2001:db8::1]:6380":         "",
		"redis://db.example.net/0":            "",
		"redis://watchover:hunter2@192.0.2.1": "the dsn holds a password",
		"redis://:hunter2@192.0.2.1":          "the dsn holds a password",
		"redis://192.0.2.1/3":                 "more than a server",
		"redis://192.0.2.1?db=3":              "more than a server",
		"192.0.2.1:6379":                      "cannot read the dsn",
		"http://192.0.2.1":                    "cannot read the dsn",
		"redis://":                            "cannot read the dsn",
		"redis://x:hunter2@[::1":              "cannot read the dsn",
	} {
		err := Check("redis", dsn)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if (want == "") != (err == nil) || !strings.Contains(got, want) || strings.Contains(got, "hunter2") {
			t.Errorf("%s: %q, want %q", dsn, got, want)
		}
	}
	if to, err := parseRedis("rediss://[2001:db8::1]"); err != nil || to.address != "[2001:db8::1]:6379" || !to.secure || to.host != "2001:db8::1" {
		t.Errorf("got %+v, %v", to, err)
	}
}

func answered(text string) (reply, error) {
	return (&redisConn{reader: bufio.NewReader(strings.NewReader(text))}).read(0)
}

func TestRedisAnswers(t *testing.T) {
	got, err := answered("*4\r\n$5\r\nhe\r\no\r\n:7\r\n$-1\r\n-ERR no\r\n")
	if err != nil || len(got.list) != 4 || got.list[0].text != "he\r\no" || got.list[1].text != "7" || !got.list[2].null || !saidRedis(got.list[3].err, "ERR") {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, text := range []string{
		"", "+", "+OK", "+OK\n", "HTTP/1.1 400 Bad Request\r\n", "$x\r\n", "$-2\r\n", "$99999999999\r\n", "$10\r\nshort\r\n", "*99999999\r\n", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
		"+" + strings.Repeat("a", 10_000) + "\r\n",
	} {
		if got, err := answered(text); err == nil {
			t.Errorf("%.40q was read as %+v", text, got)
		}
	}
}

// endsWithAnswer ends the question when the answer comes.
type endsWithAnswer struct {
	net.Conn
	end context.CancelFunc
}

func (c endsWithAnswer) Read(into []byte) (int, error) {
	n, err := c.Conn.Read(into)
	c.end()
	return n, err
}

// What cuts a question off may come just as its answer does: then it must not hit the next one.
func TestRedisQuestionThatEndsWithItsAnswer(t *testing.T) {
	ours, theirs := net.Pipe()
	defer func() { _ = ours.Close() }()
	answered := make(chan error)
	go func() {
		_, err := io.ReadFull(theirs, make([]byte, len("*1\r\n$4\r\nPING\r\n")))
		_, errWrite := theirs.Write([]byte("+PONG\r\n"))
		answered <- errors.Join(err, errWrite)
	}()
	ctx, cancel := context.WithCancel(t.Context())
	conn := endsWithAnswer{Conn: ours, end: cancel}
	c := &redisConn{net: conn, reader: bufio.NewReader(conn)}
	replies, err := c.ask(ctx, []string{"PING"})
	if err != nil || replies[0].text != "PONG" || c.broken == nil {
		t.Errorf("%v, %v, broken: %v", replies, err, c.broken)
	}
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

func FuzzRedisAnswer(f *testing.F) {
	for _, text := range []string{"+OK\r\n", "-ERR no\r\n", ":12\r\n", "$3\r\nabc\r\n", "$-1\r\n", "*2\r\n+a\r\n*1\r\n:1\r\n", "*-1\r\n", "*100000\r\n"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := answered(text)
		if err == nil && len(got.text) > len(text) {
			t.Errorf("read %d bytes out of %d", len(got.text), len(text))
		}
	})
}

func TestRedisState(t *testing.T) {
	settings := map[string]string{"min-replicas-to-write": "1000000", "min-replicas-max-lag": "10"}
	s, err := stateOf(map[string]string{"role": "master", "master_replid": "x", "master_repl_offset": "9"}, settings)
	if err != nil || !s.primary || !s.frozen() || s.offset != 9 || s.backlog || s.pastEnd != -1 {
		t.Errorf("got %+v, %v", s, err)
	}
	settings["min-replicas-max-lag"] = "0"
	if s.maxLag = "0"; s.frozen() {
		t.Error("with no limit of the lag the number of replicas has no effect")
	}
	for _, info := range []map[string]string{{}, {"role": "sentinel"}, {"role": "master"}} {
		if s, err := stateOf(info, settings); err == nil {
			t.Errorf("%v was read as %+v", info, s)
		}
	}
}

// What the journal tells comes from a peer's log: nothing in it may become another setting.
func TestRedisThaw(t *testing.T) {
	s := &redisState{minReplicas: "1000000", maxLag: "10"}
	for _, found := range []string{"min-replicas-to-write", "min-replicas-to-write=-1", "requirepass=1", "min-replicas-to-write=1 maxmemory=1", "min-replicas-to-write=99999999999"} {
		if set, err := s.thaw(found); err == nil {
			t.Errorf("%q became %v", found, set)
		}
	}
}
