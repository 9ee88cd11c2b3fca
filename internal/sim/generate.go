package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// author makes a script from a seed.
type author struct {
	*rand.Rand
	s        *Script
	watchers []string
	apps     []string
}

// Generate makes the script of a seed: a world, one or two things that a cluster is there for (an outage, an order), and
// around them whatever can go wrong.
func Generate(seed uint64) *Script {
	g := &author{Rand: rand.New(rand.NewPCG(seed, 0)), s: &Script{}}
	g.s.set("seed", fmt.Sprint(seed))
	g.settings()
	for i := range g.s.number("watchers") {
		g.watchers = append(g.watchers, fmt.Sprintf("w%d", i+1))
	}
	g.apps = slices.Clone(appNames[:g.s.number("apps")])
	at := g.between(8*time.Second, 15*time.Second)
	if g.once(8) {
		g.pair(at)
		return g.s
	}
	for range 1 + g.IntN(3) {
		g.scene(at)
		at += g.between(20*time.Second, 80*time.Second)
	}
	g.s.set("end", (at + 20*time.Second).Round(time.Second).String())
	g.s.sort()
	return g.s
}

// pair is one outage or one order in a world that does not change otherwise, with leaders that crash at points of their
// journals: it has to end as it would without them.
func (g *author) pair(at time.Duration) {
	g.s.set("paired", "yes")
	g.s.set("mode", "automatic")
	delete(g.s.Settings, "primary")
	delete(g.s.Settings, "pace")   // else it is chance what is done in time
	delete(g.s.Settings, "quorum") // else a crash takes the quorum away
	for range 1 + g.IntN(3) {
		g.s.add(0, "trap", g.one(points...), g.one("before", "after"), "crash", "leader", g.one(g.short(), g.long()))
	}
	verbs := []string{"on"} // a freeze that fails for ever is a failover undone and tried again for ever: no end to compare
	if g.once(2) {
		g.s.add(at, "app", "main", g.one("kill", "sick"))
	} else {
		verbs = faultyVerbs[:8]
		g.s.add(at, "order", g.one(g.watchers...), "switchover")
	}
	if g.once(3) {
		g.s.add(0, "fault", g.one(g.apps...), g.one(verbs...), "fail", "0s", "999")
	}
	g.s.set("end", "2m0s")
	g.s.sort()
}

func (g *author) one(list ...string) string { return list[g.IntN(len(list))] }

// often reports true once in n times.
func (g *author) once(n int) bool { return g.IntN(n) == 0 }

func (g *author) between(a, b time.Duration) time.Duration {
	return a + time.Duration(g.Int64N(int64(b-a)))
}

func (g *author) short() string {
	return g.between(100*time.Millisecond, 4*time.Second).Round(time.Millisecond).String()
}

func (g *author) long() string {
	return g.between(2*time.Second, 40*time.Second).Round(time.Millisecond).String()
}

func (g *author) setIf(n int, name string, values ...string) {
	if g.once(n) {
		g.s.set(name, g.one(values...))
	}
}

func (g *author) oneOf(lists ...[]string) []string { return lists[g.IntN(len(lists))] }

func (g *author) settings() {
	g.setIf(4, "watchers", "5")
	g.setIf(5, "apps", "3")
	g.setIf(5, "database", "no")
	g.setIf(5, "switch", "blind", "none")
	g.setIf(4, "tokens", "no")
	g.setIf(5, "tells", "no")
	if g.s.number("apps") == 2 {
		g.setIf(4, "timeline", "no")
	}
	g.setIf(2, "washes", "switch", "freeze", "both")
	g.setIf(12, "mode", "observe", "manual")
	g.setIf(10, "quorum", "3")
	g.setIf(8, "fence", "never")
	g.setIf(3, "confirm", "0s", "1s", "10s")
	g.setIf(3, "cooldown", "0s", "20s", "2m0s")
	g.setIf(3, "tries", "1", "3")
	g.setIf(8, "lag", "1s", "3s")
	g.setIf(20, "primary", "standby")
	g.setIf(4, "reprotect", "no")
	g.setIf(2, "pace", "300ms", "1s", "3s")
	if g.once(4) {
		var hooks []string
		for range 1 + g.IntN(2) {
			hooks = append(hooks, string(failover.Plan[g.IntN(len(failover.Plan))])+g.one(":before", ":after"))
		}
		g.s.set("hooks", strings.Join(hooks, ","))
	}
}

