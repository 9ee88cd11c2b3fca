package nameserver

import (
	"encoding/binary"

	"github.com/miekg/dns"
)

const (
	headerLen = 12
	optLen    = 11 // an OPT record without options: root name, type, size, TTL, length

	flagQR     = 1 << 15
	flagAA     = 1 << 10
	flagTC     = 1 << 9
	flagRD     = 1 << 8
	opcodeMask = 0xf << 11

	flagDO = 1 << 15 // in the OPT record's TTL (RFC 3225)
)

// query is what matters of a query. It is read by hand rather than unpacked by the library, so that hostile packets
// cost no allocation and the question comes back byte for byte, in the letter case it was asked in.
type query struct {
	id       uint16
	flags    uint16
	question []byte // as received; empty if it could not be read
	kind     uint16
	class    uint16
	name     [maxName]byte // asked for, lower case
	nameLen  int

	edns    bool
	size    int // bytes of UDP payload the client takes
	version uint8
	do      bool
}

func (q *query) key() []byte { return q.name[:q.nameLen] }

func (q *query) opcode() int { return int(q.flags & opcodeMask >> 11) }

// header reads the header. It says no to what must never be answered: a packet too short to have one, and a response,
// because two servers that answer responses never stop.
func (q *query) header(packet []byte) (reason dropReason, ok bool) {
	if len(packet) < headerLen {
		return dropShort, false
	}
	q.id = binary.BigEndian.Uint16(packet)
	q.flags = binary.BigEndian.Uint16(packet[2:])
	if q.flags&flagQR != 0 {
		return dropResponse, false
	}
	return "", true
}

// parse reads the rest and says whether it is well formed: one question (RFC 9619), no answers, nothing but an OPT
// record of interest behind it, and nothing after the last record. Other opcodes may have records in any section; they
// are only walked over to find their OPT record.
func (q *query) parse(packet []byte) bool {
	count := func(i int) int { return int(binary.BigEndian.Uint16(packet[4+2*i:])) }
	asked := q.opcode() == dns.OpcodeQuery
	if count(0) > 1 || asked && (count(0) == 0 || count(1) > 0) {
		return false
	}
	off := headerLen
	if count(0) == 1 {
		if off = q.readQuestion(packet); off == 0 {
			return false
		}
	}
	if asked && count(2) > 0 && q.kind != dns.TypeIXFR { // IXFR has a SOA record there (RFC 1995, section 3)
		return false
	}
	for range count(1) + count(2) {
		if off = q.skipRecord(packet, off, false); off == 0 {
			return false
		}
	}
	for range count(3) {
		if off = q.skipRecord(packet, off, true); off == 0 {
			return false
		}
	}
	return off == len(packet)
}

// readQuestion returns where the question ends; 0 if it is broken. It is the first name of the packet, so there is
// nothing that a compression pointer could point at.
func (q *query) readQuestion(packet []byte) int {
	n := nameLength(packet[headerLen:])
	end := headerLen + n + 4
	if n == 0 || n > maxName || end > len(packet) {
		return 0
	}
	q.nameLen = copy(q.name[:], packet[headerLen:headerLen+n])
	lower(q.key())
	q.kind = binary.BigEndian.Uint16(packet[end-4:])
	q.class = binary.BigEndian.Uint16(packet[end-2:])
	q.question = packet[headerLen:end]
	return end
}

// skipRecord returns where the record at off ends; 0 if it is broken or an OPT record that must not be there.
func (q *query) skipRecord(packet []byte, off int, additional bool) int {
	start := off
	if off = skipName(packet, off); off == 0 || off+10 > len(packet) {
		return 0
	}
	kind := binary.BigEndian.Uint16(packet[off:])
	size := binary.BigEndian.Uint16(packet[off+2:])
	ttl := binary.BigEndian.Uint32(packet[off+4:])
	end := off + 10 + int(binary.BigEndian.Uint16(packet[off+8:]))
	if end > len(packet) {
		return 0
	}
	if kind != dns.TypeOPT {
		return end
	}
	// RFC 6891, section 6.1.1: at most one, in the additional section, at the root.
	if !additional || q.edns || packet[start] != 0 || !wellFormed(packet[off+10:end]) {
		return 0
	}
	q.edns, q.size, q.version, q.do = true, int(size), uint8(ttl>>16), ttl&flagDO != 0
	return end
}

// skipName returns where a name, compressed or not, ends; 0 if it is broken. A pointer ends a name and must point back.
func skipName(packet []byte, off int) int {
	for start := off; off < len(packet) && off-start < maxName; {
		switch c := packet[off]; {
		case c == 0:
			return off + 1
		case c < 64:
			off += int(c) + 1
		case c >= 0xc0 && off+1 < len(packet):
			to := int(binary.BigEndian.Uint16(packet[off:]) & 0x3fff)
			if to < headerLen || to >= start {
				return 0
			}
			return off + 2
		default:
			return 0
		}
	}
	return 0
}

// wellFormed says whether EDNS options fill their record exactly. What they say is ignored.
func wellFormed(options []byte) bool {
	for len(options) >= 4 {
		n := 4 + int(binary.BigEndian.Uint16(options[2:]))
		if n > len(options) {
			return false
		}
		options = options[n:]
	}
	return len(options) == 0
}
