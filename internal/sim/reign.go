package sim

import (
	"context"
	"slices"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

const (
	quorumPatience = 10 * time.Second // a leader that hears fewer than a majority for longer gives way
	tickDebounce   = 5 * time.Millisecond
	memberPause    = 200 * time.Millisecond // between two steps of a change of the members
	dueRetry       = time.Second
	lateFor        = 3 * time.Second // how long a command may stand in Raft's queue
)

// reign is one term that a watcher leads in: what it proposes by itself, after internal/cluster.
type reign struct {
	n        *watcher
	term     uint64
	opened   bool // reports are taken
	ready    bool // the first Tick is applied
	stopped  bool
	barrier  int // place of the entry with which it begins
	openBy   time.Duration
	match    map[string]int
	acked    map[string]time.Duration
	inflight map[string]time.Duration
	pending  map[int]func(failover.Result, error)
	heard    map[string]*hearing
	last     []string // watchers named by the last command
	known    bool     // last is in the log or on its way
	parted   time.Duration
	alarms   map[string]alarm
	rung     *failover.State // whose timers alarms has
	next     time.Duration   // when the first of them runs out
	quorum   time.Duration   // when a majority was last fresh
	cancel   context.CancelFunc
	pause    time.Duration // until when no further step is made
	settled  int           // applied, when a change of the members was last brought on
	moved    bool          // leadership was offered to somebody
}

type hearing struct {
	at       time.Duration
	counted  time.Duration // of the last beat whose reports are all proposed; negative: none
	waiting  *beat
	overdue  bool
	boot     uint64            // whose reports proposed numbers
	proposed map[string]uint64 // by app: newest report on its way
}

type alarm struct {
	after time.Duration
	at    time.Duration
}

func newReign(n *watcher) *reign {
	now := n.w.now()
	r := &reign{n: n, term: n.term, match: map[string]int{}, acked: map[string]time.Duration{}, inflight: map[string]time.Duration{},
		pending: map[int]func(failover.Result, error){}, heard: map[string]*hearing{}, alarms: map[string]alarm{}, quorum: now}
	for _, p := range n.w.watchers {
		r.acked[p.name] = now
		r.inflight[p.name] = -time.Hour
	}
	return r
}

// begin commits Raft's own first entry; what comes after waits for it.
func (r *reign) begin() {
	r.barrier = len(r.n.log)
	r.append(&record{noop: true}, nil)
	if x := r.n.stamped; x != nil && r.n.w.now()-x.at < lateFor {
		// In Raft's queue when the last term ended, and taken from it in this one.
		r.append(&record{entry: failover.Entry{Command: x.entry.Command}}, nil)
	}
}

func (r *reign) append(x *record, done func(failover.Result, error)) {
	x.at = r.n.w.now()
	x.entry.Index, x.entry.Term = uint64(len(r.n.log)+1), r.term
	r.n.log = append(r.n.log, x)
	if done != nil {
		r.pending[len(r.n.log)-1] = done
	}
	r.n.later(r.n.slow+time.Millisecond, func() { // its own disk
		if !r.stopped {
			r.match[r.n.name] = len(r.n.log)
			r.count()
		}
	})
	r.replicate(false)
}

// replicate sends the log to whoever is not being sent to just now.
func (r *reign) replicate(again bool) {
	n := r.n
	for _, p := range n.w.watchers {
		if p == n || !again && n.w.now()-r.inflight[p.name] < heartbeat {
			continue
		}
		if r.upToDate(p) {
			p.heard, r.acked[p.name] = n.w.now(), n.w.now() // a mere heartbeat, and its answer
			continue
		}
		r.inflight[p.name] = n.w.now()
		m := appendMessage{term: r.term, leader: n.name, log: n.log[:len(n.log):len(n.log)], commit: n.commit}
		n.send(p, func() { p.receive(m) })
	}
}

// upToDate reports whether a watcher that is reached has nothing to learn.
func (r *reign) upToDate(p *watcher) bool {
	n := r.n
	return p.life != nil && !p.paused && n.slow == 0 && p.slow == 0 && n.w.bothWays(n.name, p.name) && p.term == r.term && p.leader == n.name &&
		r.match[p.name] == len(n.log) && p.applied == n.applied
}

func (r *reign) acknowledge(name string, stored int) {
	r.acked[name] = r.n.w.now()
	r.match[name] = max(r.match[name], stored)
	r.inflight[name] = -time.Hour
	r.count()
	if !r.stopped && r.match[name] < len(r.n.log) {
		r.replicate(false)
	}
}

// count commits what a majority has, from this term on.
func (r *reign) count() {
	voters := r.n.w.voters()
	places := make([]int, 0, len(voters))
	for _, v := range voters {
		places = append(places, r.match[v])
	}
	slices.Sort(places)
	commit := places[len(places)-failover.Majority(len(places))]
	if commit <= r.n.commit || r.n.log[commit-1].entry.Term != r.term {
		return
	}
	r.n.advance(commit)
	if !r.stopped {
		r.replicate(true) // the others learn of it at once
	}
}

// committed is told of each entry that this watcher applies.
func (r *reign) committed(place int, result failover.Result) {
	if place == r.barrier {
		r.open()
	}
	if done := r.pending[place]; done != nil {
		delete(r.pending, place)
		if result.Code == failover.CodeStale && result.Rule == "term" {
			done(failover.Result{}, errNoLeader)
		} else {
			done(result, nil)
		}
	}
	if !r.stopped && r.opened {
		r.work()
	}
}

// enqueue fills a command in and puts it into the log.
func (r *reign) enqueue(c failover.Command, done func(failover.Result, error)) {
	if r.stopped {
		if done != nil {
			done(failover.Result{}, errNoLeader)
		}
		return
	}
	c.Term, c.Time, c.Fresh = r.term, r.n.clock(), r.fresh()
	r.last, r.known = c.Fresh, true
	r.n.stamped = &record{entry: failover.Entry{Command: c}}
	r.append(r.n.stamped, done)
}

// offer takes a command from anybody once the term is ready.
func (r *reign) offer(c failover.Command, done func(failover.Result, error)) {
	if r == nil || r.stopped || !r.ready {
		done(failover.Result{}, errNoLeader)
		return
	}
	r.enqueue(c, done)
}

// open is called when the state is current: the cluster's first entry, then the first Tick, then the runner.
func (r *reign) open() {
	if r.stopped {
		return
	}
	if leads := r.n.leads; len(leads) > 0 && !isClosed(leads[len(leads)-1]) {
		r.n.later(50*time.Millisecond, r.open) // one term after the other
		return
	}
	if r.n.state.Cluster == "" {
		r.enqueue(r.n.w.initial(), func(_ failover.Result, err error) {
			if err == nil {
				r.open()
			}
		})
		return
	}
	r.opened = true
	r.openBy = r.n.w.now() + heartbeat
	for _, name := range sortedKeys(r.heard) {
		if h := r.heard[name]; h.waiting != nil {
			r.admit(name, *h.waiting)
		}
	}
	r.awaitMajority()
}

func (r *reign) awaitMajority() {
	if r.stopped {
		return
	}
	if !r.majorityFresh() && r.n.w.now() < r.openBy {
		r.n.later(20*time.Millisecond, r.awaitMajority)
		return
	}
	r.enqueue(failover.Command{Tick: &failover.Tick{}}, func(_ failover.Result, err error) {
		if err == nil && !r.stopped {
			r.ready = true
			r.lead()
		}
	})
}

// lead lets the runner work until the term is over.
func (r *reign) lead() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	r.cancel = cancel
	r.n.leads = append(r.n.leads, done)
	l := r.n.life
	r.n.w.meet()
	l.atRest = atRest(r.n.state)
	r.n.w.leads = append(r.n.w.leads, &lead{life: l, reign: r, done: done})
	r.n.w.tell("%s leads: its hands may move", r.n.name)
	go func() {
		defer close(done)
		l.runner.Lead(ctx, seat{life: l, reign: r})
	}()
}

