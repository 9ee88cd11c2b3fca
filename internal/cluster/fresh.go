package cluster

import (
	"context"
	"slices"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

const (
	// reportsPerCommand keeps a command well below failover.MaxCommand.
	reportsPerCommand = 256
	// maxUnproven bounds the reports of one watcher that are on their way into the log.
	maxUnproven = 8
)

// hearing is what the leader has heard of one watcher in its term.
type hearing struct {
	at       time.Time // of the last heartbeat
	counted  time.Time // of the last one whose reports were all proposed
	overdue  time.Duration
	applied  uint64
	waiting  *beat                 // heard before the term was opened
	proposed map[reportKey]ordinal // what is in the log or on its way there
	unproven int
}

// ordinal is a watcher's number for a report.
type ordinal struct{ boot, seq uint64 }

// interval is the time between two heartbeats of a watcher.
func (t Timing) interval() time.Duration { return t.Heartbeat / 2 }

// freshFor is how long a heartbeat counts: four intervals, 2 s on a LAN. A frozen watcher's verdicts count no longer.
func (t Timing) freshFor() time.Duration { return 2 * t.Heartbeat }

// overdueLimit is how belated a watcher's probes may be.
func (t Timing) overdueLimit() time.Duration { return 3 * t.Heartbeat }

// takeBeat hears a watcher. What it reports is proposed before it is counted: a list that names it must never stand in
// the log before its newest verdicts.
func (n *Node) takeBeat(ctx context.Context, name string, b beat) beatAnswer {
	t := n.term.Load()
	if t == nil || t.ctx.Err() != nil || n.State().Cluster != "" && n.State().Member(name) == nil {
		return beatAnswer{}
	}
	t.mu.Lock()
	h := t.heard[name]
	if h == nil {
		h = &hearing{proposed: map[reportKey]ordinal{}}
		t.heard[name] = h
	}
	h.at, h.overdue, h.applied = time.Now(), b.Overdue, b.Applied
	if b.Blind && t.n.State().Cluster != "" {
		// Heard, but not counted, nor from now on for what it said in its former life.
		h.counted = time.Time{}
		t.mu.Unlock()
		t.signal()
		t.noteQuorumContact()
		return beatAnswer{Leads: true, Term: t.number, Commit: n.raft.Load().CommitIndex()}
	}
	select {
	case <-t.opened:
		t.mu.Unlock()
		t.admit(name, b)
	default:
		h.waiting = &b
		t.mu.Unlock()
	}
	t.noteQuorumContact()
	return beatAnswer{Leads: true, Term: t.number, Commit: n.raft.Load().CommitIndex()}
}

// admitWaiting takes in the heartbeats that came before the term was opened.
func (t *term) admitWaiting() {
	t.mu.Lock()
	waiting := map[string]beat{}
	for name, h := range t.heard {
		if h.waiting != nil {
			waiting[name] = *h.waiting
			h.waiting = nil
		}
	}
	t.mu.Unlock()
	for name, b := range waiting {
		t.admit(name, b)
	}
}

// admit proposes a watcher's news and counts it.
func (t *term) admit(name string, b beat) {
	if !t.proposeNews(name, b) {
		return
	}
	now := time.Now()
	t.mu.Lock()
	t.heard[name].counted = now
	t.mu.Unlock()
	if t.listDiffers(now) {
		t.signal()
	}
}

func (t *term) signal() {
	select {
	case t.change <- struct{}{}:
	default:
	}
}

// proposeNews proposes what of b the log does not hold; false: not all of it could be.
func (t *term) proposeNews(name string, b beat) bool {
	news, ok := t.news(name, b)
	if !ok {
		return false
	}
	for len(news.Reports) > 0 || len(news.About) > 0 {
		part := failover.Reports{Reports: news.Reports, About: news.About}
		if len(part.Reports) > reportsPerCommand {
			part.Reports = part.Reports[:reportsPerCommand]
		}
		news = failover.Reports{Reports: news.Reports[len(part.Reports):]}
		t.count(name, +1)
		_, err := t.enqueue(failover.Command{By: "watcher:" + name, Reports: &part}, func(err error) {
			if err != nil {
				t.forget(name, part)
			}
			t.count(name, -1)
		})
		if err != nil {
			t.forget(name, part)
			t.forget(name, news) // what was to follow in later commands
			t.count(name, -1)
			return false
		}
	}
	return true
}

// news filters b by what the state shows and what is on its way, and notes the rest as proposed. A report that was
// committed and is still not shown was refused by a rule; it is not proposed again in this term.
func (t *term) news(name string, b beat) (failover.Reports, bool) {
	s := t.n.State()
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.heard[name]
	if h.unproven >= maxUnproven {
		return failover.Reports{}, false
	}
	var news failover.Reports
	for _, r := range b.Reports {
		r.Watcher = name
		key, number := keyOf(r), ordinal{r.Boot, r.Seq}
		if h.proposed[key] == number || shown(s, r) {
			continue
		}
		h.proposed[key] = number
		news.Reports = append(news.Reports, r)
	}
	if a := b.About; a != nil {
		number := ordinal{a.Boot, a.Seq}
		if h.proposed[reportKey{}] != number && !aboutShown(s, name, *a) {
			h.proposed[reportKey{}] = number
			news.About = map[string]failover.About{name: *a}
		}
	}
	return news, true
}

// count keeps the number of a watcher's proposals on their way.
func (t *term) count(name string, d int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.heard[name].unproven += d
}

// forget lets reports be proposed again that did not reach the log.
func (t *term) forget(name string, part failover.Reports) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.heard[name]
	for _, r := range part.Reports {
		delete(h.proposed, keyOf(r))
	}
	if len(part.About) > 0 {
		delete(h.proposed, reportKey{})
	}
	h.counted = time.Time{} // its newest verdicts are not in the log
}

