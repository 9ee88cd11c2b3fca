package nameserver

import "encoding/binary"

// message is a response being written: first the answer section, then authority, then additional.
type message struct {
	buf    []byte
	start  int    // where the message begins in buf
	end    int    // where it must end, leaving room for the OPT record
	zone   int    // where the zone's name begins in the message: in the question
	maxTTL uint32 // seconds

	counts    [3]uint16 // records per section
	truncated bool
}

// The sections of message.counts.
const (
	answer = iota
	authority
	additional
)

const pointer = 0xc000 // the two top bits of a compression pointer (RFC 1035, section 4.1.4)

// add writes a whole record set or, if it does not fit, nothing: a part of a set is never sent (RFC 2181, section 9).
// owner are the labels above the zone's name; nil is the name in the question.
func (m *message) add(section int, owner []byte, set *recordSet) bool {
	mark := len(m.buf)
	for i := range set.records {
		r := &set.records[i]
		if owner == nil {
			m.buf = binary.BigEndian.AppendUint16(m.buf, pointer|headerLen)
		} else {
			m.buf = append(m.buf, owner...)
			m.buf = binary.BigEndian.AppendUint16(m.buf, pointer|uint16(m.zone))
		}
		m.buf = binary.BigEndian.AppendUint16(m.buf, set.kind)
		m.buf = binary.BigEndian.AppendUint16(m.buf, classIN)
		m.buf = binary.BigEndian.AppendUint32(m.buf, min(set.ttl, m.maxTTL))
		m.buf = binary.BigEndian.AppendUint16(m.buf, uint16(len(r.data)))
		data := len(m.buf)
		m.buf = append(m.buf, r.data...)
		for _, p := range r.pointers {
			binary.BigEndian.PutUint16(m.buf[data+p:], pointer|uint16(m.zone))
		}
		if len(m.buf) > m.end {
			m.buf = m.buf[:mark]
			return false
		}
	}
	m.counts[section] += uint16(len(set.records))
	return true
}

// require adds a set without which the answer would be wrong, so that the client must ask again over TCP if it does not
// fit (RFC 2181, section 9).
func (m *message) require(section int, owner []byte, set *recordSet) bool {
	if !m.add(section, owner, set) {
		m.truncated = true
		return false
	}
	return true
}

// glue adds the addresses of an NS set's servers as far as they fit. Those that a referral needs make the answer
// truncated if they do not fit (RFC 9471); the others are left out silently.
func (m *message) glue(set *recordSet) {
	for _, g := range set.glue {
		if !m.add(additional, g.owner, g.set) && g.required {
			m.truncated = true
			return
		}
	}
}

// begin writes the header, to be completed by finish, and the question.
func (m *message) begin(id uint16, question []byte) {
	m.start = len(m.buf)
	m.buf = binary.BigEndian.AppendUint16(m.buf, id)
	m.buf = append(m.buf, 0, 0, 0, min(byte(len(question)), 1), 0, 0, 0, 0, 0, 0)
	m.buf = append(m.buf, question...)
}

func (m *message) finish(flags uint16, opt []byte) []byte {
	if m.truncated {
		flags |= flagTC
	}
	if opt != nil {
		m.buf = append(m.buf, opt...)
		m.counts[additional]++
	}
	head := m.buf[m.start:]
	binary.BigEndian.PutUint16(head[2:], flags)
	for i, n := range m.counts {
		binary.BigEndian.PutUint16(head[6+2*i:], n)
	}
	return m.buf
}
