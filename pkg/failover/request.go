package failover

import (
	"fmt"
	"slices"
)

// wish is a request as far as the rules have judged it.
type wish struct {
	opening
	already bool
	refusal *Result
}

// request opens a switchover that a person asked for, in every mode, paused or not.
func (s *State) request(r *Request, by string) Result {
	g := s.Groups[r.Group]
	if g == nil {
		return noGroup(r.Group)
	}
	w := s.judge(g, r)
	switch {
	case w.refusal != nil:
		s.event("refused", g.Name, r.To, "switchover refused: "+w.refusal.Detail, map[string]string{"by": by, "rule": w.refusal.Rule})
		return *w.refusal
	case w.already:
		return Result{Accepted: true, Note: "already active"}
	}
	w.by = by
	w.cause = "asked for by " + by
	opened := s.open(g, w.opening)
	return Result{Accepted: true, Switchover: opened.ID}
}

// judge applies the rules for what a person asks. Never overridden: no quorum of watchers, an open switchover, a target
// that is not a replica of the same database.
func (s *State) judge(g *GroupState, r *Request) wish {
	p := s.Policy.Group(g.Name)
	no := func(code, rule, format string, args ...any) wish {
		refusal := refuse(code, rule, format, args...)
		return wish{refusal: &refusal}
	}
	if r.To != "" && p.App(r.To) == nil {
		return no(CodeInvalid, "app", "group %s has no app %q", g.Name, r.To)
	}
	if w := g.Switchover; w.Open() {
		rule := BlockOpen
		if w.Result == ResultHalted {
			rule = BlockHalted
		}
		return no(CodeRefused, rule, "switchover %d from %s to %s is %s", w.ID, w.From, w.To, w.Result)
	}
	if r.To == g.Active {
		return wish{already: true}
	}
	if g.Unconfirmed != nil {
		refusal := unconfirmed(g)
		return wish{refusal: &refusal}
	}
	if !s.HasQuorum() {
		return no(CodeRefused, BlockNoQuorum, "%d of %d watchers are heard, %d needed", len(s.Fresh), s.Voters(), s.Majority())
	}
	health := g.Apps[g.Active].Health
	if r.Signal && g.AskedEnd != nil {
		return no(CodeRefused, "signal_too_soon", "a switchover that was asked for ended less than %s ago", signalsApart)
	}
	if r.Signal && health == HealthUnknown {
		return no(CodeRefused, "health_unknown", "the health of %s is unknown; use watchover switchover", g.Active)
	}
	return s.judgeTarget(g, p, r, health, no)
}

func (s *State) judgeTarget(g *GroupState, p *Group, r *Request, health Health, no func(string, string, string, ...any) wish) wish {
	to := r.To
	if to == "" {
		to = s.target(g)
	}
	if to == "" && r.Force {
		to = s.leastUnfit(g, p)
	}
	if to == "" {
		return no(CodeRefused, BlockNoReadyTarget, "%s", s.readyTarget(g).Evidence)
	}
	if third := s.writableBeside(g, p, g.Active, g.Writer, to); third != "" && !r.Force && p.Failover.RequireFence != FenceNever {
		return no(CodeRefused, BlockRolesDisagree, "the database of %s is a writable primary too", third)
	}
	overridden := false
	for _, b := range g.Apps[to].NotReady {
		if !r.Force || neverOverridden(b.Code) {
			return no(CodeRefused, b.Code, "%s is not ready: %s", to, b.Detail)
		}
		overridden = true
	}
	kind := KindPlanned
	if health != HealthUp || overridden {
		kind = KindForced
	}
	return wish{opening: opening{kind: kind, to: to, force: r.Force && kind == KindForced}}
}

// leastUnfit is the first app in order of preference that force may move to.
func (s *State) leastUnfit(g *GroupState, p *Group) string {
	for _, app := range p.Apps {
		if app.Name == g.Active {
			continue
		}
		if !slices.ContainsFunc(g.Apps[app.Name].NotReady, func(b Blocker) bool { return neverOverridden(b.Code) }) {
			return app.Name
		}
	}
	return ""
}