// scene is one thing that matters, with trouble around it.
func (g *author) scene(at time.Duration) {
	main := g.one(append(g.apps, "main", "main")...)
	if g.once(4) {
		g.rare(at)
		g.troubles(at)
		return
	}
	switch g.IntN(16) {
	case 14: // what was fenced opens by itself in the middle of the plan
		g.s.set("washes", g.one("freeze", "both"))
		g.s.add(at, g.oneOf([]string{"app", main, "sick"}, g.switchover())...)
		g.s.add(at-time.Second, "trap", g.one("ended:freeze", "ended:catch-up", "start:stop-replication", "ended:stop-replication"), g.one("before", "after"), "app", main, "reboot")
	case 15: // the promotion fails, and meanwhile the main comes back
		g.s.add(at-time.Second, "fault", g.one(g.apps...), "promote", g.one("fail", "hang", "deaf"), "0s", g.one("2", "5"))
		g.s.add(at, "app", main, "kill")
		g.s.add(at+g.between(4*time.Second, 40*time.Second), "app", main, "boot")
	case 0, 1, 2:
		g.s.add(at, "app", main, "kill")
		if !g.once(3) {
			g.s.add(at+g.between(time.Second, 60*time.Second), "app", main, "boot")
		}
	case 3:
		g.s.add(at, "app", main, "sick")
		g.s.add(at+g.between(time.Second, 50*time.Second), "app", main, "well")
	case 4:
		g.s.add(at, "app", main, "hang")
		g.s.add(at+g.between(time.Second, 50*time.Second), "app", main, "wake")
	case 5: // cut off from the watchers, from its replicas, or from all
		g.s.add(at, "cut", main, g.one("*", "*", strings.Join(g.watchers, ","), strings.Join(g.watchers[1:], ","), strings.Join(g.apps, ",")), g.long())
	case 6, 7, 8:
		g.s.add(at, g.switchover()...)
	case 9: // flaps
		for range 3 + g.IntN(5) {
			g.s.add(at, "app", main, g.one("sick", "well", "kill", "boot", "hang", "wake"))
			at += g.between(500*time.Millisecond, 6*time.Second)
		}
	case 10:
		g.s.add(at, "app", main, "kill")
		g.s.add(at+g.between(0, 3*time.Second), "app", main, "empty")
		g.s.add(at+g.between(3*time.Second, 9*time.Second), "app", main, "boot")
	case 11:
		g.s.add(at, g.order()...)
	case 12: // there and back again
		g.s.add(at, "app", main, "kill")
		g.s.add(at+g.between(8*time.Second, 20*time.Second), "app", main, "boot")
		g.s.add(at+g.between(20*time.Second, 30*time.Second), "app", main, "rebuild")
		g.s.add(at+g.between(25*time.Second, 50*time.Second), "order", g.one(g.watchers...), "switchover", main)
	case 13: // only some see it
		seen := g.Perm(len(g.watchers))
		for _, i := range seen[:1+g.IntN(len(seen)-1)] {
			g.s.add(at+g.between(0, 2*time.Second), "cut", g.watchers[i], main, g.long())
		}
		g.s.add(at+g.between(3*time.Second, 12*time.Second), "crash", g.one(g.watchers...), "300ms")
	}
	g.troubles(at)
}

func (g *author) troubles(at time.Duration) {
	for range g.IntN(7) {
		g.trouble(at + g.between(-3*time.Second, 25*time.Second))
	}
}

