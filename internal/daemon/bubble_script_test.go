package daemon

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// plan is one schedule: what the cluster is like and what happens to it when.
type plan struct {
	seed     uint64
	watchers int
	apps     []string
	database bool
	observe  bool // the group's mode is observe instead of automatic
	events   []happening
}

// happening is one event of a schedule: so long after the one before, a verb with its words.
type happening struct {
	after time.Duration
	words []string
}

func (h happening) String() string {
	return fmt.Sprintf("%8s %s", h.after, strings.Join(h.words, " "))
}

// String is the schedule as a script that parsePlan reads.
func (p *plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d watchers %d apps %d database %t observe %t\n", p.seed, p.watchers, len(p.apps), p.database, p.observe)
	for _, h := range p.events {
		fmt.Fprintln(&b, h)
	}
	return b.String()
}

func parsePlan(text string) (*plan, error) {
	p := &plan{}
	first, rest, _ := strings.Cut(strings.TrimSpace(text), "\n")
	var apps int
	if _, err := fmt.Sscanf(first, "seed %d watchers %d apps %d database %t observe %t", &p.seed, &p.watchers, &apps, &p.database, &p.observe); err != nil {
		return nil, fmt.Errorf("cannot read %q: %w", first, err)
	}
	p.apps = appNames[:apps]
	for line := range strings.Lines(rest) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		after, err := time.ParseDuration(words[0])
		if err != nil || len(words) < 2 {
			return nil, fmt.Errorf("cannot read %q: %v", line, err)
		}
		p.events = append(p.events, happening{after, words[1:]})
	}
	return p, nil
}

// theActive is the word for the app that is active when an event happens.
const theActive = "active"

var appNames = []string{"main", "standby", "third"}

// verb is one kind of event, with how often it comes.
type verb struct {
	name   string
	weight int
	words  func(d *dice) []string
}

// dice make a schedule.
type dice struct {
	*rand.Rand
	p *plan
}

func (d *dice) watcher() string { return fmt.Sprintf("w%d", 1+d.IntN(d.p.watchers)) }
func (d *dice) app() string     { return d.p.apps[d.IntN(len(d.p.apps))] }

// active is the active app, whichever that is then, more often than not.
func (d *dice) active() string {
	if d.IntN(3) > 0 {
		return theActive
	}
	return d.app()
}

func (d *dice) oneOf(words ...string) string { return words[d.IntN(len(words))] }

func (d *dice) two() []string {
	a, b := d.watcher(), d.watcher()
	for a == b {
		b = d.watcher()
	}
	return []string{a, b}
}

func (d *dice) span(least, most time.Duration) string {
	return (least + time.Duration(d.Int64N(int64(most-least)))).Round(time.Millisecond).String()
}

var verbs = []verb{
	{"cut", 4, (*dice).two}, // both ways
	{"cut-one-way", 3, (*dice).two},
	{"isolate", 4, func(d *dice) []string { return []string{d.watcher()} }},
	{"heal", 7, func(*dice) []string { return nil }},
	{"delay", 2, func(d *dice) []string { return append(d.two(), d.span(100*time.Millisecond, 3*time.Second)) }},
	{"reset", 2, (*dice).two},
	{"crash", 5, func(d *dice) []string { return []string{d.watcher()} }},
	{"crash-leader", 4, func(d *dice) []string { return nil }},
	{"ambush", 6, func(d *dice) []string {
		return []string{d.oneOf("crash", "isolate"), fmt.Sprint(1 + d.IntN(6)), d.oneOf("early", "late")}
	}},
	{"stop", 1, func(d *dice) []string { return []string{d.watcher()} }},
	{"start", 7, func(*dice) []string { return nil }},
	{"transfer", 3, func(d *dice) []string { return []string{d.watcher()} }},
	{"kill", 6, func(d *dice) []string { return []string{d.active()} }},
	{"kill-app", 3, func(d *dice) []string { return []string{d.active()} }}, // its database lives
	{"kill-database", 2, func(d *dice) []string { return []string{d.active()} }},
	{"hang", 3, func(d *dice) []string { return []string{d.active()} }},
	{"revive", 7, func(d *dice) []string { return []string{d.active()} }},
	{"unreachable", 3, func(d *dice) []string { return []string{d.watcher(), d.active()} }},
	{"slow", 2, func(d *dice) []string { return []string{d.app(), d.span(100*time.Millisecond, 4*time.Second)} }},
	{"broken", 2, func(d *dice) []string { return []string{d.app()} }},
	{"refuse", 2, func(d *dice) []string { return []string{d.app()} }},
	{"sticky", 1, func(*dice) []string { return nil }},
	{"mend", 4, func(d *dice) []string { return []string{d.app()} }},
	{"rebuild", 2, func(d *dice) []string { return nil }},
	{"pause", 2, func(d *dice) []string { return []string{d.watcher()} }},
	{"resume", 3, func(d *dice) []string { return []string{d.watcher()} }},
	{"switchover", 5, func(d *dice) []string { return []string{d.watcher()} }},
	{"force", 2, func(d *dice) []string { return []string{d.watcher(), d.app()} }},
	{"abort", 3, func(d *dice) []string { return []string{d.watcher()} }},
	{"signal", 1, func(d *dice) []string { return []string{d.watcher()} }},
}

