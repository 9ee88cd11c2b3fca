package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

func TestFramesAllocateWhatArrives(t *testing.T) {
	var head [4]byte
	binary.BigEndian.PutUint32(head[:], maxFrame)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := readFrame(bytes.NewReader(append(head[:], "short"...)), maxFrame); err == nil {
		t.Error("half a message was taken for a whole one")
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20 {
		t.Errorf("reserved %d bytes for a claim", got)
	}
	binary.BigEndian.PutUint32(head[:], maxFrame+1)
	if _, err := readFrame(bytes.NewReader(head[:]), maxFrame); err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("got %v", err)
	}
	if err := writeFrame(io.Discard, make([]byte, maxFrame+1)); err == nil {
		t.Error("wrote a message over the limit")
	}
}

func TestStrangersAreTurnedAway(t *testing.T) {
	r := newRig(t, 1, nil)
	n := r.up()
	for name, first := range map[string]string{
		"http":          "GET / HTTP/1.1\r\n\r\n",
		"endless hello": magic + "\xff\xff\xff\xff" + strings.Repeat("x", 2000),
		"no json":       magic + "\x00\x00\x00\x01x",
		"stranger":      magic + "\x00\x00\x00\x40" + `{"protocol":1,"kind":"request","cluster":"prod","name":"outside"}`,
	} {
		c, err := net.Dial("tcp", r.peers[0].Address)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Write([]byte(first)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Errorf("%s: the connection was kept", name)
		}
		_ = c.Close()
	}
	until(t, "no connection is left", func() bool {
		n.gate.mu.Lock()
		defer n.gate.mu.Unlock()
		return len(n.gate.conns) == 0
	})
}

func TestAdmit(t *testing.T) {
	n := &Node{o: Options{Name: "w1", Cluster: "prod", Peers: []Peer{{Name: "w1"}, {Name: "w2"}}}}
	s := failover.NewState()
	s.ClusterID = "aaaa"
	n.setState(s)
	g := &gate{n: n, conns: map[*conn]string{}}
	if err := g.admit(&conn{}, hello{Protocol: protocol, Kind: kindRaft, Cluster: "prod", Name: "w2"}); err == nil {
		t.Error("let raft in before it runs")
	}
	g.raftOn.Store(true)
	good := hello{Protocol: protocol, Kind: kindRaft, Cluster: "prod", ClusterID: "aaaa", Name: "w2"}
	for _, c := range []struct {
		name, want string
		change     func(h *hello)
	}{
		{"fine", "", func(*hello) {}},
		{"has no id yet", "", func(h *hello) { h.ClusterID = "" }},
		{"protocol", "protocol 2", func(h *hello) { h.Protocol = 2 }},
		{"cluster", "belongs to cluster", func(h *hello) { h.Cluster = "test" }},
		{"id", "another cluster that is also called", func(h *hello) { h.ClusterID = "bbbb" }},
		{"own name", "calls itself", func(h *hello) { h.Name = "w1" }},
		{"stranger", "is not a watcher", func(h *hello) { h.Name = "w3" }},
		{"kind", "does not know", func(h *hello) { h.Kind = "telnet" }},
	} {
		h := good
		c.change(&h)
		err := g.admit(&conn{}, h)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	for range 2 * maxConnsOfPeer {
		_ = g.admit(&conn{}, good)
	}
	if len(g.conns) > maxConnsOfPeer {
		t.Errorf("%d connections of one watcher", len(g.conns))
	}
}

func TestDeadIdleConnectionIsNotUsed(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	raw, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	other, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c := &conn{Conn: raw}
	if !alive(c) {
		t.Error("an open connection is taken for dead")
	}
	_ = other.Close()
	until(t, "the end is seen", func() bool { return !alive(c) })
}

// TestAFrozenSenderDoesNotHoldRaft: the rest of a request that has begun has to come in time, an idle stream may stay.
func TestAFrozenSenderDoesNotHoldRaft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		c := &conn{Conn: ours, limited: true}
		got := make(chan error, 1)
		read := func() { _, err := c.Read(make([]byte, 8)); got <- err }
		send := func() {
			if _, err := theirs.Write([]byte("request")); err != nil {
				t.Fatal(err)
			}
		}
		go read()
		<-time.After(time.Hour) // idle: nothing has begun
		send()
		if err := <-got; err != nil {
			t.Fatalf("an idle stream was ended: %v", err)
		}
		go read()
		began := time.Now()
		if err := <-got; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != bodyTimeout {
			t.Errorf("got %v after %s", err, time.Since(began))
		}
		go func() { _, _ = theirs.Read(make([]byte, 8)) }()
		if _, err := c.Write([]byte("answer")); err != nil {
			t.Fatal(err)
		}
		go read()
		<-time.After(time.Hour)
		send()
		if err := <-got; err != nil {
			t.Errorf("after the answer the stream is idle again: %v", err)
		}
		_ = ours.Close()
		_ = theirs.Close()
	})
}
