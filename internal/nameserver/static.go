package nameserver

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/miekg/dns"
)

// Limits of a zone's static records. They travel in the replicated policy, so they are kept small.
const (
	maxStaticText    = 256 << 10 // bytes of text
	maxStaticRecords = 10000
	maxStaticWire    = 1 << 20 // bytes of records: names in them are spelled out, which short text is not
	maxStaticFaults  = 10      // reported at once
)

// ParseStatic reads the other records of a zone from a master file (RFC 1035, section 5). Names are relative to zone;
// ttl, in seconds, is for records without one. What the watchers make themselves (SOA, NS of the zone) is refused, so
// is what they could not answer rightly (DNSSEC, DNAME), what is outside the zone, $INCLUDE, which would make the
// answer depend on one machine's files, and $GENERATE, whose records the library gives a TTL of its own. Errors name the line; several are joined.
func ParseStatic(zone string, ttl uint32, text string) ([]dns.RR, error) {
	origin, err := wireName(zone)
	if err != nil {
		return nil, fmt.Errorf("cannot read records of zone %q: %w", zone, err)
	}
	if len(text) > maxStaticText {
		return nil, fmt.Errorf("cannot read records of zone %s: %d bytes of text are more than %d", zone, len(text), maxStaticText)
	}
	placed, faults := parse(zone, origin, ttl, text)
	if len(faults) == 0 {
		faults = structure(placed, len(origin))
	}
	if len(faults) > 0 {
		if more := len(faults) - maxStaticFaults; more > 0 {
			faults = append(faults[:maxStaticFaults:maxStaticFaults], fmt.Errorf("and %d more", more))
		}
		return nil, fmt.Errorf("cannot read records of zone %s: %w", zone, errors.Join(faults...))
	}
	records := make([]dns.RR, len(placed))
	for i, p := range placed {
		records[i] = p.rr
	}
	return records, nil
}

// parse reads the text up to the first error of syntax or limit; errors about single records are gathered.
func parse(zone string, origin []byte, ttl uint32, text string) (placed []placedRR, faults []error) {
	if line := generates(text); line > 0 {
		return nil, []error{fmt.Errorf("line %d: $GENERATE is not served, since its records would not get the zone's ttl; write each record out", line)}
	}
	lines := &lineCounter{text: text}
	parser := dns.NewZoneParser(lines, zone, "")
	parser.SetDefaultTTL(ttl)
	wire := 0
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		p, err := place(rr, origin, lines.line())
		if err == nil && !sendable(rr) {
			err = p.fault("its data is missing or cannot be sent")
		}
		if err != nil {
			faults = append(faults, err)
			if len(faults) > maxStaticFaults {
				return nil, faults
			}
			continue
		}
		placed = append(placed, p)
		wire += dns.Len(rr)
		if len(placed) > maxStaticRecords || wire > maxStaticWire {
			return nil, append(faults, p.fault("more than %d records or %d bytes of them", maxStaticRecords, maxStaticWire))
		}
	}
	if err := parser.Err(); err != nil {
		faults = append(faults, errors.New(strings.TrimPrefix(err.Error(), "dns: ")))
	}
	return placed, faults
}

// generates is the line of the first $GENERATE, 0 if there is none. A directive begins its line (RFC 1035, section 5.1).
func generates(text string) int {
	line := 0
	for content := range strings.Lines(text) {
		line++
		word, _, _ := strings.Cut(strings.ReplaceAll(strings.TrimRight(content, "\r\n"), "\t", " "), " ")
		if strings.EqualFold(word, "$GENERATE") {
			return line
		}
	}
	return 0
}

// sendable says whether a record survives being packed and read again. The parser lets some through that do not, such as
// a CNAME without a target.
func sendable(rr dns.RR) bool {
	wire := make([]byte, dns.Len(rr)+1)
	n, err := dns.PackRR(rr, wire, 0, nil, false)
	if err != nil {
		return false
	}
	back, _, err := dns.UnpackRR(wire[:n], 0)
	return err == nil && back.Header().Rdlength > 0
}

// lineCounter hands text to the parser byte by byte, so that it is known how far the parser has read when it returns a
// record: the parser keeps line numbers to itself.
type lineCounter struct {
	text     string
	pos      int
	newlines int
}

// Read makes lineCounter an io.Reader; the parser prefers ReadByte.
func (l *lineCounter) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	c, err := l.ReadByte()
	if err != nil {
		return 0, err
	}
	b[0] = c
	return 1, nil
}

// ReadByte implements io.ByteReader.
func (l *lineCounter) ReadByte() (byte, error) {
	if l.pos == len(l.text) {
		return 0, io.EOF
	}
	c := l.text[l.pos]
	l.pos++
	if c == '\n' {
		l.newlines++
	}
	return c, nil
}

// line is the line of the byte read last, from 1.
func (l *lineCounter) line() int {
	if l.pos > 0 && l.text[l.pos-1] == '\n' {
		return l.newlines
	}
	return l.newlines + 1
}