// rare is one thing that matters and that chance would seldom put together.
func (g *author) rare(at time.Duration) {
	w, second := g.one(g.watchers...), time.Second
	other := g.apps[len(g.apps)-1]
	order := func(after, most time.Duration, words ...string) {
		g.s.add(at+g.between(after, most), append([]string{"order", g.one(g.watchers...)}, words...)...)
	}
	switch g.IntN(14) {
	case 0: // a snapshot is put back, of before a switchover or of its middle
		g.s.add(at-g.between(0, 2*second), "save", w)
		if g.once(2) {
			g.s.add(at-second, "trap", g.one(points...), g.one("before", "after"), "save", "leader")
		}
		if g.once(2) {
			g.s.add(at, g.oneOf(g.switchover(), []string{"app", "main", "kill"})...)
		}
		order(2*second, 20*second, "restore", g.one("undo", "keep", ""))
		order(21*second, 30*second, "ack")
		order(30*second, 45*second, g.one("ack", "resume", "abort"))
	case 1: // the quorum is lost for good
		kept := w
		if len(g.watchers) == 5 && g.once(2) || g.once(8) { // too many, or one that is none, is refused
			kept += "," + g.one(append(g.watchers, "w6")...) + g.one("", "", ","+g.one(g.watchers...))
		}
		if !g.once(3) {
			g.s.add(at, g.oneOf(g.switchover(), []string{"app", "main", "kill"})...)
		}
		recovery := []string{"recover", kept, g.one("undo", "keep", "keep", "")}
		if g.once(2) {
			g.s.add(at-second, append([]string{"trap", g.one(points...), g.one("before", "after")}, recovery...)...)
		} else {
			g.s.add(at+g.between(0, 12*second), recovery...)
		}
		for range 2 {
			g.s.add(at+g.between(13*second, 40*second), "order", w, "ack")
			g.s.add(at+g.between(13*second, 40*second), "order", w, "add", g.one(append(g.watchers, "w6")...))
		}
	case 2: // few are heard
		for _, i := range g.Perm(len(g.watchers))[:len(g.watchers)/2+1] {
			g.s.add(at+g.between(0, second), "overdue", g.watchers[i], g.between(5*second, 20*second).Round(time.Millisecond).String())
		}
		for range 2 {
			g.s.add(at+g.between(2*second, 9*second), g.switchover()...)
		}
		g.s.add(at+g.between(0, 5*second), g.oneOf([]string{"app", "main", "kill"}, g.order())...)
	case 3: // watchers come and go
		name := g.one(append(g.watchers, "w6", "w6", "w7")...)
		if !g.once(3) {
			order(0, second, "remove", name)
		}
		order(2*second, 4*second, "add", name)
		for range 3 {
			order(3*second, 12*second, g.one("transfer", "remove", "bind", "add"), g.one(name, name, "w7", w))
		}
	case 4: // the old main is made good by order
		g.s.add(at, "app", "main", "kill")
		g.s.add(at+g.between(5*second, 15*second), "app", "main", "boot")
		if g.once(3) {
			g.s.add(at, "fault", "main", "reprotect", g.one("fail", "hang", "deaf", "half"), "0s", "1")
		}
		for range 2 {
			order(15*second, 40*second, "reprotect", g.one("", "main", other), g.one("", "force"))
		}
	case 5: // the promotion fails, meanwhile the main comes back, and it cannot be fenced
		g.s.add(at-second, "fault", g.one("standby", other), "promote", g.one("fail", "hang", "deaf"), "0s", g.one("2", "3", "5"))
		g.s.add(at-second, "fault", "main", "freeze", g.one("fail", "fail", "hang"), "0s", g.one("5", "20", "40"))
		g.s.add(at, "app", "main", "kill")
		g.s.add(at+g.between(3*second, 40*second), "app", "main", "boot")
	case 6: // a person helps one that is halted
		g.s.add(at-second, "fault", g.one(g.apps...), g.one("promote", "off"), "fail", "0s", g.one("5", "9"))
		g.s.add(at, g.oneOf(g.switchover(), []string{"app", "main", "kill"})...)
		for range 3 {
			order(5*second, 30*second, g.one("retry", "skip"))
		}
	case 7: // a rehearsal finds a fault
		g.s.add(at-second, "rehearse", w, g.one("standby", other), g.long())
		g.s.add(at+g.between(0, 10*second), g.oneOf(g.switchover(), []string{"app", "main", "kill"})...)
	case 8: // watchers are retired one after the other, the last one too
		for i := range g.watchers {
			g.s.add(at+time.Duration(i)*3*second, "order", g.watchers[len(g.watchers)-1], "remove", g.watchers[i])
		}
	case 9: // a policy leaves out what is in use
		g.s.add(at, "order", w, "switchover", other)
		order(8*second, 30*second, "policy", "apps", "2")
	case 10: // signals, while nobody knows how the main is
		some := len(g.watchers) / 2
		if g.once(2) {
			g.s.add(at, "cut", "main", strings.Join(g.watchers[:some], ","), g.long())
			g.s.add(at, "overdue", g.watchers[some], g.long())
		} else {
			g.s.add(at, "app", "main", g.one("kill", "sick"))
		}
		for range 2 {
			order(0, 6*second, "switchover", "signal")
		}
		g.s.add(at+g.between(3*second, 20*second), "app", "main", g.one("boot", "well"))
	case 11: // leadership is handed on while hooks run
		step, when := string(failover.Plan[g.IntN(len(failover.Plan))]), g.one("before", "after")
		g.s.set("hooks", step+":"+when)
		g.s.add(at-second, "fault", "hook", step+":"+when, "slow", "5s", "3")
		g.s.add(at-second, "trap", map[string]string{"before": "start:", "after": "start:after:"}[when]+step, "after", "transfer")
		g.s.add(at, g.oneOf(g.switchover(), []string{"app", "main", "kill"})...)
	case 12: // it has to be taken back, and that fails
		g.s.add(at-second, "fault", g.one("standby", other), "stop", g.one("lie", "lie", "hang"), "0s", "3")
		for _, verb := range []string{"resume", "unfreeze", "off"} {
			g.s.add(at-second, "fault", g.one("main", "standby", other), verb, g.one("fail", "fail", "hang", "lie"), "0s", g.one("3", "7"))
		}
		g.s.add(at, g.switchover()...)
	case 13: // a failover begins that all watchers have to agree on, and then one of them sees nothing
		g.s.set("quorum", fmt.Sprint(len(g.watchers)))
		g.s.add(at, "app", "main", "kill")
		g.s.add(at-second, "trap", g.one("start:maintenance-on", "start:freeze", "ended:freeze"), "after", "overdue", w, "50s")
	}
}

