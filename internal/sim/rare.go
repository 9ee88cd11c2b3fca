package sim

import (
	"fmt"
	"strings"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// rare is one thing that matters and that chance would seldom put together.
func (g *author) rare(at time.Duration) {
	w, second := g.one(g.watchers...), time.Second
	other := g.apps[len(g.apps)-1]
	order := func(after, most time.Duration, words ...string) {
		g.s.add(at+g.between(after, most), append([]string{"order", g.one(g.watchers...)}, words...)...)
	}
	switch g.IntN(15) {
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
	case 14: // what could not be taken back is, slowly, while the app that is being opened goes down and the leader stands still
		g.s.set("tries", "1")
		g.s.set("confirm", "0s")
		g.s.set("database", g.one("no", "no", "no", "yes"))
		close, open := "on", "off"
		if g.s.yes("database") && g.once(2) {
			close, open = "freeze", "unfreeze"
		}
		g.s.add(at-second, "fault", "main", close, "lie", "0s", "1")
		g.s.add(at-second, "fault", "main", open, "fail", "0s", "1")
		g.s.add(at-second+time.Millisecond, "fault", "main", open, "slow", g.between(5*second, 9*second).Round(time.Millisecond).String(), "2")
		g.s.add(at, "order", w, "switchover", other)
		g.s.add(at+g.between(0, 4*second), "app", "main", g.one("sick", "sick", "kill", "hang"))
		g.s.add(at+g.between(second/5, 2*second), g.one("pause", "pause", "crash"), g.one(g.watchers...), g.long())
	case 13: // a failover begins that all watchers have to agree on, and then one of them sees nothing
		g.s.set("quorum", fmt.Sprint(len(g.watchers)))
		g.s.add(at, "app", "main", "kill")
		g.s.add(at-second, "trap", g.one("start:maintenance-on", "start:freeze", "ended:freeze"), "after", "overdue", w, "50s")
	}
}
