package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// program is one run of a hook or an action under its guard: it ends by itself, at its deadline, or with its watcher.
type program struct {
	call  *call
	n     *watcher
	a     *app
	verb  string
	step  failover.StepName
	token uint64
	began time.Duration
	does  *fault // what goes wrong; nil: nothing
	over  bool
}

// fault is something that goes wrong with the next runs of a verb on an app.
type fault struct {
	kind  string // fail, lie, deaf, hang, half, late, slow
	d     time.Duration
	times int
}

// programDelay is how long a program takes at most, unless the script says otherwise.
const programDelay = 30 * time.Millisecond

// parts of an app that verbs act on; the others only look.
var changes = map[string]failover.Part{
	"on": failover.PartMaintenance, "off": failover.PartMaintenance,
	"freeze": failover.PartDatabase, "unfreeze": failover.PartDatabase, "promote": failover.PartDatabase,
	"stop": failover.PartReplication, "resume": failover.PartReplication, "reprotect": failover.PartDatabase,
}

func variable(env []string, name string) string {
	for _, pair := range env {
		if value, ok := strings.CutPrefix(pair, "WATCHOVER_"+name+"="); ok {
			return value
		}
	}
	return ""
}

func (w *world) startProgram(c *call) {
	p := &program{call: c, n: c.life.n, verb: c.process.Argv[2], began: w.now(), step: failover.StepName(variable(c.process.Env, "STEP"))}
	p.a = w.app(c.process.Argv[1])
	p.token, _ = strconv.ParseUint(variable(c.process.Env, "TOKEN"), 10, 64)
	if c.ctx.Err() != nil {
		w.resume(c, reply{code: -1, err: errKilled}) // a guard starts nothing after its deadline
		return
	}
	w.stats.Programs++
	w.active = append(w.active, p)
	if deadline, ok := c.ctx.Deadline(); ok {
		w.after(time.Until(deadline), func() { p.kill("its time was over") })
	}
	if changes[p.verb] != "" {
		w.log.judge.begins(p)
	}
	key := c.process.Argv[1] + " " + p.verb
	if list := w.faults[key]; len(list) > 0 {
		p.does = list[0]
		if p.does.times--; p.does.times <= 0 {
			w.faults[key] = list[1:]
			if len(list) == 1 {
				delete(w.faults, key)
			}
		}
	}
	p.live()
}

// live is the program's own life.
func (p *program) live() {
	w := p.n.w
	takes := w.delay("program", w.pace)
	kind := ""
	if p.does != nil {
		kind = p.does.kind
	}
	switch kind {
	case "hang":
		return
	case "slow":
		takes += p.does.d
	case "half":
		w.after(takes, func() {
			if !p.over && p.answered() == answerGood {
				p.act()
			}
		})
		return
	case "late": // its request is on the way, whatever becomes of the program
		w.after(takes+p.does.d, func() {
			if w.answers(p.n, p.a) == answerGood {
				p.act()
			}
		})
		return
	}
	w.after(takes, p.finish)
}

func (p *program) answered() answer {
	if p.a == nil {
		return answerGood
	}
	return p.n.w.answers(p.n, p.a)
}

// finish is the program's regular end; one that gets no answer waits on.
func (p *program) finish() {
	if p.over {
		return
	}
	switch p.answered() {
	case answerNone:
		p.n.w.after(200*time.Millisecond, p.finish)
		return
	case answerRefused:
		p.end(2, "connection refused")
		return
	}
	if p.does != nil {
		switch p.does.kind {
		case "fail":
			p.end(3, "broken")
			return
		case "deaf":
			p.end(0, "did nothing")
			return
		case "lie":
			p.act()
			p.end(3, "did it and says that it did not")
			return
		}
	}
	if p.verb == "catch_up" && !p.a.db.caughtUp() {
		p.n.w.after(200*time.Millisecond, p.finish)
		return
	}
	code, output := p.act()
	p.end(code, output)
}

func (d *database) caughtUp() bool {
	return d.primary || d.streams() && len(d.log) == len(d.from.log)
}

// act does what the verb says, at the app.
func (p *program) act() (code int, output string) {
	a := p.a
	if a == nil {
		return 0, "hook ran"
	}
	part := changes[p.verb]
	switch {
	case p.verb == "check" && !a.closed:
		return 1, ""
	case p.verb == "check" || p.verb == "catch_up":
		return 0, ""
	case p.verb == "role":
		p.n.w.log.judge.told(p)
		return 0, a.db.words()
	case a.w.script.yes("tokens") && p.token < a.tokens[part]:
		a.w.tell("%s refuses %s of %s: token %d is lower than %d", a.name, p.verb, p.n.name, p.token, a.tokens[part])
		return 4, "an older token"
	}
	p.n.w.log.judge.acts(p)
	a.tokens[part] = max(a.tokens[part], p.token)
	a.hands = append(a.hands, hand{at: a.w.now(), verb: p.verb, token: p.token, watcher: p.n.name, step: p.step, late: p.over})
	a.w.tell("%s %s on %s (token %d, step %s)", p.n.name, p.verb, a.name, p.token, p.step)
	if p.verb == "reprotect" {
		return a.follow(a.w.app(variable(p.call.process.Env, "TO")))
	}
	return a.turn(p.verb)
}

func (a *app) turn(verb string) (code int, output string) {
	switch verb {
	case "on":
		a.closed = true
	case "off":
		a.closed = false
	case "freeze":
		a.db.frozen, a.untold = true, false
	case "unfreeze":
		a.db.frozen = false
	case "stop":
		a.db.on = false
	case "resume":
		a.db.on = true
	case "promote":
		if !a.db.primary {
			a.db.primary, a.db.on = true, false
			a.db.line++
		}
	}
	a.w.restream()
	return 0, "done"
}

// follow makes an app's database a replica of another one's.
func (a *app) follow(writer *app) (code int, output string) {
	if writer == nil || writer == a || writer.dead || writer.hung || !writer.db.primary {
		return 5, "there is no primary to follow"
	}
	a.db.rebuild(writer.db)
	return 0, "done"
}

// end tells the watcher how it went.
func (p *program) end(code int, output string) { p.leave(reply{output: []byte(output), code: code}) }

func (p *program) kill(why string) {
	if p.over {
		return
	}
	if changes[p.verb] != "" || p.a == nil {
		p.n.w.tell("%s of %s is killed: %s", p.title(), p.n.name, why)
	}
	p.leave(reply{code: -1, err: errKilled})
}

func (p *program) leave(r reply) {
	w := p.n.w
	p.over = true
	if p.verb == "role" && (r.err != nil || r.code != 0) {
		w.log.judge.untold(p)
	}
	w.active = slices.DeleteFunc(w.active, func(other *program) bool { return other == p })
	if p.n.life != p.call.life {
		w.resume(p.call, r)
		return
	}
	p.n.do(p.call.life, func() { w.resume(p.call, r) })
}

func (p *program) title() string {
	if p.a == nil {
		return "hook " + p.verb
	}
	return fmt.Sprintf("%s on %s", p.verb, p.a.name)
}

// killCancelled ends programs whose attempt was called off.
func (w *world) killCancelled() {
	for _, p := range slices.Clone(w.active) {
		if p.call.ctx.Err() != nil && !p.n.paused {
			p.kill("it was called off")
			if w.broken != nil {
				return
			}
		}
	}
}
