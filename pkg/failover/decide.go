package failover

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Blocker codes: why the automation would not act now.
const (
	BlockMode           = "mode"
	BlockPaused         = "paused"
	BlockOpen           = "open"
	BlockHalted         = "halted"
	BlockCooldown       = "cooldown"
	BlockConfirming     = "confirming"
	BlockNeverUp        = "never_up"
	BlockRolesDisagree  = "roles_disagree"
	BlockNoQuorum       = "no_quorum"
	BlockNoReadyTarget  = "no_ready_target"
	BlockSharedDatabase = "shared_database"
	BlockOutOfReach     = "database_alive_out_of_reach"
	BlockMissingFile    = "missing_file"
)

// ConditionActiveDown is the one condition whose not being met is no blocker: the active app is well.
const ConditionActiveDown = "active_down"

// Condition is one thing that must hold for the cluster to switch by itself.
type Condition struct {
	Code     string    `json:"code"`
	Met      bool      `json:"met"`
	Evidence string    `json:"evidence"`
	Since    time.Time `json:"since"`
}

// Explanation is the whole rule as it stands.
type Explanation struct {
	WouldSwitch bool        `json:"would_switch"`
	Conditions  []Condition `json:"conditions"`
}

// Explain tells why a group is or is not moved now. It is the very rule that decides.
func (s *State) Explain(group string) (Explanation, bool) {
	g := s.Groups[group]
	if g == nil {
		return Explanation{}, false
	}
	conditions := s.conditions(g, s.writerIDs())
	return Explanation{WouldSwitch: allMet(conditions), Conditions: conditions}, true
}

// conditions is THE rule: the quorum opens a switchover when every one of them is met.
func (s *State) conditions(g *GroupState, ids map[string][]string) []Condition {
	p := s.Policy.Group(g.Name)
	list := []Condition{
		s.activeDown(g, p),
		condition(BlockMode, p.Failover.Mode == ModeAutomatic, "mode is %s", p.Failover.Mode),
		pausedCondition(g),
		s.quorumHeard(p),
		openCondition(g),
		haltedCondition(g),
		cooldownCondition(g),
		condition(BlockNeverUp, g.UpOnce, "%s", map[bool]string{
			true:  g.Active + " was up by quorum",
			false: g.Active + " has not been up by quorum since it became active or its probes changed"}[g.UpOnce]),
		s.rolesAgree(g, p),
		s.databaseOwn(g, p, ids),
		condition(BlockOutOfReach, g.OutOfReach == "", "%s", orElse(g.OutOfReach, "no promotion was held back")),
		s.filesPresent(g),
		s.readyTarget(g),
		confirmingCondition(g, p),
	}
	for i := range list {
		list[i].Since = s.since(g, list[i])
	}
	return list
}

func condition(code string, met bool, format string, args ...any) Condition {
	return Condition{Code: code, Met: met, Evidence: fmt.Sprintf(format, args...)}
}

func (s *State) activeDown(g *GroupState, p *Group) Condition {
	a := g.Apps[g.Active]
	down := s.count(a, VerdictDown)
	evidence := fmt.Sprintf("%s is %s: %d of %d watchers find it down, %d needed", a.Name, a.Health, down, s.Voters(), s.needed(p))
	if down > 0 {
		evidence += "; " + s.whyNotUp(a)
	}
	return condition(ConditionActiveDown, a.Health == HealthDown, "%s", evidence)
}

func pausedCondition(g *GroupState) Condition {
	if u := g.Unconfirmed; u != nil {
		return condition(BlockPaused, false, "paused by %s until watchover ack %s: %s", u.By, g.Name, u.Reason)
	}
	if g.Pause == nil {
		return condition(BlockPaused, true, "not paused")
	}
	text := "paused by " + g.Pause.By
	if g.Pause.Reason != "" {
		text += ": " + g.Pause.Reason
	}
	return condition(BlockPaused, false, "%s", text)
}

func (s *State) quorumHeard(p *Group) Condition {
	return condition(BlockNoQuorum, len(s.Fresh) >= s.needed(p), "%d of %d watchers are heard, %d needed", len(s.Fresh), s.Voters(), s.needed(p))
}

