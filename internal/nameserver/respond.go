package nameserver

import (
	"encoding/binary"
	"runtime/debug"
	"time"

	"github.com/miekg/dns"
)

const (
	classIN = dns.ClassINET

	// ednsSize is the UDP payload we take and never exceed: what fits an IPv6 packet of the minimum MTU, so that
	// answers are not fragmented (dnsflagday.net/2020).
	ednsSize = 1232
	plainUDP = 512 // without EDNS (RFC 1035, section 4.2.1)
	tcpSize  = 65535
)

// extended is an extended error of RFC 8914, sent with the OPT record.
type extended struct {
	code uint16
	text string
}

// Why an answer is old or missing. SERVFAIL comes with "not ready" (14): "no reachable authority" (22) is for resolvers
// that cannot reach the zone's servers, while here the server itself is what cannot answer.
var (
	edeStale    = &extended{dns.ExtendedErrorCodeStaleAnswer, "no contact with a quorum of watchers"}
	edeNotReady = &extended{dns.ExtendedErrorCodeNotReady, "no committed state yet"}
	edeIsolated = &extended{dns.ExtendedErrorCodeNotReady, "no contact with a quorum of watchers for too long"}
)

// Ask is what the server answers to a query over TCP; nil: nothing. It needs no socket.
func (s *Server) Ask(query []byte) []byte { return s.respond(nil, query, tcp) }

// respond appends the response to packet to dst. It appends nothing if there must be none. A panic in here costs this
// one answer, never the daemon: the others are still right, and failover does not depend on DNS.
func (s *Server) respond(dst, packet []byte, via transport) (response []byte) {
	var q query
	reason, ok := q.header(packet)
	if !ok {
		s.metrics.drop(reason)
		return dst
	}
	start := len(dst)
	defer func() {
		if fault := recover(); fault != nil {
			s.metrics.drop(dropPanic)
			s.faults.Error().Interface("panic", fault).Bytes("stack", debug.Stack()).Msg("cannot answer a query: panic")
			m := message{buf: dst[:start]}
			m.begin(q.id, nil)
			response = m.finish(flagQR|q.flags&(opcodeMask|flagRD)|dns.RcodeServerFailure, nil)
		}
	}()
	response, rcode := s.answer(dst, packet, &q, via)
	s.metrics.query(q.kind, rcode, via)
	return response
}

// answer writes the response to a query whose header was accepted.
func (s *Server) answer(dst, packet []byte, q *query, via transport) ([]byte, int) {
	table := s.answers.Load()
	formed := q.parse(packet)
	if !formed {
		q.edns = false // RFC 6891, section 7: what could not be read gets no OPT record
	}
	m := message{buf: dst, maxTTL: maxTTL}
	m.begin(q.id, q.question)
	var ede *extended
	var aa bool
	rcode, final := s.precheck(q, formed, table)
	if !final {
		m.end = m.start + limit(q, via)
		rcode, aa, ede = s.lookup(&m, q, table)
		aa = aa && q.class == classIN // an answer for any class can never be authoritative (RFC 1035, section 6.2)
	} else if table == nil && rcode == dns.RcodeServerFailure {
		ede = edeNotReady
	}

	flags := flagQR | q.flags&(opcodeMask|flagRD) | uint16(rcode&0xf)
	if aa {
		flags |= flagAA
	}
	var room [optLen + 6 + 64]byte
	return m.finish(flags, q.opt(room[:0], rcode, ede)), rcode
}

// precheck returns the code of a response without records, if that is what the query gets.
func (s *Server) precheck(q *query, formed bool, table *Answers) (rcode int, final bool) {
	switch {
	case q.opcode() != dns.OpcodeQuery:
		return dns.RcodeNotImplemented, true
	case !formed:
		return dns.RcodeFormatError, true
	case q.edns && q.version > 0:
		return dns.RcodeBadVers, true
	}
	switch q.kind {
	case dns.TypeNone, dns.TypeOPT, dns.TypeTKEY, dns.TypeTSIG, dns.TypeNXNAME:
		return dns.RcodeFormatError, true // never the type of a question
	case dns.TypeMAILA, dns.TypeMAILB:
		return dns.RcodeNotImplemented, true // obsolete since RFC 1035
	case dns.TypeAXFR, dns.TypeIXFR:
		return dns.RcodeRefused, true
	}
	switch {
	case q.class != dns.ClassINET && q.class != dns.ClassANY:
		return dns.RcodeRefused, true
	case table == nil:
		return dns.RcodeServerFailure, true
	case !inZone(q.key(), table.zone):
		return dns.RcodeRefused, true
	}
	return 0, false
}

// lookup answers from the table, as far as this watcher may still speak for the cluster.
func (s *Server) lookup(m *message, q *query, table *Answers) (rcode int, aa bool, ede *extended) {
	isolated, since := s.isolation()
	policy := table.isolation
	switch {
	case isolated && policy.ServfailAfter > 0 && since > policy.ServfailAfter:
		return dns.RcodeServerFailure, false, edeIsolated
	case table.stale, isolated && since >= policy.After:
		ede = edeStale
		m.maxTTL = uint32(min(max(policy.TTL/time.Second, 0), maxTTL))
	}
	m.end -= q.optSize(ede)
	m.zone = headerLen + q.nameLen - len(table.zone)
	rcode, aa = table.resolve(m, q.key(), q.kind)
	return rcode, aa, ede
}

// limit is how many bytes the response may have.
func limit(q *query, via transport) int {
	switch {
	case via == tcp:
		return tcpSize
	case q.edns:
		return max(plainUDP, min(q.size, ednsSize))
	}
	return plainUDP
}

func (q *query) optSize(ede *extended) int {
	switch {
	case !q.edns:
		return 0
	case ede == nil:
		return optLen
	}
	return optLen + 6 + len(ede.text)
}

// opt appends our OPT record (RFC 6891, section 6.1.2); none if the query had none.
func (q *query) opt(b []byte, rcode int, ede *extended) []byte {
	if !q.edns {
		return nil
	}
	ttl := uint32(rcode>>4) << 24
	if q.do {
		ttl |= flagDO
	}
	b = append(b, 0)
	b = binary.BigEndian.AppendUint16(b, dns.TypeOPT)
	b = binary.BigEndian.AppendUint16(b, ednsSize)
	b = binary.BigEndian.AppendUint32(b, ttl)
	if ede == nil {
		return binary.BigEndian.AppendUint16(b, 0)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(6+len(ede.text)))
	b = binary.BigEndian.AppendUint16(b, dns.EDNS0EDE)
	b = binary.BigEndian.AppendUint16(b, uint16(2+len(ede.text)))
	b = binary.BigEndian.AppendUint16(b, ede.code)
	return append(b, ede.text...)
}
