package failover

import (
	"fmt"
	"strings"
	"time"
)

// verbs are the commands of a script. Each says in its comment how it is written.
var verbs map[string]func(s *script, a *args, r *Result) string

func init() {
	verbs = map[string]func(s *script, a *args, r *Result) string{
		// init [watchers=3] [PLOT]: the first entry. PLOT is what `policy` takes.
		"init": func(s *script, a *args, r *Result) string {
			s.readPlot(a)
			s.plot.watchers = a.number("watchers", 3)
			*r = s.init(s.plot)
			return ""
		},
		// policy [revision=N] [PLOT]: proposes a changed policy to whoever has seen revision N.
		"policy": func(s *script, a *args, r *Result) string {
			old := s.plot
			s.readPlot(a)
			*r = s.apply(Command{By: "uid:1000", SetPolicy: &SetPolicy{Revision: uint64(a.number("revision", int(s.s.PolicyRevision))), Policy: s.plot.policy()}})
			if !r.Accepted {
				s.plot = old
			}
			return ""
		},
		// tick [fresh=w1,w2]: the leader tells whom it hears. From then on every entry carries that list.
		"tick": func(s *script, a *args, r *Result) string {
			s.fresh = a.list("fresh", s.fresh)
			*r = s.apply(Command{Tick: &Tick{}})
			return ""
		},
		// term N [fresh=w1,w2]: a new leader is elected and says whom it hears.
		"term": func(s *script, a *args, r *Result) string {
			s.term = uint64(a.number("n", int(s.term)+1))
			s.fresh = a.list("fresh", s.fresh)
			*r = s.apply(Command{Tick: &Tick{}})
			return ""
		},
		// old-term COMMAND: what the leader of the term before proposed lands in this one.
		"old-term": func(s *script, a *args, r *Result) string {
			c := Command{Term: s.term - 1, By: "uid:1000"}
			switch a.word(0) {
			case "request":
				c.Request = &Request{Group: "shop"}
			case "reports":
				v := s.saw("shop", "main", VerdictDown)
				c.Reports = &Reports{Reports: s.reports(memberNames(s.s.Members), "shop", "main", v)}
			case "due":
				c.Due = &Due{Key: s.key(a.word(1))}
			}
			*r = s.apply(c)
			return ""
		},
		// clock T: the leader's clock jumps to this time of the day, in UTC.
		"clock": func(s *script, a *args, _ *Result) string {
			t, err := time.Parse(time.TimeOnly, a.word(0))
			if err != nil {
				s.t.Fatal(err)
			}
			s.clock = dawn.Truncate(24 * time.Hour).Add(t.Sub(t.Truncate(24 * time.Hour)))
			return ""
		},
		"all-up":    func(s *script, _ *args, _ *Result) string { s.allUp(); return "" },
		"report":    (*script).report,
		"about":     (*script).about,
		"reprotect": (*script).reprotect,
		"due":       func(s *script, a *args, r *Result) string { *r = s.due(a.word(0)); return "" },
		"request":   (*script).request,
		"dry-run":   (*script).dryRun,
		"abort":     (*script).order,
		"ack":       (*script).order,
		"resume":    (*script).order,
		"pause":     (*script).order,
		"retry":     (*script).order,
		"start":     (*script).startStep,
		"done":      (*script).endStep,
		"fail":      (*script).endStep,
		"interrupt": (*script).endStep,
		// done-untold STEP: it ended well by its own word, but the database does not tell.
		"done-untold": func(s *script, a *args, r *Result) string {
			e := s.ended(StepName(a.word(0)), OutcomeDone, "")
			e.Untold = true
			*r = s.apply(Command{Journal: &Journal{Ended: []Ended{e}}})
			return ""
		},
		"keep": (*script).keep,
		// start-heard STEP fresh=w1: begins a step with an entry that carries another list of watchers heard.
		"start-heard": func(s *script, a *args, r *Result) string {
			fresh := s.fresh
			s.fresh = a.list("fresh", fresh)
			*r = s.start(StepName(a.word(0)), nil, nil)
			s.fresh = fresh
			return ""
		},
		"did":        (*script).didSteps,
		"explain":    (*script).explain,
		"history":    (*script).history,
		"serial":     func(s *script, _ *args, _ *Result) string { return fmt.Sprintf("serial %d", s.s.Serial) },
		"again":      (*script).again,
		"end-tokens": (*script).oldToken,
	}
	memberVerbs()
}