func openCondition(g *GroupState) Condition {
	w := g.Switchover
	if !w.Open() || w.Result == ResultHalted {
		return condition(BlockOpen, true, "no switchover is running")
	}
	text := fmt.Sprintf("switchover %d is running", w.ID)
	switch {
	case w.Undoing != "":
		text = fmt.Sprintf("switchover %d is being undone: %s", w.ID, w.Undoing)
	case w.Held != 0:
		text = fmt.Sprintf("switchover %d waits: the quorum does not find %s down any more", w.ID, w.From)
	}
	return condition(BlockOpen, false, "%s", text)
}

func haltedCondition(g *GroupState) Condition {
	w := g.Switchover
	if !w.Open() || w.Result != ResultHalted {
		return condition(BlockHalted, true, "no switchover is halted")
	}
	for _, step := range w.Steps {
		if !step.settled() && (step.State == StepFailed || step.Tries > 0) {
			return condition(BlockHalted, false, "switchover %d is halted at %s on %s after %d attempts: %s", w.ID, step.Name, step.App, step.Attempts, step.Error)
		}
	}
	return condition(BlockHalted, false, "switchover %d is halted", w.ID)
}

func cooldownCondition(g *GroupState) Condition {
	switch {
	case g.Cooldown != nil:
		return condition(BlockCooldown, false, "the last switchover ended less than %s ago", g.Cooldown.For)
	case g.Retry != nil && g.OutOfReach == "":
		return condition(BlockCooldown, false, "a failover was undone less than %s ago; it is tried again after that", g.Retry.For)
	}
	return condition(BlockCooldown, true, "no cooldown")
}

// rolesAgree holds back when the databases contradict the state. A marked app's database is dealt with by its mark.
func (s *State) rolesAgree(g *GroupState, p *Group) Condition {
	if !p.HasDatabase() {
		return condition(BlockRolesDisagree, true, "the group has no database")
	}
	var wrong []string
	for _, app := range p.Apps {
		a := g.Apps[app.Name]
		role := s.role(a)
		switch {
		case app.Name == g.Writer && role == RoleReplica:
			wrong = append(wrong, app.Name+" is the writer but its database is a replica")
		case app.Name != g.Writer && role == RolePrimary && !s.frozen(a) && a.Mark == nil:
			wrong = append(wrong, app.Name+" is not the writer but its database is a writable primary")
		}
	}
	if !g.Settled && len(wrong) == 0 {
		wrong = append(wrong, "the databases' roles have not all been seen yet")
	}
	return condition(BlockRolesDisagree, len(wrong) == 0, "%s", orElse(strings.Join(wrong, "; "), "the databases' roles fit"))
}

// writableBeside names the first app, the given ones left out, whose database a majority sees as a writable primary.
func (s *State) writableBeside(g *GroupState, p *Group, but ...string) string {
	for _, app := range p.Apps {
		a := g.Apps[app.Name]
		if a != nil && !slices.Contains(but, app.Name) && s.role(a) == RolePrimary && !s.frozen(a) && !a.keptUntold() {
			return app.Name
		}
	}
	return ""
}

// databaseOwn holds back when another group names the same database, or its writer tells the same identity: moving one
// group would move both. ids are writerIDs: to work them out for every pair takes too long where groups are many.
func (s *State) databaseOwn(g *GroupState, p *Group, ids map[string][]string) Condition {
	for i := range s.Policy.Groups {
		other := &s.Policy.Groups[i]
		if other.Name == p.Name || !other.HasDatabase() || !p.HasDatabase() {
			continue
		}
		if p.sharesDatabase(other) {
			return condition(BlockSharedDatabase, false, "group %s names the same database", other.Name)
		}
	}
	id, _ := s.writerIdentity(g)
	for _, other := range ids[id] {
		if other != g.Name {
			return condition(BlockSharedDatabase, false, "group %s has the same database, %s", other, id)
		}
	}
	return condition(BlockSharedDatabase, true, "no other group has its database")
}

// writerIDs lists, by the identity of their writer's database, the groups with one, in order.
func (s *State) writerIDs() map[string][]string {
	ids := map[string][]string{}
	if s.Policy == nil {
		return ids
	}
	for i := range s.Policy.Groups {
		p := &s.Policy.Groups[i]
		if !p.HasDatabase() {
			continue
		}
		if id, _ := s.writerIdentity(s.Groups[p.Name]); id != "" {
			ids[id] = append(ids[id], p.Name)
		}
	}
	return ids
}

