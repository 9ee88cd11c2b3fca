package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// verbs are what can happen in a script. Arguments that a shrunken or hand-written script gets wrong are ignored.
var verbs map[string]func(w *world, args []string)

func init() {
	verbs = map[string]func(w *world, args []string){
		"crash":    crash,       // WATCHER DURATION: the process ends at once and is started again after that
		"trap":     setTrap,     // POINT before|after VERB ARGUMENTS: happens when the next leader comes to that point of its journal
		"pause":    pauseIt,     // WATCHER DURATION: SIGSTOP, SIGCONT
		"cut":      cutOff,      // PLACE PLACE DURATION: nothing passes between the two
		"mute":     mute,        // PLACE PLACE DURATION: nothing passes from the first to the second
		"slow":     slow,        // WATCHER DELAY DURATION: its disk and network take longer
		"clock":    clock,       // WATCHER DURATION: its wall clock is moved
		"lack":     lack,        // WATCHER DURATION: a file that the policy names is not there
		"overdue":  overdue,     // WATCHER DURATION: its probes are not made, and it says so
		"rehearse": rehearse,    // WATCHER APP DURATION: its rehearsal finds that a step on the app would fail; the next one, that none would
		"disk":     disk,        // WATCHER DURATION: it runs out of space
		"save":     save,        // WATCHER: a snapshot is made of its state
		"recover":  recoverFrom, // WATCHER,WATCHER [undo|keep]: all others are lost for good, and these go on
		"transfer": transfer,    // WATCHER: leadership is handed to it
		"app":      appEvent,    // APP kill|boot|reboot|hang|wake|sick|well|empty|rebuild|close
		"fault":    setFault,    // APP VERB fail|lie|deaf|hang|half|late|slow DURATION TIMES: what the verb's next runs do
		"order":    order,       // WATCHER switchover|abort|retry|skip|ack|pause|resume|policy|add|bind|remove|transfer|restore|reprotect ... [again]
	}
}

func (w *world) perform(e Event) {
	if w.healed {
		return
	}
	w.tell("# %s", strings.Join(e.Words, " "))
	verbs[e.Words[0]](w, append(e.Words[1:], "", "", "", "", ""))
}

func durationOf(text string) time.Duration {
	d, _ := time.ParseDuration(text)
	return max(d, 0)
}

func crash(w *world, args []string) {
	if n := w.watcher(args[0]); n != nil {
		n.crash(durationOf(args[1]))
	}
}

func (n *watcher) crash(d time.Duration) {
	if n.life == nil {
		return
	}
	n.w.tell("%s crashes", n.name)
	n.die()
	n.w.after(d, func() {
		if n.life == nil && !n.removed() {
			n.w.tell("%s starts again", n.name)
			n.start()
		}
	})
}

func (n *watcher) removed() bool {
	s := n.w.log.state()
	return s.Cluster != "" && s.Member(n.name) == nil
}

func pauseIt(w *world, args []string) {
	n := w.watcher(args[0])
	if n == nil || n.life == nil {
		return
	}
	l := n.life
	n.pause()
	w.after(durationOf(args[1]), func() {
		if n.life == l {
			n.goOn()
		}
	})
}

func cutOff(w *world, args []string) {
	w.block(args[0], args[1], durationOf(args[2]))
	w.block(args[1], args[0], durationOf(args[2]))
}

func mute(w *world, args []string) { w.block(args[0], args[1], durationOf(args[2])) }

// block keeps words from one place from getting to another for a time. "*" is everywhere.
func (w *world) block(from, to string, d time.Duration) {
	for _, a := range w.places(from) {
		for _, b := range w.places(to) {
			if a == b {
				continue
			}
			link := [2]string{a, b}
			w.cut[link]++
			w.after(d, func() {
				if w.cut[link] > 0 {
					w.cut[link]--
				}
				w.restream()
			})
		}
	}
	w.restream()
}