func (g *author) switchover() []string {
	words := []string{"order", g.one(g.watchers...), "switchover"}
	if g.once(2) {
		words = append(words, g.one(g.apps...))
	}
	if g.once(4) {
		words = append(words, "force")
	}
	if g.once(5) {
		words = append(words, "signal")
	}
	return words
}

func (g *author) order() []string {
	words := []string{"order", g.one(g.watchers...)}
	if g.once(6) {
		return append(append(words, g.anyOrder()...), "again")
	}
	return append(words, g.anyOrder()...)
}

func (g *author) anyOrder() []string {
	var words []string
	switch g.IntN(13) {
	case 11:
		return append(words, "reprotect", g.one(append(g.apps, "")...), g.one("", "force"))
	case 12:
		return append(words, "switchover", "nobody")
	case 9:
		return append(words, "remove", g.one(g.watchers...))
	case 10:
		return append(words, "add", g.one(append(g.watchers, "w6", "w7")...))
	case 0:
		return g.switchover()[2:]
	case 1:
		return append(words, "abort")
	case 2:
		return append(words, "retry")
	case 3:
		return append(words, "skip")
	case 4:
		return append(words, "ack")
	case 5:
		return append(words, "pause", g.one("0s", "5s", "30s"))
	case 6:
		return append(words, "resume")
	case 7:
		return append(words, "transfer", g.one(append(g.watchers, "")...))
	}
	name := g.one("mode", "confirm", "cooldown", "fence", "lag", "tries", "quorum", "apps", "twin")
	value := map[string][]string{"mode": {"automatic", "observe", "manual"}, "confirm": {"0s", "5s"}, "cooldown": {"0s", "1m0s"}, "fence": {"auto", "never"},
		"lag": {"1s", "30s"}, "tries": {"1", "2"}, "quorum": {"0", "3"},
		"apps": {"2"}, "twin": {"yes", "no"}}[name]
	return append(words, "policy", name, g.one(value...), g.one("", "", "", "stale"))
}