// fresh lists, sorted, the voting watchers heard in time in this term whose probes are in time too.
func (t *term) fresh(now time.Time) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.freshLocked(now)
}

func (t *term) freshLocked(now time.Time) []string {
	names := []string{}
	for name, h := range t.heard {
		if now.Sub(h.counted) < t.n.o.Timing.freshFor() && h.overdue < t.n.o.Timing.overdueLimit() && t.n.votes(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (t *term) majorityFresh(now time.Time) bool {
	return len(t.fresh(now)) >= failover.Majority(t.n.voters())
}

// listDiffers reports whether the list of fresh watchers is another than the last command carried.
func (t *term) listDiffers(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.lastKnown || !slices.Equal(t.last, t.freshLocked(now))
}

// proposed notes the list that a command has taken to the log, unproposed that it may not have arrived.
func (t *term) proposed(fresh []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last, t.lastKnown = fresh, true
}

func (t *term) unproposed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lastKnown = false
}

// nextExpiry is when the first of the fresh watchers will have been silent for too long; zero: none is fresh.
func (t *term) nextExpiry(now time.Time) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	var next time.Time
	for _, h := range t.heard {
		if end := h.counted.Add(t.n.o.Timing.freshFor()); end.After(now) {
			next = earlier(next, end)
		}
	}
	return next
}

// successor is the voting watcher heard last, of those named if any are, if that was within two intervals.
func (t *term) successor(now time.Time, among ...string) (Peer, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var best string
	for name, h := range t.heard {
		if name == t.n.o.Name || !t.n.votes(name) || now.Sub(h.at) > 2*t.n.o.Timing.interval() || len(among) > 0 && !slices.Contains(among, name) {
			continue
		}
		if best == "" || h.applied > t.heard[best].applied || h.applied == t.heard[best].applied && h.at.After(t.heard[best].at) {
			best = name
		}
	}
	return t.n.member(best)
}

// heardLately reports whether a watcher is worth being sent to without waiting.
func (t *term) heardLately(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.heard[name]
	return h != nil && time.Since(h.at) < t.n.o.Timing.freshFor()
}

// noteQuorumContact notes when a majority, this watcher included, was last heard.
func (t *term) noteQuorumContact() {
	t.mu.Lock()
	var times []time.Time
	for name, h := range t.heard {
		if name != t.n.o.Name && t.n.votes(name) {
			times = append(times, h.at)
		}
	}
	t.mu.Unlock()
	others := failover.Majority(t.n.voters())
	if t.n.votes(t.n.o.Name) {
		others--
	}
	if others == 0 {
		t.n.noteContact()
		return
	}
	if len(times) < others {
		return
	}
	slices.SortFunc(times, func(a, b time.Time) int { return b.Compare(a) })
	t.n.noteContactAt(times[others-1])
}
