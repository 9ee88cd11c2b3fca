package nameserver

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// maxQuery is the longest query accepted, in bytes: a question and an OPT record with room for many options.
const maxQuery = 4096

// serveUDP answers one socket's packets, one after the other, in buffers of its own: there is no queue but the kernel's,
// which drops what comes too fast. Reading has no deadline; the socket is closed to end it.
func (s *Server) serveUDP(ctx context.Context, conn *net.UDPConn, wildcard bool) {
	packet := make([]byte, maxQuery)
	response := make([]byte, 0, ednsSize)
	var info []byte
	if wildcard {
		info = make([]byte, 128)
	}
	for {
		n, infoLen, flags, from, err := conn.ReadMsgUDPAddrPort(packet, info)
		if err != nil {
			if s.pause(ctx, err) {
				continue
			}
			return
		}
		if flags&unix.MSG_TRUNC != 0 {
			s.metrics.drop(dropOversize)
			continue
		}
		response = s.respond(response[:0], packet[:n], udp)
		if len(response) == 0 {
			continue
		}
		if err := s.sendUDP(conn, response, sender(info[:infoLen]), from); err != nil && ctx.Err() == nil {
			s.metrics.drop(dropWrite)
			s.faults.Debug().Err(err).Stringer("client", from).Msg("cannot send a DNS answer")
		}
	}
}

func (s *Server) sendUDP(conn *net.UDPConn, response, info []byte, to netip.AddrPort) error {
	if err := conn.SetWriteDeadline(time.Now().Add(s.limits.Write)); err != nil {
		return err
	}
	_, _, err := conn.WriteMsgUDPAddrPort(response, info, to)
	return err
}

// sender turns the control message that came with a packet into the one for its answer, in place: the same address, now
// as the sender, so that a client who asked one of several addresses hears from that one. The interface is cleared,
// because routes back may differ, except for link-local addresses, which mean nothing without it.
func sender(info []byte) []byte {
	const header = unix.SizeofCmsghdr
	if len(info) < header {
		return nil
	}
	// struct cmsghdr: length (the kernel's word), level, type; here only one of the two structures can follow.
	switch level := binary.NativeEndian.Uint32(info[header-8:]); {
	case level == unix.IPPROTO_IP && len(info) >= header+unix.SizeofInet4Pktinfo:
		clear(info[header : header+4]) // in_pktinfo: interface, address to answer from, address asked
	case level == unix.IPPROTO_IPV6 && len(info) >= header+unix.SizeofInet6Pktinfo:
		asked, _ := netip.AddrFromSlice(info[header : header+16]) // in6_pktinfo: address, interface
		if !asked.IsLinkLocalUnicast() {
			clear(info[header+16 : header+20])
		}
	default:
		return nil
	}
	return info
}