// DryRun is what a request would do now.
type DryRun struct {
	Kind    Kind   `json:"kind"`
	To      string `json:"to"`
	Steps   []Step `json:"steps"`
	Refused string `json:"refused"` // "rule: detail"; empty when it would be allowed
	AtRisk  AtRisk `json:"at_risk"`
	Already bool   `json:"already_active"`
}

// DryRun judges a request without changing anything. An unknown group or app comes back as the refusal's code.
func (s *State) DryRun(r Request) (DryRun, Result) {
	g := s.Groups[r.Group]
	if g == nil {
		return DryRun{}, noGroup(r.Group)
	}
	p := s.Policy.Group(r.Group)
	w := s.judge(g, &r)
	if w.refusal != nil {
		if w.refusal.Code != CodeRefused {
			return DryRun{}, *w.refusal
		}
		return DryRun{To: r.To, Steps: []Step{}, Refused: fmt.Sprintf("%s: %s", w.refusal.Rule, w.refusal.Detail)}, Result{Accepted: true}
	}
	if w.already {
		return DryRun{To: g.Active, Steps: []Step{}, Already: true}, Result{Accepted: true, Note: "already active"}
	}
	return DryRun{Kind: w.kind, To: w.to, Steps: steps(p, g.Active, w.to), AtRisk: s.atRisk(g, p, w.to)}, Result{Accepted: true}
}

// abort takes back an open switchover before the point of no return.
func (s *State) abort(c *GroupOrder, by string) Result {
	g := s.Groups[c.Group]
	if g == nil {
		return noGroup(c.Group)
	}
	w := g.Switchover
	switch {
	case !w.Open():
		return refuse(CodeRefused, "not_open", "no switchover of %s is open", g.Name)
	case w.PastNoReturn():
		return refuse(CodeRefused, "past_no_return", "switchover %d is past the point of no return: %s is the writer", w.ID, g.Writer).
			hint("watchover retry " + g.Name + " tries the halted step now")
	case w.Undoing != "":
		w.Aborted = true // a person does not want it tried again
		return Result{Accepted: true, Switchover: w.ID, Note: "already being undone"}
	}
	w.Aborted = true
	s.undo(g, w, "aborted by "+by)
	return Result{Accepted: true, Switchover: w.ID}
}

// retry tries what is waiting now, or leaves the halted step out.
func (s *State) retry(c *RetryOrder, by string) Result {
	g := s.Groups[c.Group]
	if g == nil {
		return noGroup(c.Group)
	}
	w := g.Switchover
	if !w.Open() {
		return refuse(CodeRefused, "not_open", "no switchover of %s is open", g.Name)
	}
	if c.Skip && w.Result != ResultHalted {
		return refuse(CodeRefused, "not_halted", "switchover %d is not halted; only a halted step can be left out", w.ID)
	}
	done := false
	for i := range w.Steps {
		step := &w.Steps[i]
		if step.Waiting == 0 || step.Name == StepVerify {
			continue
		}
		done = true
		step.Waiting = 0
		if c.Skip && step.State == StepFailed {
			s.skipByHand(g, w, step, by)
		}
	}
	if !done {
		return refuse(CodeRefused, "nothing_waits", "no step of switchover %d waits to be tried again", w.ID).
			hint("an attempt may be running now; watchover status " + g.Name + " tells")
	}
	s.event("retry", g.Name, "", fmt.Sprintf("switchover %d goes on now", w.ID), map[string]string{"by": by})
	return Result{Accepted: true, Switchover: w.ID}
}

func (s *State) skipByHand(g *GroupState, w *Switchover, step *Step, by string) {
	what := fmt.Sprintf("%s on %s", step.Name, step.App)
	if step.Name == StepSwitchDNS {
		what = "the before hooks of switch-dns"
	}
	w.Exceptions = append(w.Exceptions, fmt.Sprintf("%s left out by %s: %s", what, by, step.Error))
	w.Result = ResultRunning
	s.event("step_skipped", g.Name, step.App, what+" left out by hand", map[string]string{"by": by})
	if step.Name == StepSwitchDNS {
		s.switchDNS(g, w) // the writer has moved, so the record must follow: only hooks can be left out
		return
	}
	step.State, step.Open, step.EndedAt = StepSkipped, "", at(s.Time)
}
