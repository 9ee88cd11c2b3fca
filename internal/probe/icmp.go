package probe

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/watchover-ha/watchover/pkg/failover"
)

const (
	echoNonce = 16   // bytes by which an answer is known for the one to this very request
	maxEcho   = 1500 // bytes of a packet that are read
	icmpProto = 1    // IANA protocol numbers
	icmp6     = 58
)

// icmpCheck: an echo request that is answered is up. A single lost packet is one failure; `fall` says how many count.
//
// It uses the kernel's unprivileged echo sockets where net.ipv4.ping_group_range lets this process's group have them,
// and raw ones where it has CAP_NET_RAW. With neither it can tell nothing, so the verdict is unknown, never down.
type icmpCheck struct {
	host   string
	listen func(network, address string) (echoConn, error)
	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// echoConn is an *icmp.PacketConn.
type echoConn interface {
	WriteTo(b []byte, to net.Addr) (int, error)
	ReadFrom(b []byte) (int, net.Addr, error)
	SetDeadline(t time.Time) error
	Close() error
}

func newICMPCheck(spec failover.Probe, _ surroundings) (checker, error) {
	if spec.Address == "" {
		return nil, errors.New("cannot use an empty address: icmp needs an IP address or a host name")
	}
	return &icmpCheck{host: spec.Address, lookup: net.DefaultResolver.LookupNetIP, listen: func(network, address string) (echoConn, error) {
		return icmp.ListenPacket(network, address)
	}}, nil
}

func (c *icmpCheck) check(ctx context.Context) (answer, error) {
	addresses, err := c.lookup(ctx, "ip", c.host)
	if err != nil {
		return answer{}, err
	}
	if len(addresses) == 0 {
		return answer{}, errors.New("host name without an address")
	}
	to := addresses[0].Unmap()
	conn, raw, err := c.open(to)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = conn.Close() }() // nothing is left to be said on it
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	err = echo(conn, to, raw)
	if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() != nil {
		err = ctx.Err()
	}
	return answer{}, err
}

// open gets a socket for echo requests, preferably one that needs no privilege.
func (c *icmpCheck) open(to netip.Addr) (conn echoConn, raw bool, err error) {
	plain, privileged, any := "udp4", "ip4:icmp", "0.0.0.0"
	if to.Is6() {
		plain, privileged, any = "udp6", "ip6:ipv6-icmp", "::"
	}
	conn, err = c.listen(plain, any)
	if err == nil {
		return conn, false, nil
	}
	if conn, rawErr := c.listen(privileged, any); rawErr == nil {
		return conn, true, nil
	}
	return nil, false, errUnable{fmt.Errorf("cannot open an ICMP socket: %w; let this process's group into net.ipv4.ping_group_range, or give the process CAP_NET_RAW", cause(err))}
}

// cause is what the kernel said, without the call that it said it to.
func cause(err error) error {
	var call *os.SyscallError
	if errors.As(err, &call) {
		return call.Err
	}
	return err
}

// echo sends one request and waits for its answer, within the connection's deadline. Whatever else arrives is passed
// over: a raw socket hears everything that comes to this machine.
func echo(conn echoConn, to netip.Addr, raw bool) error {
	request, nonce, err := echoRequest(to)
	if err != nil {
		return err
	}
	var target net.Addr = &net.UDPAddr{IP: to.AsSlice(), Zone: to.Zone()}
	if raw {
		target = &net.IPAddr{IP: to.AsSlice(), Zone: to.Zone()}
	}
	if _, err := conn.WriteTo(request, target); err != nil {
		return err
	}
	packet := make([]byte, maxEcho)
	for {
		n, from, err := conn.ReadFrom(packet)
		if err != nil {
			return err
		}
		if isFrom(from, to) && isAnswer(packet[:n], to.Is6(), nonce) {
			return nil
		}
	}
}

// echoRequest makes a request that nobody could know an answer to without having seen it. The kernel replaces the
// identifier on an unprivileged socket.
func echoRequest(to netip.Addr) (request, nonce []byte, err error) {
	random := make([]byte, echoNonce+4)
	_, _ = rand.Read(random) // never fails since Go 1.24
	nonce = random[:echoNonce]
	message := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{
		ID: int(binary.BigEndian.Uint16(random[echoNonce:])), Seq: int(binary.BigEndian.Uint16(random[echoNonce+2:])), Data: nonce,
	}}
	if to.Is6() {
		message.Type = ipv6.ICMPTypeEchoRequest // the kernel fills in its checksum
	}
	request, err = message.Marshal(nil)
	return request, nonce, err
}

func isFrom(from net.Addr, want netip.Addr) bool {
	var ip net.IP
	switch a := from.(type) {
	case *net.UDPAddr:
		ip = a.IP
	case *net.IPAddr:
		ip = a.IP
	}
	got, ok := netip.AddrFromSlice(ip)
	return ok && got.Unmap() == want.WithZone("")
}

func isAnswer(packet []byte, v6 bool, nonce []byte) bool {
	proto, want := icmpProto, icmp.Type(ipv4.ICMPTypeEchoReply)
	if v6 {
		proto, want = icmp6, ipv6.ICMPTypeEchoReply
	}
	message, err := icmp.ParseMessage(proto, packet)
	if err != nil || message.Type != want {
		return false
	}
	body, ok := message.Body.(*icmp.Echo)
	return ok && bytes.Equal(body.Data, nonce)
}

func (c *icmpCheck) drop() {}