// stop ends the term: what is not committed has an unknown end.
func (r *reign) stop() {
	if r.stopped {
		return
	}
	r.stopped = true
	r.n.reign = nil
	if r.n.leader == r.n.name {
		r.n.leader = ""
	}
	if r.n.life != nil {
		r.n.w.tell("%s leads no more", r.n.name)
	}
	if r.cancel != nil {
		r.n.w.meet()
		r.cancel()
		r.n.w.wake()
	}
	for _, place := range sortedKeys(r.pending) {
		r.pending[place](failover.Result{}, errUnknown)
	}
	r.pending = nil
}

// tick is what comes round: heartbeats, the lease, and the duties.
func (r *reign) tick() {
	now := r.n.w.now()
	voters := r.n.w.voters()
	heard := 0
	for _, v := range voters {
		if v == r.n.name || now-r.acked[v] < lease {
			heard++
		}
	}
	if heard < failover.Majority(len(voters)) {
		r.stop()
		return
	}
	r.replicate(true)
	if !r.opened {
		return
	}
	r.work()
	if r.majorityFresh() {
		r.quorum = now
	}
	if now-r.quorum > quorumPatience {
		r.giveWay("it hears fewer than a majority of the watchers")
	}
}

// work does what is due: the list of watchers heard, and timers.
func (r *reign) work() {
	if r.stopped || !r.ready {
		return
	}
	if r.known && slices.Equal(r.last, r.fresh()) {
		r.parted = 0
	} else if r.parted == 0 {
		r.parted = r.n.w.now()
		r.n.later(tickDebounce, r.sayWhoIsHeard)
	}
	r.ring()
	r.settleMembers()
}