// readPlot takes: groups=shop,blog apps=main,standby database shared no-maintenance=main probe=URL mode= quorum=
// confirm= cooldown= fence= max-bytes= max-time= ttl= tries= hooks=STEP:before,STEP:after address=.
func (s *script) readPlot(a *args) {
	p := &s.plot
	p.groups, p.apps = a.list("groups", p.groups), a.list("apps", p.apps)
	p.database = p.database || a.has("database")
	p.shared = p.shared || a.has("shared")
	p.noMaintenance, p.hooks = a.list("no-maintenance", p.noMaintenance), a.list("hooks", p.hooks)
	p.probeURL, p.address = a.get("probe", p.probeURL), a.get("address", p.address)
	p.ttl, p.tries = a.duration("ttl", p.ttl), a.number("tries", p.tries)
	rules := &p.rules
	rules.Mode, rules.RequireFence = Mode(a.get("mode", string(rules.Mode))), Fence(a.get("fence", string(rules.RequireFence)))
	rules.Quorum = a.number("quorum", rules.Quorum)
	rules.ConfirmFor, rules.Cooldown = a.duration("confirm", rules.ConfirmFor), a.duration("cooldown", rules.Cooldown)
	rules.MaxLag.Bytes = int64(a.number("max-bytes", int(rules.MaxLag.Bytes)))
	rules.MaxLag.Time = a.duration("max-time", rules.MaxLag.Time)
}

// report WATCHERS APP VERDICT [REASON] [untrusted] [group=shop] [old] [revision=N] [maintenance=on] and, of the database: [role=]
// [frozen] [not-streaming] [id=] [timeline=] [bytes=] [lag=] [risk=] [until-outage=no] [unseen]. WATCHERS is "all" or w1,w2.
func (s *script) report(a *args, r *Result) string {
	watchers := strings.Split(a.word(0), ",")
	if a.word(0) == "all" {
		watchers = memberNames(s.s.Members)
	}
	group := a.get("group", "shop")
	v := s.saw(group, a.word(1), Verdict(a.word(2)))
	v.old, v.untrusted = a.has("old"), a.has("untrusted")
	v.revision = uint64(a.number("revision", int(v.revision)))
	v.maintenance = Switch(a.get("maintenance", string(v.maintenance)))
	v.database = readSight(a, v.database)
	if len(a.words) > 3 && !a.used[a.words[3]] {
		v.reason = a.word(3)
	}
	*r = s.apply(Command{Reports: &Reports{Reports: s.reports(watchers, group, a.word(1), v)}})
	return ""
}

// readSight changes the usual sight of a database by what the command says of it.
func readSight(a *args, usual *Observation) *Observation {
	if a.has("unseen") {
		return nil
	}
	o := Observation{Role: RoleUnknown}
	switch role := a.get("role", ""); {
	case role == string(RoleReplica):
		o = *replica()
	case role != "":
		o = Observation{Role: Role(role), ID: "db1", Timeline: 1}
	case usual == nil:
		return nil
	default:
		o = *usual
	}
	o.Frozen = a.has("frozen")
	o.Streaming = o.Streaming && !a.has("not-streaming")
	o.UntilOutage = o.UntilOutage && a.get("until-outage", "yes") == "yes"
	o.ID = a.get("id", o.ID)
	o.Timeline = uint64(a.number("timeline", int(o.Timeline)))
	if n := a.number("bytes", -1); n >= 0 {
		bytes := int64(n)
		o.LagBytes = &bytes
	}
	if d := a.duration("lag", -1); d >= 0 {
		x := d.Seconds()
		o.LagSeconds = &x
	}
	if d := a.duration("risk", -1); d >= 0 {
		x := d.Seconds()
		o.RiskSeconds = &x
	}
	if a.has("lag-unknown") {
		o.LagBytes, o.LagSeconds, o.RiskSeconds = nil, nil, nil
	}
	return &o
}

// about WATCHERS [served] [missing=FILE] [fault=APP] [group=shop]: what watchers say of themselves.
func (s *script) about(a *args, r *Result) string {
	about := map[string]About{}
	for _, name := range strings.Split(a.word(0), ",") {
		s.seq++
		said := About{Boot: uint64(a.number("boot", 1)), Seq: s.seq}
		if a.has("served") {
			said.Served = s.s.ZoneIndex()
		}
		if file := a.get("missing", ""); file != "" {
			said.Missing = []MissingFile{{Group: a.get("group", "shop"), File: file}}
		}
		if app := a.get("fault", ""); app != "" {
			said.Faults = []Fault{{Group: a.get("group", "shop"), App: app, Detail: "privileges: may not promote"}}
		}
		about[name] = said
	}
	*r = s.apply(Command{Reports: &Reports{About: about}})
	return ""
}

// reprotect [app=APP] [force] [by=uid:1000].
func (s *script) reprotect(a *args, r *Result) string {
	*r = s.apply(Command{By: a.get("by", "uid:1000"), Reprotect: &ReprotectOrder{Group: "shop", App: a.get("app", ""), Force: a.has("force")}})
	return ""
}

// request [to=APP] [force] [signal] [by=uid:1000] [group=shop] [id=ID].
func (s *script) request(a *args, r *Result) string {
	by := "uid:1000"
	if a.has("signal") {
		by = "signal:w1"
	}
	*r = s.apply(Command{ID: a.get("id", ""), By: a.get("by", by), Request: s.asked(a)})
	return ""
}

func (s *script) asked(a *args) *Request {
	return &Request{Group: a.get("group", "shop"), To: a.get("to", ""), Force: a.has("force"), Signal: a.has("signal")}
}

