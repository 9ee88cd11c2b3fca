package switchover

import (
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// positionsKept bounds the samples of a writer's position. When they are full, every second one of the older half goes: old
// ones need not be close together, and a replica may be hours behind.
const positionsKept = 128

// positions is what one watcher remembers of where its group's writer had got to and when, so that a replica's lag can be told
// in time and bytes by the watcher's own clock. What databases tell of it themselves lies: a replica that streams in an idle
// minute looks 40 s behind, and one whose primary hangs looks well.
type positions struct {
	of       string // the writer
	id       string // its database; another one, or another timeline, begins anew
	timeline uint64
	samples  []positionSample // oldest first
}

// positionSample says that everything written before at lies below position. at is when the look began that told it.
type positionSample struct {
	at       time.Time
	position uint64
}

// note takes in a look at the writer.
func (p *positions) note(writer string, s sample) {
	o := s.db
	if o.Role != failover.RolePrimary || o.Position == nil {
		return
	}
	last := len(p.samples) - 1
	anew := p.of != writer || p.id != o.ID || p.timeline != o.Timeline || last >= 0 && *o.Position < p.samples[last].position
	if anew {
		*p = positions{of: writer, id: o.ID, timeline: o.Timeline}
	}
	p.samples = append(p.samples, positionSample{at: s.at, position: *o.Position})
	if len(p.samples) > positionsKept {
		p.thin()
	}
}

func (p *positions) thin() {
	kept := p.samples[:0]
	for i, s := range p.samples {
		if i >= positionsKept/2 || i%2 == 0 {
			kept = append(kept, s)
		}
	}
	p.samples = kept
}

// measure fills in the lag of a replica that tells its position alone, and up to when everything written is known to be
// received. A replica that has received the newest sample from before its own look has no lag that anybody could know of, as
// long as that sample is recent: a writer that is not seen may have written anything since, so its age is the lag.
func (p *positions) measure(s *sample, recent time.Duration) {
	o := &s.db
	if o.Role != failover.RoleReplica || o.Position == nil || o.LagBytes != nil || o.LagSeconds != nil ||
		p.id != "" && o.ID != "" && p.id != o.ID || p.timeline != 0 && o.Timeline != 0 && p.timeline != o.Timeline {
		return
	}
	newest := -1 // from before the look
	received := -1
	for i, w := range p.samples {
		if w.at.After(s.at) {
			break
		}
		newest = i
		if w.position <= *o.Position {
			received = i
		}
	}
	if newest < 0 {
		return
	}
	bytes := int64(0)
	if received < 0 { // behind all that is remembered, and nobody knows for how long
		bytes = int64(p.samples[newest].position - *o.Position)
		o.LagBytes = &bytes
		return
	}
	since := p.samples[received].at
	s.upTo = since
	switch fresh := s.at.Sub(p.samples[newest].at) <= recent; {
	case received < newest:
		bytes = int64(p.samples[newest].position - *o.Position)
	case fresh:
		since = s.at
	default:
		o.LagSeconds = secondsBetween(since, s.at)
		return
	}
	o.LagBytes, o.LagSeconds = &bytes, secondsBetween(since, s.at)
}
