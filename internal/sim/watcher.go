package sim

import (
	"fmt"
	"slices"
	"testing/synctest"
	"time"

	"github.com/watchover-ha/watchover/internal/switchover"
	"github.com/watchover-ha/watchover/pkg/failover"
)

const (
	heartbeat  = time.Second             // of Raft, on a LAN
	tickEvery  = heartbeat / 2           // of a watcher's own heartbeat, which carries its news
	freshFor   = 2 * heartbeat           // how long one counts
	lease      = 1200 * time.Millisecond // a leader that hears no majority for longer steps down
	netDelay   = 8 * time.Millisecond    // at most, between two watchers
	suspicious = 3500 * time.Millisecond // a pause from which a watcher distrusts itself
)

// watcher is a machine of the cluster: what its disk keeps, and the process that runs on it.
type watcher struct {
	w    *world
	name string

	// On the disk.
	fresh int // which data directory it is
	term  uint64
	log   []*record
	boot  uint64

	// Of the process.
	life       *life // nil: none runs
	paused     bool
	since      time.Duration // paused since
	inbox      []func()      // what happened to it meanwhile
	leader     string
	heard      time.Duration // of a leader
	patient    time.Duration // how long it does without
	commit     int           // known to be committed
	applied    int
	current    bool // it has applied what its first leader had committed
	state      *failover.State
	reign      *reign
	stamped    *record         // what it proposed last as a leader
	leads      []chan struct{} // closed when the runner of a term has returned; the last one is the newest one's
	eyes       []*eye
	outage     switchover.Outage // of the group's writer
	reports    map[string]failover.Report
	about      failover.About
	number     uint64        // of the last report
	skew       time.Duration // of its wall clock
	overdue    int           // faults that keep its probes from being made
	slow       time.Duration // what its disk and its network take more than others'
	beating    bool          // a beat with news is planned
	serial     uint32        // of the last answer; kept on the disk
	generation uint64        // likewise
}

func newWatcher(w *world, name string) *watcher { return &watcher{w: w, name: name} }

// start begins a process.
func (n *watcher) start() {
	n.boot++
	n.commit, n.applied, n.state = n.w.log.restore(n)
	n.life = newLife(n, n.boot, n.state)
	n.current = false
	n.paused, n.inbox, n.leader, n.heard = false, nil, "", n.w.now()
	n.outage, n.reports, n.number = switchover.Outage{}, map[string]failover.Report{}, 1
	n.about = failover.About{Boot: n.boot, Seq: 1, Life: fmt.Sprintf("life%d", n.boot), Node: n.node()}
	n.bePatient()
	n.eyes, n.stamped = nil, nil
	n.aim()
}

// node is the id of its data directory. Whoever is added under a name that was removed comes with a new one.
func (n *watcher) node() string { return fmt.Sprintf("%s-dir%d", n.name, n.fresh) }

// die ends the process as a power cut does: what it had not made durable is gone, and its hooks with it.
func (n *watcher) die() {
	l := n.life
	if l == nil {
		return
	}
	n.w.meet()
	n.life = nil
	l.kill()
	if n.reign != nil {
		n.reign.stop()
	}
	for _, p := range slices.Clone(n.w.active) {
		if p.call.life == l {
			p.kill("its watcher died")
		}
	}
	for _, c := range slices.Concat(l.held, l.open) {
		n.w.resume(c, reply{code: -1, err: errKilled})
	}
	synctest.Wait()
}

// later does something unless the process has ended by then; one that stands still does it when it goes on.
func (n *watcher) later(d time.Duration, f func()) {
	l := n.life
	n.w.after(d, func() { n.do(l, f) })
}

func (n *watcher) do(l *life, f func()) {
	switch {
	case n.life != l || l == nil:
	case n.paused:
		n.inbox = append(n.inbox, f)
	default:
		f()
	}
}

// send brings words to another watcher, if they get there and it runs.
func (n *watcher) send(to *watcher, f func()) {
	if !n.w.reaches(n.name, to.name) {
		return
	}
	n.w.after(n.w.delay("net", netDelay)+n.slow+to.slow, func() {
		if n.w.reaches(n.name, to.name) && to.life != nil {
			to.do(to.life, f)
		}
	})
}

