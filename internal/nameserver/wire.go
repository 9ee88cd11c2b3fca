package nameserver

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/miekg/dns"
)

// Names are handled as they are on the wire, in lower case: there is one spelling of each, comparing is comparing
// bytes, and a query's name is looked up without turning it into text. Lowering the length bytes as well does no harm,
// because they are at most 63 and 'A' is 65.

const (
	maxName  = 255       // bytes of a name on the wire (RFC 1035, section 2.3.4)
	maxRdata = 32 << 10  // bytes of one record set: leaves room for a CNAME chain in a TCP answer of 64 KiB
	rrHeader = 2 + 2 + 4 // type, class, TTL
)

var errName = errors.New("not an absolute domain name")

// wireName packs an absolute name in lower case.
func wireName(name string) ([]byte, error) {
	if !dns.IsFqdn(name) {
		return nil, errName
	}
	buf := make([]byte, maxName+1)
	n, err := dns.PackDomainName(name, buf, 0, nil, false)
	if err != nil || n > maxName {
		return nil, errName
	}
	lower(buf[:n])
	return buf[:n:n], nil
}

func lower(b []byte) {
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
}

// nameLength is how many bytes the uncompressed name at the start of b takes; 0 if it does not end within b.
func nameLength(b []byte) int {
	for i := 0; i < len(b) && b[i] < 64; i += int(b[i]) + 1 {
		if b[i] == 0 {
			return i + 1
		}
	}
	return 0
}

// inZone says whether a name is the zone's own or below it. Both are lower case and on the wire. A common ending is not
// enough: it could begin in the middle of a label.
func inZone(name, zone []byte) bool {
	cut := len(name) - len(zone)
	if cut < 0 || !bytes.Equal(name[cut:], zone) {
		return false
	}
	i := 0
	for i < cut {
		i += int(name[i]) + 1
	}
	return i == cut
}

// record is a record's data as it is sent. Names in it that end in the zone's name are cut there and followed by a
// compression pointer, which is filled in per answer: in each answer the zone's name is part of the question.
type record struct {
	data     []byte
	pointers []int // offsets in data of the two bytes to fill in
}

// recordSet is all records of one name and type, which are only ever sent together (RFC 2181, section 5).
type recordSet struct {
	kind    uint16
	ttl     uint32
	records []record
	size    int // bytes of data

	target []byte // CNAME: where it points, lower case; nil if outside the zone
	glue   []glue // NS: addresses of its name servers as far as they are in the zone
}

// glue is an address set sent along with the NS set that needs it.
type glue struct {
	owner    []byte // labels above the zone's name
	set      *recordSet
	required bool // the referral is useless without it (RFC 9471)
}

// names returns where in a record's data there are names that any receiver can decompress: those of the types in
// RFC 1035 only (RFC 3597, section 4). At most two follow one another.
func names(kind uint16) (skip, count int) {
	switch kind {
	case dns.TypeNS, dns.TypeCNAME, dns.TypePTR:
		return 0, 1
	case dns.TypeMX:
		return 2, 1
	case dns.TypeSOA:
		return 0, 2
	}
	return 0, 0
}

// encode packs a record's data. scratch is 64 KiB to work in.
func encode(rr dns.RR, zone, scratch []byte) (record, error) {
	n, err := dns.PackRR(rr, scratch, 0, nil, false)
	if err != nil {
		return record{}, fmt.Errorf("cannot pack record %q: %w", rr.String(), err)
	}
	rest := scratch[nameLength(scratch[:n]):n]
	rest = rest[rrHeader+2:]

	skip, count := names(rr.Header().Rrtype)
	r := record{data: append([]byte{}, rest[:skip]...)}
	rest = rest[skip:]
	for range count {
		name := rest[:nameLength(rest)]
		rest = rest[len(name):]
		r.appendName(name, zone)
	}
	r.data = append(r.data, rest...)
	return r, nil
}

// appendName appends a name, cut where the zone's name begins if it is in the zone.
func (r *record) appendName(name, zone []byte) {
	folded := bytes.Clone(name)
	lower(folded)
	if !inZone(folded, zone) {
		r.data = append(r.data, name...)
		return
	}
	r.data = append(r.data, name[:len(name)-len(zone)]...)
	r.pointers = append(r.pointers, len(r.data))
	r.data = append(r.data, 0, 0)
}