// points are places in the runner's journal where a leader may be made to crash.
var points = []string{"any", "any", "start:maintenance-on", "start:freeze", "start:catch-up", "start:stop-replication", "start:promote", "start:promote",
	"start:maintenance-off", "ended:maintenance-on", "ended:freeze", "ended:catch-up", "ended:stop-replication", "ended:promote", "ended:maintenance-off",
	"start:undo:maintenance-on", "start:undo:freeze", "start:undo:stop-replication", "ended:undo:freeze", "start:keep:database", "start:keep:maintenance",
	"ended:keep:database", "start:release:database", "start:release:maintenance", "start:release:replication"}

var faultyVerbs = []string{"on", "off", "freeze", "unfreeze", "promote", "stop", "resume", "catch_up", "check", "role", "reprotect"}

// trouble is one thing that goes wrong.
func (g *author) trouble(at time.Duration) {
	w, a := g.one(g.watchers...), g.one(g.apps...)
	switch g.IntN(20) {
	case 19:
		g.s.add(at, g.one("overdue", "disk"), w, g.long())
	case 18:
		g.s.add(at, "rehearse", w, a, g.long())
	case 17:
		g.s.add(at, "lack", w, g.long())
	case 0:
		g.s.add(at, "crash", w, g.one(g.short(), g.long()))
	case 1, 2, 14:
		g.s.add(at, append([]string{"trap", g.one(points...), g.one("before", "after")}, g.sprung()...)...)
	case 3, 4:
		g.s.add(at, "pause", w, g.one(g.short(), g.short(), g.long()))
	case 5:
		g.s.add(at, "cut", w, g.one("*", g.one(g.watchers...), g.one(g.apps...)), g.one(g.short(), g.long()))
	case 6:
		g.s.add(at, "mute", w, g.one("*", g.one(g.watchers...)), g.one(g.short(), g.long()))
	case 7:
		g.s.add(at, "mute", g.one("*", g.one(g.watchers...)), w, g.one(g.short(), g.long()))
	case 8:
		g.s.add(at, "slow", w, g.one("50ms", "300ms", "2s"), g.long())
	case 9:
		g.s.add(at, "clock", w, g.one("3s", "-3s", "30s", "-1h0m0s"))
	case 10, 11, 12:
		verb := g.one(faultyVerbs...)
		g.s.add(at, "fault", a, verb, g.one("fail", "fail", "lie", "deaf", "hang", "half", "late", "slow"), g.one(g.short(), g.long()), g.one("1", "1", "2", "5"))
	case 13:
		g.s.add(at, g.order()...)
	case 16:
		g.s.add(at, "app", a, g.one("kill", "boot", "boot", "sick", "well", "hang", "wake", "rebuild", "rebuild", "close"))
	case 15:
		if hooks := g.s.get("hooks"); hooks != "" {
			g.s.add(at, "fault", "hook", g.one(strings.Split(hooks, ",")...), g.one("fail", "hang", "slow"), g.long(), g.one("1", "3", "9"))
		} else {
			g.s.add(at, "transfer", w)
		}
	}
}

// sprung is what happens at a point of a leader's journal.
func (g *author) sprung() []string {
	switch g.IntN(11) {
	case 10:
		return []string{"transfer", ""}
	case 0, 1, 2:
		return []string{"crash", "leader", g.one(g.short(), g.long())}
	case 3, 4:
		return []string{"pause", "leader", g.one(g.short(), g.long())}
	case 5:
		return []string{"cut", "leader", g.one("*", g.one(g.watchers...), g.one(g.apps...)), g.one(g.short(), g.long())}
	case 6, 7:
		return []string{"app", g.one(g.apps...), g.one("kill", "boot", "boot", "reboot", "reboot", "well", "wake", "hang")}
	}
	words := g.order()
	words[1] = "leader"
	return words
}