func (n *watcher) pause() {
	if n.life != nil && !n.paused {
		n.paused, n.since = true, n.w.now()
		n.w.tell("%s stands still", n.name)
	}
}

// goOn lets a paused process run again: what waited comes all at once, and its timers are stale.
func (n *watcher) goOn() {
	if n.life == nil || !n.paused {
		return
	}
	l := n.life
	n.paused = false
	n.w.tell("%s goes on after %s", n.name, short(n.w.now()-n.since))
	if n.w.now()-n.since > suspicious {
		n.distrust()
	}
	n.later(n.w.delay("tick", tickEvery/10), n.tick)
	held, inbox := l.held, n.inbox
	l.held, n.inbox = nil, nil
	// Whichever goroutine wakes first: hands that were about to act, or the word that another one leads.
	if n.w.roll("wakes first", 2) == 0 {
		n.catchUp(l, inbox, nil)
		inbox = nil
	}
	n.catchUp(l, inbox, held)
}

func (n *watcher) catchUp(l *life, inbox []func(), held []*call) {
	for _, c := range held {
		n.w.take(c)
	}
	for _, f := range inbox {
		n.do(l, f)
	}
}

// tick is what comes round twice a heartbeat.
func (n *watcher) tick() {
	now := n.w.now()
	switch {
	case n.reign != nil:
		n.reign.tick()
	case now-n.heard > n.patient:
		n.campaign(false)
	}
	n.beat()
}

// tick lets every watcher that runs do its round. One that stands still goes on with it later.
func (w *world) tick() {
	w.welcome()
	from := w.roll("tick", len(w.watchers))
	for i := range w.watchers {
		if n := w.watchers[(from+i)%len(w.watchers)]; n.life != nil && !n.paused {
			n.tick()
		}
	}
	w.after(w.delay("round", tickEvery/2)+tickEvery/2, w.tick)
}

func (n *watcher) bePatient() { n.patient = heartbeat + n.w.delay("patience", heartbeat) }

// clock is what the watcher's wall clock shows.
func (n *watcher) clock() time.Time { return n.w.moment().Add(n.skew).UTC() }

// jump moves the wall clock. Both the detector and a leader notice.
func (n *watcher) jump(d time.Duration) {
	n.skew += d
	n.do(n.life, func() {
		if d.Abs() > 5*time.Second {
			n.distrust()
			if n.reign != nil {
				n.reign.giveWay("its clock was moved")
			}
		}
	})
}

// shown is called with each newer state.
func (n *watcher) shown(s *failover.State) {
	n.state = s
	n.aim()
	n.noteWriters()
	if s.Policy != nil {
		n.serve(s)
	}
	n.life.publish(s)
	if n.removed() {
		n.w.tell("%s is no member any more and ends", n.name)
		n.die()
		return
	}
	if n.news() {
		n.beatSoon()
	}
}

// shows reports whether its state holds a report or a newer one of the same watcher, or cannot hold it.
func (n *watcher) shows(r failover.Report) bool {
	a := n.state.Groups[group].Apps[r.App]
	if a == nil {
		return true
	}
	have := a.Reports[r.Watcher]
	return have != nil && !older(have.Boot, have.Seq, r.Boot, r.Seq)
}

// noteCurrent begins to answer once what was committed before is applied.
func (n *watcher) noteCurrent(commit int) {
	if n.current || n.life == nil || n.applied < commit || commit == 0 || n.log[commit-1].entry.Term != n.term {
		return
	}
	n.current = true
	if n.state.Policy != nil {
		n.serve(n.state)
	}
}

// serve answers DNS from the state.
func (n *watcher) serve(s *failover.State) {
	if !n.current || s.Generation == n.generation && s.Serial < n.serial {
		return // a state of the past, gone through after a restart, is not answered
	}
	n.serial, n.generation = s.Serial, s.Generation
	n.w.checkAnswer(n, s)
	if index := s.ZoneIndex(); n.about.Served < index {
		n.later(n.w.delay("served", 20*time.Millisecond), func() {
			if n.about.Served < index {
				n.number++
				n.about.Served, n.about.Seq = index, n.number
				n.beatSoon()
			}
		})
	}
}