func (w *world) places(name string) []string {
	if name != "*" {
		return strings.Split(name, ",")
	}
	var all []string
	for _, n := range w.watchers {
		all = append(all, n.name)
	}
	for _, a := range w.apps {
		all = append(all, a.name)
	}
	return all
}

func slow(w *world, args []string) {
	if n := w.watcher(args[0]); n != nil {
		d := min(durationOf(args[1]), 3*time.Second)
		n.slow += d
		w.after(durationOf(args[2]), func() { n.slow = max(0, n.slow-d) })
	}
}

func clock(w *world, args []string) {
	if n := w.watcher(args[0]); n != nil && n.life != nil {
		d, _ := time.ParseDuration(args[1])
		w.clockMoved = true
		n.jump(d)
	}
}

func lack(w *world, args []string) {
	n := w.watcher(args[0])
	if n == nil || n.life == nil {
		return
	}
	n.sayFor(durationOf(args[1]), func(a *failover.About, is bool) {
		if a.Missing = nil; is {
			a.Missing = []failover.MissingFile{{Group: group, File: "main.headers"}}
		}
	})
}

func rehearse(w *world, args []string) {
	n := w.watcher(args[0])
	if n == nil || n.life == nil {
		return
	}
	n.sayFor(durationOf(args[2]), func(a *failover.About, is bool) {
		if a.Faults = nil; is {
			a.Faults = []failover.Fault{{Group: group, App: args[1], Detail: "privileges: not enough"}}
		}
	})
}

func disk(w *world, args []string) {
	n := w.watcher(args[0])
	if n == nil || n.life == nil {
		return
	}
	n.sayFor(durationOf(args[1]), func(a *failover.About, is bool) { a.LowDisk = is })
}

// sayFor has a watcher say something of itself, and take it back after a time.
func (n *watcher) sayFor(d time.Duration, change func(a *failover.About, is bool)) {
	l := n.life
	say := func(is bool) {
		n.do(l, func() {
			n.number++
			n.about.Seq = n.number
			change(&n.about, is)
			n.beatSoon()
		})
	}
	say(true)
	n.w.after(d, func() { say(false) })
}

func overdue(w *world, args []string) {
	if n := w.watcher(args[0]); n != nil {
		n.overdue++
		w.after(durationOf(args[1]), func() { n.overdue = max(0, n.overdue-1) })
	}
}

func transfer(w *world, args []string) {
	for _, n := range w.watchers {
		if n.reign != nil && n.name != args[0] {
			n.do(n.life, func() {
				if n.reign != nil {
					n.reign.giveWay("a person said so", slices.DeleteFunc(args[:1:1], func(name string) bool { return name == "" })...)
				}
			})
		}
	}
}

func appEvent(w *world, args []string) {
	a := w.app(args[0])
	if a == nil {
		return
	}
	down := w.now() - a.since
	a.since = w.now()
	a.byHand = a.byHand || slices.Contains([]string{"close", "empty"}, args[1])
	switch args[1] {
	case "kill":
		a.dead = true
	case "boot":
		if a.dead {
			a.restart(down)
		}
	case "reboot":
		if !a.dead {
			a.restart(0)
		}
	case "hang":
		a.hung = true
	case "wake":
		a.hung = false
	case "sick":
		a.sick = true
	case "well":
		a.sick = false
	case "close":
		a.closed = w.script.get("switch") != "none"
	case "empty":
		if a.db != nil {
			a.db.primary, a.db.frozen, a.db.id, a.db.line, a.db.log, a.db.from = true, false, fmt.Sprintf("db%d", w.seq), 1, nil, nil
		}
	case "rebuild":
		w.rebuildNow(a)
	}
	w.restream()
}

// rebuildNow is what a person does after a failover: the old main becomes a replica of the new one. Nobody does that
// to a database whose app is the writer or in an open switchover.
func (w *world) rebuildNow(a *app) {
	g := w.log.state().Groups[group]
	if a.db == nil || a.dead || a.hung || g == nil || g.Switchover.Open() || g.Writer == a.name {
		return
	}
	from := w.app(g.Writer)
	if from.db.primary && !from.dead && !from.hung {
		a.db.rebuild(from.db)
		a.closed = w.script.get("switch") != "none"
		for _, other := range w.apps {
			if other != a && other != from && !other.db.primary {
				other.db.rebuild(from.db)
			}
		}
	}
}