// settleMembers brings Raft's members after the state's, which takes no time here, and says so.
func (r *reign) settleMembers() {
	c := r.n.state.Change
	if c == nil || r.settled >= r.n.applied || r.n.w.now() < r.pause {
		return
	}
	r.settled, r.pause = r.n.applied, r.n.w.now()+memberPause
	p := r.n.w.watcher(c.Name)
	switch {
	case c.Kind != failover.ChangeAdd:
		if c.Kind == failover.ChangeRemove {
			delete(r.heard, c.Name) // another one may take its name
		}
		r.enqueue(failover.Command{SettleMembers: &failover.Settle{Change: c.Index}}, nil)
	case p == nil || p.life == nil || r.match[p.name] < r.n.applied-4:
		r.settled = 0
	case r.n.state.Member(p.name).Node == "":
		r.enqueue(failover.Command{JoinMember: &failover.JoinMember{Name: p.name, Node: p.node()}}, nil)
	case r.n.state.Member(p.name).Node != p.node():
		r.settled = 0 // another directory has its name
	default:
		r.enqueue(failover.Command{AdmitMember: &failover.MemberOrder{Name: p.name}}, nil)
	}
}

func (r *reign) sayWhoIsHeard() {
	if r.stopped || r.parted == 0 {
		return
	}
	r.parted = 0
	if !r.known || !slices.Equal(r.last, r.fresh()) {
		r.enqueue(failover.Command{Tick: &failover.Tick{}}, nil)
	}
}

// ring proposes what has run out, counted from when this leader first saw it.
func (r *reign) ring() {
	now := r.n.w.now()
	if r.rung == r.n.state && now < r.next {
		return
	}
	r.rung, r.next = r.n.state, now+time.Hour
	old := r.alarms
	r.alarms = map[string]alarm{}
	for _, timer := range r.n.state.Timers() {
		a, armed := old[timer.Key]
		if !armed || a.after != timer.After {
			a = alarm{after: timer.After, at: now + timer.After}
			r.n.later(timer.After, r.work)
		}
		if a.at <= now {
			r.enqueue(failover.Command{Due: &failover.Due{Key: timer.Key}}, nil)
			a.at = now + dueRetry
		}
		r.alarms[timer.Key] = a
		r.next = min(r.next, a.at)
	}
}

// giveWay hands leadership to another watcher, once per term, if one was heard just now.
func (r *reign) giveWay(reason string, to ...string) {
	if r.stopped || r.moved {
		return
	}
	for _, p := range r.n.w.watchers {
		h := r.heard[p.name]
		if p == r.n || h == nil || r.n.w.now()-h.at > heartbeat || len(to) > 0 && !slices.Contains(to, p.name) {
			continue
		}
		r.moved = true
		r.n.w.tell("%s gives way to %s: %s", r.n.name, p.name, reason)
		r.n.send(p, func() { p.campaign(true) })
		return
	}
}

// fresh lists the watchers whose verdicts count: heard in time in this term.
func (r *reign) fresh() []string {
	names := []string{}
	for name, h := range r.heard {
		m := r.n.state.Member(name)
		if h.counted >= 0 && !h.overdue && r.n.w.now()-h.counted < freshFor && m != nil && m.Voter() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func (r *reign) majorityFresh() bool { return len(r.fresh()) >= failover.Majority(len(r.n.w.voters())) }

// take hears a watcher. What it reports is proposed before it is counted.
func (r *reign) take(name string, b beat) {
	h := r.heard[name]
	if h == nil {
		h = &hearing{counted: -1, proposed: map[string]uint64{}}
		r.heard[name] = h
	}
	h.at, h.overdue = r.n.w.now(), b.overdue
	if !r.opened {
		h.waiting = &b
		return
	}
	r.admit(name, b)
}

func (r *reign) admit(name string, b beat) {
	h := r.heard[name]
	h.waiting = nil
	if b.boot < h.boot {
		return
	}
	if b.boot != h.boot {
		h.boot, h.proposed = b.boot, map[string]uint64{}
	}
	news := failover.Reports{}
	for _, report := range b.reports {
		// As the real one does: what is neither on its way nor shown yet. An old report that was late may follow a newer one.
		if h.proposed[report.App] != report.Seq && !r.n.shows(report) {
			h.proposed[report.App] = report.Seq
			news.Reports = append(news.Reports, report)
		}
	}
	if a := b.about; a != nil && h.proposed[""] != a.Seq {
		h.proposed[""] = a.Seq
		news.About = map[string]failover.About{name: *a}
	}
	if len(news.Reports) > 0 || len(news.About) > 0 {
		r.enqueue(failover.Command{By: "watcher:" + name, Reports: &news}, nil)
	}
	h.counted = r.n.w.now()
	r.work()
}
