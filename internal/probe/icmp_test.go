package probe

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// wire is an ICMP socket in memory: what is sent is answered by the test.
type wire struct {
	answers func(request []byte) [][]byte
	from    net.Addr
	queue   chan []byte
	done    chan struct{} // closed by SetDeadline or Close
}

func newWire(from string, answers func([]byte) [][]byte) *wire {
	return &wire{answers: answers, from: &net.UDPAddr{IP: net.ParseIP(from)}, queue: make(chan []byte, 16), done: make(chan struct{}, 2)}
}

func (w *wire) WriteTo(b []byte, _ net.Addr) (int, error) {
	for _, a := range w.answers(b) {
		w.queue <- a
	}
	return len(b), nil
}

func (w *wire) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case packet := <-w.queue:
		return copy(b, packet), w.from, nil
	case <-w.done:
		return 0, nil, os.ErrDeadlineExceeded
	}
}

func (w *wire) SetDeadline(time.Time) error { w.done <- struct{}{}; return nil }
func (w *wire) Close() error                { return nil }

// reply is the answer to an echo request, with its data changed.
func reply(request []byte, change func([]byte) []byte) []byte {
	message, err := icmp.ParseMessage(icmpProto, request)
	if err != nil {
		panic(err)
	}
	body := *message.Body.(*icmp.Echo)
	body.Data = change(body.Data)
	text, err := (&icmp.Message{Type: ipv4.ICMPTypeEchoReply, Body: &body}).Marshal(nil)
	if err != nil {
		panic(err)
	}
	return text
}

func same(b []byte) []byte { return b }

func TestICMPAnswers(t *testing.T) {
	for _, tt := range []struct {
		name    string
		from    string
		answers func([]byte) [][]byte
		want    string
	}{
		{"answered", "192.0.2.1", func(r []byte) [][]byte { return [][]byte{reply(r, same)} }, ""},
		{"among others", "192.0.2.1", func(r []byte) [][]byte {
			return [][]byte{{}, []byte("rubbish"), r, reply(r, func([]byte) []byte { return []byte("another's") }), reply(r, same)}
		}, ""},
		{"silent", "192.0.2.1", func([]byte) [][]byte { return nil }, "no answer within 50ms"},
		{"its own request is no answer", "192.0.2.1", func(r []byte) [][]byte { return [][]byte{r} }, "no answer within 50ms"},
		{"somebody else answers", "192.0.2.2", func(r []byte) [][]byte { return [][]byte{reply(r, same)} }, "no answer within 50ms"},
		{"an answer to another request", "192.0.2.1", func(r []byte) [][]byte {
			return [][]byte{reply(r, func(b []byte) []byte { return bytes.Repeat([]byte("x"), len(b)) })}
		}, "no answer within 50ms"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			check, _ := build(t, failover.Probe{Kind: "icmp", Address: "192.0.2.1"})
			check.(*icmpCheck).listen = func(string, string) (echoConn, error) { return newWire(tt.from, tt.answers), nil }
			timeout := testTimeout
			if tt.want != "" {
				timeout = 50 * time.Millisecond
			}
			if got := once(t, check, timeout); got != tt.want {
				t.Errorf("reason %q, want %q", got, tt.want)
			}
		})
	}
}

// A watcher that may not ask says unknown, never down; and what to do about it.
func TestICMPNotAllowed(t *testing.T) {
	check, _ := build(t, failover.Probe{Kind: "icmp", Address: "192.0.2.1"})
	var asked []string
	check.(*icmpCheck).listen = func(network, _ string) (echoConn, error) {
		asked = append(asked, network)
		return nil, os.NewSyscallError("socket", syscall.EACCES)
	}
	_, err := check.check(t.Context())
	if judge(err) != unable {
		t.Errorf("%v is held against the app", err)
	}
	const want = "cannot open an ICMP socket: permission denied; let this process's group into net.ipv4.ping_group_range, or give the process CAP_NET_RAW"
	if got := reasonOf(err, testTimeout); got != want {
		t.Errorf("reason %q\nwant   %q", got, want)
	}
	if strings.Join(asked, " ") != "udp4 ip4:icmp" {
		t.Errorf("asked for %v", asked)
	}
}

func TestICMPFallsBackToRaw(t *testing.T) {
	check, _ := build(t, failover.Probe{Kind: "icmp", Address: "192.0.2.1"})
	check.(*icmpCheck).listen = func(network, _ string) (echoConn, error) {
		if network == "udp4" {
			return nil, os.NewSyscallError("socket", syscall.EACCES)
		}
		return newWire("192.0.2.1", func(r []byte) [][]byte { return [][]byte{reply(r, same)} }), nil
	}
	if got := once(t, check, testTimeout); got != "" {
		t.Errorf("reason %q", got)
	}
}

func TestICMPNames(t *testing.T) {
	check, _ := build(t, failover.Probe{Kind: "icmp", Address: "shop.example.com"})
	c := check.(*icmpCheck)
	c.lookup = func(context.Context, string, string) ([]netip.Addr, error) {
		return nil, &net.DNSError{Name: "shop.example.com", IsNotFound: true}
	}
	if got := once(t, check, testTimeout); got != "host name shop.example.com does not exist" {
		t.Errorf("reason %q", got)
	}
	c.lookup = func(context.Context, string, string) ([]netip.Addr, error) {
		return nil, &net.DNSError{Name: "shop.example.com", IsTimeout: true}
	}
	if _, err := check.check(t.Context()); judge(err) != unable {
		t.Errorf("a resolver that does not answer is held against the app: %v", err)
	}
	if _, err := newChecker(failover.Probe{Kind: "icmp"}, surroundings{}); err == nil {
		t.Error("it took an empty address")
	}
}

// TestICMPLoopback asks the kernel itself, where this process may.
func TestICMPLoopback(t *testing.T) {
	for _, address := range []string{"127.0.0.1", "::1", "localhost"} {
		t.Run(address, func(t *testing.T) {
			check, _ := build(t, failover.Probe{Kind: "icmp", Address: address})
			ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
			defer cancel()
			for range 3 {
				_, err := check.check(ctx)
				var fault errUnable
				switch {
				case errors.As(err, &fault):
					t.Logf("this process may not ask: %v", err) // as root it may
					if os.Geteuid() == 0 && !errors.Is(err, syscall.EAFNOSUPPORT) {
						t.Error("root may not ask")
					}
					return
				case errors.Is(err, syscall.EADDRNOTAVAIL) && address == "::1":
					return // a machine without IPv6
				case err != nil:
					t.Fatal(err)
				}
			}
		})
	}
}

// FuzzIsAnswer: no packet is taken for the answer that does not hold the nonce.
func FuzzIsAnswer(f *testing.F) {
	nonce := []byte("0123456789abcdef")
	for _, kind := range []icmp.Type{ipv4.ICMPTypeEchoReply, ipv4.ICMPTypeEcho, ipv6.ICMPTypeEchoReply, ipv4.ICMPTypeDestinationUnreachable} {
		body := icmp.MessageBody(&icmp.Echo{ID: 1, Seq: 2, Data: nonce})
		if kind == ipv4.ICMPTypeDestinationUnreachable {
			body = &icmp.DstUnreach{Data: nonce}
		}
		text, err := (&icmp.Message{Type: kind, Body: body}).Marshal(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, false)
		f.Add(text, true)
	}
	f.Fuzz(func(t *testing.T, packet []byte, v6 bool) {
		if isAnswer(packet, v6, nonce) && !bytes.Contains(packet, nonce) {
			t.Errorf("%x was taken for the answer", packet)
		}
	})
}