func setFault(w *world, args []string) {
	key := args[0] + " " + args[1]
	times, _ := strconv.Atoi(args[4])
	if args[2] == "deaf" && !w.readBack(args[1]) {
		return // exit 0 is to mean done; where nothing can be read back, it is believed
	}
	if args[2] == "late" && (!w.script.yes("tokens") || changes[args[1]] == "") {
		return // what acts late on a target that does not check tokens is not guaranteed anything
	}
	w.faults[key] = append(w.faults[key], &fault{kind: args[2], d: durationOf(args[3]), times: max(1, times)})
}

// readBack reports whether what a verb did is looked at afterwards by something that is sure to tell.
func (w *world) readBack(verb string) bool {
	switch verb {
	case "on", "off":
		return w.script.get("switch") == "checked"
	}
	return verb == "promote" || verb == "stop"
}

// trap makes something happen at a point of a leader's journal: before an entry is proposed, or after its answer has come.
type trap struct {
	point, when string
	event       Event
}

func setTrap(w *world, args []string) {
	if len(args) > 2 && verbs[args[2]] != nil {
		w.traps = append(w.traps, &trap{point: args[0], when: args[1], event: Event{Words: args[2:]}})
	}
}

// passPoint springs the trap that is set where a watcher is just now. It reports whether the watcher is to move no more.
func (w *world) passPoint(n *watcher, when string, j *failover.Journal) (caught bool) {
	if len(w.traps) == 0 || j == nil || n.paused || n.life == nil {
		return false
	}
	i := slices.IndexFunc(w.traps, func(t *trap) bool { return t.when == when && at(t.point, j) })
	if i < 0 {
		return false
	}
	t := w.traps[i]
	w.traps = slices.Delete(w.traps, i, i+1)
	w.tell("%s comes to %s %s: %s", n.name, when, t.point, strings.TrimSpace(strings.Join(t.event.Words, " ")))
	l := n.life
	if t.event.Words[0] == "crash" || t.event.Words[0] == "pause" {
		n.pause() // no further instruction of its is to be seen
		caught = true
	}
	w.after(0, func() {
		if n.life == l {
			words := slices.Clone(t.event.Words)
			for i, word := range words {
				if word == "leader" {
					words[i] = n.name
				}
			}
			verbs[words[0]](w, append(words[1:], "", "", "", "", ""))
		}
	})
	return caught
}

// at reports whether an entry is at a point.
func at(point string, j *failover.Journal) bool {
	if j.Start != nil && (point == "any" || point == "start:"+pointName(j.Start.Task)) {
		return true
	}
	return slices.ContainsFunc(j.Ended, func(e failover.Ended) bool { return point == "any" || point == "ended:"+pointName(e.Task) })
}

func pointName(t failover.Task) string {
	switch {
	case t.Release:
		return "release:" + string(t.Part)
	case t.Switchover == 0:
		return "keep:" + string(t.Part)
	case t.Work == failover.WorkAct:
		return string(t.Step)
	}
	return string(t.Work) + ":" + string(t.Step)
}

// heal ends all faults. Apps stay as they are, but for those that hang: that would never end by itself.
func (w *world) heal() {
	w.healed = true
	w.tell("# all faults are over")
	clear(w.cut)
	if !w.script.yes("paired") {
		clear(w.faults) // else the world does not change
	}
	w.traps = nil
	w.pace = programDelay
	for _, n := range w.watchers {
		n.slow, n.overdue = 0, 0
		if n.paused {
			n.goOn()
		}
		if n.life == nil && !n.removed() {
			n.start()
		}
	}
	for _, a := range w.apps {
		if a.hung {
			a.hung, a.since = false, w.now()
		}
	}
	w.restream()
}