// newPlan makes the schedule of a seed.
func newPlan(seed uint64) *plan {
	p := &plan{seed: seed}
	d := &dice{rand.New(rand.NewPCG(seed, 1)), p}
	p.watchers = []int{3, 3, 3, 5}[d.IntN(4)]
	p.apps = appNames[:2+d.IntN(4)/3]
	p.database = d.IntN(4) > 0
	p.observe = d.IntN(16) == 0
	total := 0
	for _, v := range verbs {
		total += v.weight
	}
	if d.IntN(2) == 0 {
		themes[d.IntN(len(themes))](d)
	}
	for i := range 4 + d.IntN(14) {
		if i%7 == 2 { // so that most of what follows happens in the middle of something
			p.events = append(p.events, happening{d.pause(), d.stir()})
			continue
		}
		at := d.IntN(total)
		for _, v := range verbs {
			if at -= v.weight; at >= 0 {
				continue
			}
			p.events = append(p.events, happening{d.pause(), append([]string{v.name}, v.words(d)...)})
			break
		}
	}
	if d.IntN(6) == 0 {
		p.events = append([]happening{{0, []string{"slow-disks", d.span(50*time.Millisecond, 300*time.Millisecond)}}}, p.events...)
	}
	return p
}

// add adds an event that comes at some time within the given one.
func (d *dice) add(within time.Duration, words ...string) {
	d.p.events = append(d.p.events, happening{time.Duration(d.Int64N(int64(within))).Round(time.Millisecond), words})
}

// themes are what chance alone would seldom bring about: situations that a rule was made for.
var themes = []func(d *dice){
	func(d *dice) { // a verdict that is old when the second one comes
		two := d.two()
		d.add(time.Second, "unreachable", two[0], theActive)
		d.add(time.Second, "ambush", "isolate", "1", "early")
		d.p.events = append(d.p.events, happening{15 * time.Second, []string{d.oneOf("isolate", "crash"), two[0]}})
		d.p.events = append(d.p.events, happening{15 * time.Second, []string{"unreachable", two[1], theActive}})
		d.p.events = append(d.p.events, happening{30 * time.Second, []string{"start"}})
	},
	func(d *dice) { // the app is gone, and its database is there and cannot be frozen
		d.add(time.Second, "refuse", theActive)
		d.add(time.Second, "kill-app", theActive)
		d.add(40*time.Second, d.oneOf("mend", "crash-leader"), theActive)
	},
	func(d *dice) { // hands that come late
		d.add(time.Second, "sticky")
		d.add(time.Second, "slow-acts", d.span(4*time.Second, 12*time.Second))
		d.add(time.Second, "ambush", d.oneOf("isolate", "isolate", "crash"), d.oneOf("on", "freeze", "stop", "promote", "promote", "off"), "early")
		d.add(time.Second, d.stir()...)
		d.add(40*time.Second, "slow-acts", "0s")
		d.add(20*time.Second, "start")
	},
	func(d *dice) { // an app that does what it was asked though who asked has been called off
		d.add(time.Second, "sticky")
		d.add(time.Second, "slow-acts", d.span(4*time.Second, 9*time.Second))
		d.add(time.Second, d.stir()...)
		d.p.events = append(d.p.events, happening{15*time.Second + time.Duration(d.Int64N(int64(6*time.Second))), []string{"slow-acts", "0s"}})
		for range 3 {
			d.add(time.Second, d.oneOf("abort", "transfer", "stop"), d.watcher())
		}
		d.add(30*time.Second, "start")
	},
	func(d *dice) { // a watcher that starts again, alone, after a switch
		w := d.watcher()
		d.add(time.Second, d.stir()...)
		d.p.events = append(d.p.events, happening{30 * time.Second, []string{"isolate", w}})
		d.add(10*time.Second, "crash", w)
		d.add(10*time.Second, "start")
		d.add(30*time.Second, "heal")
	},
	func(d *dice) { // a leader alone, and people at it
		d.add(time.Second, "isolate-leader")
		for range 3 {
			d.add(2*time.Second, d.oneOf("pause", "switchover", "abort", "resume"), d.watcher())
		}
		d.add(20*time.Second, "heal")
	},
	func(d *dice) { // orders whose answers are lost
		for range 4 {
			d.add(3*time.Second, d.oneOf("pause", "switchover", "switchover", "abort", "resume"), d.watcher())
			d.add(15*time.Millisecond, "reset-all")
		}
	},
	func(d *dice) { // an outage while the automation is held
		d.add(time.Second, "pause", d.watcher())
		d.add(10*time.Second, d.oneOf("kill", "kill-app", "hang"), theActive)
		d.add(40*time.Second, d.oneOf("resume", "switchover", "crash-leader"), d.watcher())
	},
	func(d *dice) { // no turning back
		d.add(time.Second, d.stir()...)
		for range 4 {
			d.add(5*time.Second, "abort", d.watcher())
		}
	},
}

// stir is an event that begins a switchover, if one can begin.
func (d *dice) stir() []string {
	switch d.IntN(5) {
	case 0:
		return []string{"switchover", d.watcher()}
	case 1:
		return []string{"kill-app", theActive}
	case 2:
		return []string{"hang", theActive}
	}
	return []string{"kill", theActive}
}

// pause is the time between two events: often in the middle of what the last one began.
func (d *dice) pause() time.Duration {
	most := []time.Duration{50 * time.Millisecond, time.Second, 10 * time.Second, 30 * time.Second}[d.IntN(4)]
	return time.Duration(d.Int64N(int64(most))).Round(time.Millisecond)
}