// dry-run takes what request takes and changes nothing.
func (s *script) dryRun(a *args, r *Result) string {
	d, answer := s.s.DryRun(*s.asked(a))
	*r = answer
	var names []string
	for _, step := range d.Steps {
		names = append(names, fmt.Sprintf("%s on %s (%s)", step.Name, step.App, step.State))
	}
	if !answer.Accepted {
		return ""
	}
	return fmt.Sprintf("kind %q to %q already %v refused %q, %s\n%s", d.Kind, d.To, d.Already, d.Refused, riskText(d.AtRisk), strings.Join(names, ", "))
}

// abort, ack, resume [group=shop]; pause [for=2h] [reason=TEXT] [group=] [signal]; retry [skip]; all: [by=uid:1000].
func (s *script) order(a *args, r *Result) string {
	c := Command{By: a.get("by", "uid:1000")}
	group := a.get("group", "shop")
	switch a.verb {
	case "abort":
		c.Abort = &GroupOrder{Group: group}
	case "ack":
		c.Ack = &GroupOrder{Group: group}
	case "resume":
		c.Resume = &GroupOrder{Group: group}
	case "pause":
		c.Pause = &PauseOrder{Group: group, For: a.duration("for", 0), Reason: a.get("reason", ""), Signal: a.has("signal")}
	case "retry":
		c.Retry = &RetryOrder{Group: group, Skip: a.has("skip")}
	}
	*r = s.apply(c)
	return ""
}

// start STEP [from=primary|frozen|replica|open] [to=streaming|unseen] [prior=TEXT]: begins what Next offers, with what is seen of the
// databases; open is the old app, out of maintenance.
func (s *script) startStep(a *args, r *Result) string {
	var from, to *Observation
	switch a.get("from", "") {
	case "primary":
		from = &Observation{Role: RolePrimary, ID: "db1", Timeline: 1}
	case "frozen":
		from = &Observation{Role: RolePrimary, ID: "db1", Timeline: 1, Frozen: true}
	case "replica":
		from = replica()
	}
	switch a.get("to", "") {
	case "streaming":
		to = replica()
	}
	s.open, s.unseen, s.prior = a.get("from", "") == "open", a.get("to", "") == "unseen", a.get("prior", "")
	*r = s.start(StepName(a.word(0)), from, to)
	s.open, s.unseen, s.prior = false, false, ""
	return ""
}

// done STEP, fail STEP ERROR, interrupt STEP: ends the open attempt; then=STEP begins another with the same entry.
func (s *script) endStep(a *args, r *Result) string {
	outcome := map[string]Outcome{"done": OutcomeDone, "fail": OutcomeFailed, "interrupt": OutcomeInterrupted}[a.verb]
	e := s.ended(StepName(a.word(0)), outcome, a.word(1))
	j := &Journal{Ended: []Ended{e}}
	if then := a.get("then", ""); then != "" {
		o := s.s.Groups["shop"].Switchover
		j.Start = &Start{Task: o.task(o.Step(StepName(then)), WorkAct)}
	}
	*r = s.apply(Command{Journal: j})
	return ""
}

// end-tokens STEP token=N: reports the end of an attempt that has been replaced.
func (s *script) oldToken(a *args, r *Result) string {
	e := s.ended(StepName(a.word(0)), OutcomeDone, "")
	e.Token = uint64(a.number("token", 0))
	*r = s.apply(Command{Journal: &Journal{Ended: []Ended{e}}})
	return ""
}

// keep start|done|fail|interrupt APP PART [ERROR]: an attempt to keep a marked app fenced or to open one again.
func (s *script) keep(a *args, r *Result) string {
	app, part := a.word(1), Part(a.word(2))
	var task Task
	for _, t := range s.s.Keep("shop") {
		if t.App == app && t.Part == part {
			task = t
		}
	}
	if a.word(0) == "start" {
		if task.App == "" {
			task = Task{Group: "shop", App: app, Part: part}
		}
		*r = s.apply(Command{Journal: &Journal{Start: &Start{Task: task}}})
		return ""
	}
	e := Ended{Task: Task{Group: "shop", App: app, Part: part}, Outcome: OutcomeDone}
	if state := s.s.Groups["shop"].Apps[app]; state.Release != nil && state.Release.Open != nil {
		e.Release, e.Token = true, state.Release.Open.Token
	} else if state.Mark != nil && state.Mark.Open != nil {
		e.Token = state.Mark.Open.Token
	}
	switch a.word(0) {
	case "fail":
		e.Outcome, e.Error = OutcomeFailed, a.word(3)
	case "interrupt":
		e.Outcome = OutcomeInterrupted
	}
	*r = s.apply(Command{Journal: &Journal{Ended: []Ended{e}}})
	return ""
}

// did STEP...: each is started, with the old database out of reach, and ends well.
func (s *script) didSteps(a *args, _ *Result) string {
	for i := range a.words {
		s.did(StepName(a.word(i)))
	}
	return ""
}

// again: the last command is proposed once more, as a client does that has heard no answer.
func (s *script) again(_ *args, r *Result) string {
	last := s.log[len(s.log)-1].Command
	last.Term = s.term
	*r = s.apply(last)
	return ""
}