func (s *State) filesPresent(g *GroupState) Condition {
	var missing []string
	for _, m := range s.Members {
		for _, f := range m.About.Missing {
			if m.Voter() && f.Group == g.Name {
				missing = append(missing, m.Name+" has no "+f.File)
			}
		}
	}
	return condition(BlockMissingFile, len(missing) == 0, "%s", orElse(strings.Join(missing, "; "), "every watcher has the group's files"))
}

func (s *State) readyTarget(g *GroupState) Condition {
	if to := s.target(g); to != "" {
		return condition(BlockNoReadyTarget, true, "%s is ready", to)
	}
	var why []string
	for _, app := range s.Policy.Group(g.Name).Apps {
		for _, r := range g.Apps[app.Name].NotReady {
			if app.Name != g.Active && r.Code != NotReadyCertificate { // told with the probes
				why = append(why, fmt.Sprintf("%s: %s: %s", app.Name, r.Code, r.Detail))
			}
		}
	}
	return condition(BlockNoReadyTarget, false, "%s", strings.Join(why, "; "))
}

func confirmingCondition(g *GroupState, p *Group) Condition {
	if g.Outage == nil || g.Outage.Index == 0 {
		return condition(BlockConfirming, true, "%s is not down", g.Active)
	}
	return condition(BlockConfirming, g.Outage.Confirmed, "%s is down since %s; the quorum must agree for %s",
		g.Active, g.Outage.Since.Format(time.TimeOnly), p.Failover.ConfirmFor)
}

// since is from when a condition stands as it does, as far as the state knows.
func (s *State) since(g *GroupState, c Condition) time.Time {
	if c.Code == ConditionActiveDown {
		return g.Apps[g.Active].HealthSince
	}
	for _, b := range g.Blockers {
		if b.Code == c.Code && !c.Met {
			return b.Since
		}
	}
	return s.Time
}

func allMet(conditions []Condition) bool {
	for _, c := range conditions {
		if !c.Met {
			return false
		}
	}
	return true
}

// blockers are the conditions not met, but for the active app's being well.
func (s *State) blockers(g *GroupState, ids map[string][]string) []Blocker {
	list := []Blocker{}
	for _, c := range s.conditions(g, ids) {
		if !c.Met && c.Code != ConditionActiveDown {
			list = append(list, Blocker{Code: c.Code, Detail: c.Evidence})
		}
	}
	return keepSince(g.Blockers, list, s.Time)
}

// decide opens a failover if the whole rule is met.
func (s *State) decide(g *GroupState, ids map[string][]string) {
	if !allMet(s.conditions(g, ids)) {
		return
	}
	a := g.Apps[g.Active]
	cause := fmt.Sprintf("%d of %d watchers: %s", s.count(a, VerdictDown), s.Voters(), s.whyNotUp(a))
	s.open(g, opening{kind: KindFailover, to: s.target(g), cause: cause, by: "quorum"})
	s.advance(g)
}

// announce says once per outage why a confirmed outage is not acted on: silence is the worst answer at night.
func (s *State) announce(g *GroupState) {
	if g.Outage == nil || !g.Outage.Confirmed || g.Switchover.Open() {
		return
	}
	var codes, details []string
	for _, b := range g.Blockers {
		codes, details = append(codes, b.Code), append(details, b.Detail)
	}
	told := strings.Join(codes, ",")
	if told == "" || told == g.Outage.Told || g.Outage.Told == BlockMode {
		return
	}
	g.Outage.Told = told
	if told == BlockMode && s.Policy.Group(g.Name).Failover.Mode == ModeObserve {
		s.event("would_switch", g.Name, s.target(g), fmt.Sprintf("would switch %s from %s to %s", g.Name, g.Active, s.target(g)), nil)
		return
	}
	s.event("blocked", g.Name, g.Active, fmt.Sprintf("%s is down and nothing is done: %s", g.Active, strings.Join(details, "; ")), map[string]string{"blockers": told})
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}
