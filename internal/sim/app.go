package sim

import (
	"fmt"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

const (
	writeBytes   = 100             // of the log, for each write
	streamNotice = 5 * time.Second // until a replica notices that a primary which hangs or is cut off is gone
)

// app is one site: its own processes, its maintenance switch and its database.
type app struct {
	w      *world
	name   string
	dead   bool // the host is off
	hung   bool // takes connections and answers nothing
	sick   bool // its probes fail, though switch and database answer
	closed bool // in maintenance
	booted bool // at least once
	byHand bool // a person has closed it or let it stay closed, or its database is another one
	untold bool // a restart that nobody could see has lifted its freeze, and its database does not tell
	db     *database
	tokens map[failover.Part]uint64 // highest seen; kept on its disk
	hands  []hand                   // every change by a program, in order
	since  time.Duration            // of the last fault or its end
}

// hand is one change that a program made.
type hand struct {
	at      time.Duration
	verb    string
	token   uint64
	watcher string
	step    failover.StepName
	late    bool // its program had ended
}

func newApp(w *world, name string, first bool) *app {
	a := &app{w: w, name: name, closed: !first && w.script.get("switch") != "none", tokens: map[failover.Part]uint64{}}
	if w.script.yes("database") {
		a.db = &database{a: a, id: "db1", line: 1, primary: first, on: true}
	}
	return a
}

func (a *app) maintenance() failover.Switch {
	if a.closed {
		return failover.SwitchOn
	}
	return failover.SwitchOff
}

// open reports whether clients are served.
func (a *app) open() bool { return !a.dead && !a.hung && !a.sick && !a.closed }

// writable reports whether the database takes writes, if it is asked.
func (a *app) writable() bool { return a.db != nil && a.db.primary && !a.db.frozen }

// restart boots the host after it was down for so long. What is over between two looks nobody sees.
func (a *app) restart(down time.Duration) {
	if down < time.Second && a.db != nil && a.db.frozen && a.washesFreeze() && !a.w.script.yes("tells") {
		a.untold = true
	}
	a.boot()
}

// boot starts the host again. What is lost of what was turned depends on the app.
func (a *app) boot() {
	a.dead, a.hung = false, false
	a.booted = true
	if washes := a.w.script.get("washes"); washes == "switch" || washes == "both" {
		a.closed = false
	}
	if a.db != nil && a.washesFreeze() {
		a.db.frozen = false
	}
	a.w.restream()
}

func (a *app) washesFreeze() bool {
	washes := a.w.script.get("washes")
	return washes == "freeze" || washes == "both"
}

// answer is how an app answers somebody.
type answer string

const (
	answerGood    answer = "ok"
	answerRefused answer = "connection refused"
	answerNone    answer = "no answer in time"
)

func (w *world) answers(n *watcher, a *app) answer {
	switch {
	case !w.bothWays(n.name, a.name), a.hung:
		return answerNone
	case a.dead:
		return answerRefused
	}
	return answerGood
}

// write is one write of a client that a database took.
type write struct {
	id    int
	at    time.Duration
	acked bool
}

// database is an app's. A primary's log is what it has written; a replica's the part of it that it received.
type database struct {
	a       *app
	id      string
	line    uint64 // timeline: rises with each promotion
	primary bool
	frozen  bool
	on      bool // of a replica: its replication is not stopped
	log     []*write
	from    *database // whom a replica receives from
	live    bool      // it sees its stream live
	heard   int       // length of from's log that it has heard of
	round   int       // of stream notices
}

// streams reports whether something would arrive now.
func (d *database) streams() bool {
	f := d.from
	return !d.primary && d.on && f != nil && f.primary && f.id == d.id && f.line == d.line && !d.a.dead && !d.a.hung && !f.a.dead && !f.a.hung &&
		d.a.w.bothWays(d.a.name, f.a.name) && d.follows()
}

// follows reports whether what it has is the beginning of what its primary has.
func (d *database) follows() bool {
	n := len(d.log)
	return n == 0 || n <= len(d.from.log) && d.from.log[n-1] == d.log[n-1]
}

// restream brings all replicas to see what has changed about their streams.
func (w *world) restream() {
	for _, a := range w.apps {
		if a.db != nil {
			a.db.restream()
		}
	}
}

func (d *database) restream() {
	d.round++
	round := d.round
	if d.primary || !d.on || d.a.dead {
		d.live = false
		return
	}
	if d.streams() {
		d.live, d.heard = true, len(d.from.log)
		d.a.w.after(d.a.w.delay("lag "+d.a.name, 200*time.Millisecond), func() {
			if d.from != nil { // else a person has made it another database meanwhile
				d.receive(len(d.from.log))
			}
		})
		return
	}
	if d.from != nil && d.from.a.dead || d.from == nil || !d.from.primary {
		d.live = false // the connection is closed
		return
	}
	d.a.w.after(streamNotice, func() {
		if round == d.round && !d.streams() {
			d.live = false
		}
	})
}

// receive takes in what its primary had written.
func (d *database) receive(n int) {
	if d.streams() && n <= len(d.from.log) && n > len(d.log) {
		d.log = d.from.log[:n:n]
	}
}

// observe is what it says of itself.
func (d *database) observe() failover.Observation {
	o := failover.Observation{Role: failover.RolePrimary, ID: d.id, Frozen: d.frozen && d.a.w.script.yes("tells")}
	if d.a.w.script.yes("timeline") {
		o.Timeline = d.line
	}
	if !d.primary {
		lag := int64(max(0, d.heard-len(d.log)) * writeBytes)
		o.Role, o.Streaming, o.LagBytes = failover.RoleReplica, d.live, &lag
	}
	return o
}

// words is observe as the role program prints it.
func (d *database) words() string {
	o := d.observe()
	text := fmt.Sprintf("%s id=%s", o.Role, o.ID)
	if o.Timeline != 0 {
		text += fmt.Sprintf(" timeline=%d", o.Timeline)
	}
	if o.Frozen {
		text += " frozen"
	}
	if o.Streaming {
		text += " streaming"
	}
	if o.LagBytes != nil {
		text += fmt.Sprintf(" lag_bytes=%d", *o.LagBytes)
	}
	return text
}

// take is a client's write.
func (d *database) take(x *write) {
	d.log = append(d.log, x)
	n := len(d.log)
	for _, a := range d.a.w.apps {
		if r := a.db; r != nil && r.from == d && r.streams() {
			r.heard = n
			d.a.w.after(d.a.w.delay("lag "+a.name, 200*time.Millisecond), func() { r.receive(n) })
		}
	}
}

// rebuild makes it a replica of the database that is the only other primary, with its data.
func (d *database) rebuild(from *database) {
	d.primary, d.on, d.from, d.id, d.line, d.log = false, true, from, from.id, from.line, from.log[:len(from.log):len(from.log)]
	d.frozen = false
	d.a.w.restream()
}
