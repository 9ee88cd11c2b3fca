package nameserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// bindTries is how many ports are tried when any will do: the port that TCP was given may be taken for UDP.
const bindTries = 16

// binding is one address with its sockets.
type binding struct {
	address  netip.AddrPort
	wildcard bool // answers must name the address that was asked
	listener *net.TCPListener
	sockets  []*net.UDPConn
}

func (b *binding) close() {
	// A second close is reported as an error; nothing else can go wrong that anyone could act on.
	if b.listener != nil {
		_ = b.listener.Close()
	}
	for _, c := range b.sockets {
		_ = c.Close()
	}
}

// bind binds an address, or both wildcards if it has no host.
func bind(address string, sockets int) ([]*binding, error) {
	if port, ok := strings.CutPrefix(address, ":"); ok {
		four, err := bind("0.0.0.0:"+port, sockets)
		if err != nil {
			return four, err
		}
		six, err := bind("[::]:"+port, sockets)
		if errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL) {
			err = nil // a machine without IPv6
		}
		return append(four, six...), err
	}
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen for DNS on %q: not an IP address and port; write it like 192.0.2.53:53", address)
	}
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	for try := 1; ; try++ {
		b, err := bindOne(addr, sockets)
		if err == nil {
			return []*binding{b}, nil
		}
		if addr.Port() == 0 && try < bindTries && errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err // without the address, which is said already
		}
		return nil, fmt.Errorf("cannot listen for DNS on %s: %w%s", address, err, hint(err))
	}
}

// bindOne takes the TCP port first. That one cannot be shared, so it keeps a second server from silently taking part of
// the queries, which the shared UDP sockets alone would let it do.
func bindOne(addr netip.AddrPort, sockets int) (_ *binding, err error) {
	b := &binding{wildcard: addr.Addr().IsUnspecified()}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	family := "4"
	if addr.Addr().Is6() {
		family = "6"
	}
	b.listener, err = net.ListenTCP("tcp"+family, net.TCPAddrFromAddrPort(addr))
	if err != nil {
		return nil, err
	}
	port := b.listener.Addr().(*net.TCPAddr).AddrPort().Port()
	b.address = netip.AddrPortFrom(addr.Addr(), port)
	config := net.ListenConfig{Control: socketOptions(b.wildcard)}
	for range sockets {
		conn, err := config.ListenPacket(context.Background(), "udp"+family, b.address.String())
		if err != nil {
			return nil, err
		}
		b.sockets = append(b.sockets, conn.(*net.UDPConn))
	}
	return b, nil
}

// socketOptions lets several UDP sockets share one port and, on a wildcard address, makes the kernel tell which address
// a packet was sent to (ip(7), ipv6(7)).
func socketOptions(wildcard bool) func(network, address string, c syscall.RawConn) error {
	return func(network, _ string, c syscall.RawConn) error {
		var err error
		set := func(fd, level, option int) {
			if err == nil {
				err = unix.SetsockoptInt(fd, level, option, 1)
			}
		}
		if fault := c.Control(func(fd uintptr) {
			set(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT)
			switch {
			case wildcard && network == "udp4":
				set(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO)
			case wildcard:
				set(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO)
			}
		}); fault != nil {
			return fault
		}
		return err
	}
}

// hint says what to try when an address cannot be bound.
func hint(err error) string {
	switch {
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return "; ports below 1024 need CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE)"
	case errors.Is(err, syscall.EADDRINUSE):
		return "; another name server has it (see `ss -lntup`); stop that one or listen on one address only"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "; this machine does not have that address"
	}
	return ""
}