// placedRR is a static record with its place in the zone and in the text.
type placedRR struct {
	rr   dns.RR
	key  []byte // owner on the wire, lower case
	line int    // where it ends in the text; 0 if not known
}

func (p placedRR) fault(format string, args ...any) error {
	h := p.rr.Header()
	what := fmt.Sprintf("%s %s: %s", h.Name, dns.Type(h.Rrtype), fmt.Sprintf(format, args...))
	if p.line > 0 {
		what = fmt.Sprintf("line %d: %s", p.line, what)
	}
	return errors.New(what)
}

// place checks what can be said of one record alone.
func place(rr dns.RR, origin []byte, line int) (placedRR, error) {
	h := rr.Header()
	p := placedRR{rr: rr, line: line}
	key, err := wireName(h.Name)
	if err != nil {
		return p, p.fault("%v", err)
	}
	p.key = key
	atApex := len(key) == len(origin)
	switch kind := h.Rrtype; {
	case !inZone(key, origin):
		return p, p.fault("is outside the zone")
	case h.Class != dns.ClassINET:
		return p, p.fault("class %s is not served, only IN", dns.Class(h.Class))
	case h.Ttl > maxTTL:
		return p, p.fault("ttl %d s is above %d s (RFC 2181, section 8)", h.Ttl, maxTTL)
	case kind == dns.TypeSOA:
		return p, p.fault("the watchers make the SOA record themselves; leave it out")
	case kind == dns.TypeNS && atApex:
		return p, p.fault("the watchers are the zone's name servers; leave it out")
	case kind == dns.TypeNS && key[0] == 1 && key[1] == '*':
		return p, p.fault("a wildcard cannot delegate (RFC 4592, section 4.2)")
	case kind == dns.TypeCNAME && atApex:
		return p, p.fault("the zone's own name cannot be a CNAME (RFC 1034, section 3.6.2)")
	case unserved(kind) != "":
		return p, p.fault("%s", unserved(kind))
	}
	return p, nil
}

// unserved says why records of a type are not served; empty if they are.
func unserved(kind uint16) string {
	switch kind {
	case dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3, dns.TypeNSEC3PARAM, dns.TypeDNSKEY, dns.TypeDS, dns.TypeCDS,
		dns.TypeCDNSKEY, dns.TypeDLV, dns.TypeTA, dns.TypeKEY, dns.TypeSIG, dns.TypeNXT, dns.TypeZONEMD:
		return "the zone is not signed; DNSSEC records are not served"
	case dns.TypeDNAME:
		return "DNAME is not served; write a CNAME for each name"
	case dns.TypeNone, dns.TypeNULL, dns.TypeOPT:
		return "cannot be in a zone"
	}
	// RFC 6895, section 3.1: 128 to 255 are question and meta types.
	if kind >= 128 && kind <= 255 {
		return "cannot be in a zone"
	}
	return ""
}

// structure checks records against one another: a CNAME is alone at its name, a set has one TTL, and at and below a
// delegation there are only its name servers and their addresses.
func structure(placed []placedRR, apex int) (faults []error) {
	type setKey struct {
		name string
		kind uint16
	}
	cuts := delegations(placed)
	ttls := map[setKey]uint32{}
	first := map[string]uint16{} // type of the first record at a name
	for _, p := range placed {
		name, h := string(p.key), p.rr.Header()
		kind := h.Rrtype
		if other, ok := first[name]; !ok {
			first[name] = kind
		} else if kind == dns.TypeCNAME || other == dns.TypeCNAME {
			faults = append(faults, p.fault("a CNAME cannot stand beside other records (RFC 1034, section 3.6.2)"))
		}
		set := setKey{name, kind}
		if ttl, ok := ttls[set]; !ok {
			ttls[set] = h.Ttl
		} else if ttl != h.Ttl {
			faults = append(faults, p.fault("ttl %d s differs from the %d s of the record before it (RFC 2181, section 5.2)", h.Ttl, ttl))
		}
		cut, below := delegatedAt(p.key, apex, cuts)
		if cut && kind != dns.TypeA && kind != dns.TypeAAAA && (kind != dns.TypeNS || below) {
			faults = append(faults, p.fault("is at or below a delegation, where only its name servers' addresses are served"))
		}
	}
	return faults
}

// delegations is the set of names that have NS records.
func delegations(placed []placedRR) map[string]bool {
	cuts := map[string]bool{}
	for _, p := range placed {
		if p.rr.Header().Rrtype == dns.TypeNS {
			cuts[string(p.key)] = true
		}
	}
	return cuts
}

// delegatedAt says whether a name is at or below a delegation, and whether it is below one. apex is the length of the
// zone's name.
func delegatedAt(key []byte, apex int, cuts map[string]bool) (cut, below bool) {
	for i := 0; len(key)-i > apex; i += int(key[i]) + 1 {
		if cuts[string(key[i:])] {
			cut = true
			below = below || i > 0
		}
	}
	return cut, below
}
