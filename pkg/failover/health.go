package failover

import (
	"fmt"
	"slices"
	"sort"
)

// Majority is the smallest number of members that is more than half.
func Majority(members int) int { return members/2 + 1 }

// needed is how many fresh down verdicts a group asks for: a strict majority of all members, or more if it says so.
func (s *State) needed(p *Group) int {
	return max(s.Majority(), p.Failover.Quorum)
}

// refresh looks at every group afresh after an entry, in the order of their names.
func (s *State) refresh() {
	s.refreshHealth()
	ids := s.writerIDs()
	for _, name := range s.GroupNames() {
		g := s.Groups[name]
		active := g.Active
		s.settle(g)
		s.noteOutage(g)
		s.advance(g)
		s.decide(g, ids)
		s.noteServed(g)
		if g.Active != active { // what was worked out for the old roles does not hold any more
			s.refreshReady(g, s.Policy.Group(name))
		}
		g.Blockers = s.blockers(g, ids)
		s.announce(g)
	}
}

func (s *State) refreshHealth() {
	for _, name := range s.GroupNames() {
		g := s.Groups[name]
		p := s.Policy.Group(name)
		for _, app := range p.Apps {
			s.refreshApp(g, p, g.Apps[app.Name])
		}
		s.noteWriter(g)
		s.refreshReady(g, p)
		for _, app := range p.Apps {
			s.washMark(g, g.Apps[app.Name])
		}
	}
}

func (s *State) refreshReady(g *GroupState, p *Group) {
	for _, app := range p.Apps {
		a := g.Apps[app.Name]
		a.NotReady = keepSince(a.NotReady, s.notReady(g, p, a), s.Time)
	}
}

func (s *State) refreshApp(g *GroupState, p *Group, a *AppState) {
	health := s.health(p, a)
	if health != a.Health {
		a.Health, a.HealthSince = health, s.Time
		data := map[string]string{"health": string(health)}
		if a.Down {
			data["was"] = string(HealthDown)
		}
		s.event("health", g.Name, a.Name, fmt.Sprintf("%s is %s by quorum", a.Name, health), data)
		a.Down = health == HealthDown || a.Down && health != HealthUp
	}
	a.Maintenance = s.maintenanceIn(s.freshReports(a))
	s.noteLast(a)
	s.noteNoPrimary(g, a)
	if a.Name == g.Active && health == HealthUp {
		g.UpOnce = true
	}
}

// noteLast keeps what a quorum last saw of an app's maintenance and freeze. What watchers saw before an undo was done there was
// a switchover's doing, and no word on how the app is without one.
func (s *State) noteLast(a *AppState) {
	reports := slices.DeleteFunc(s.freshReports(a), func(r *Report) bool { return r.Undone < a.Undone })
	if is := s.maintenanceIn(reports); is != SwitchUnknown {
		a.LastMaintenance = is
	}
	if s.roleIn(reports) != RoleUnknown {
		a.LastFrozen = s.frozenIn(reports)
	}
}

// noteNoPrimary ends the belief in a freeze that a database does not tell when a majority does not see it as a primary any more: one
// that was silent may have restarted without it, and a replica is not what was frozen. Looks that began before the freeze was done
// say nothing of that, and one that was no primary before has to be seen as one first.
func (s *State) noteNoPrimary(g *GroupState, a *AppState) {
	is, not := 0, 0
	for _, r := range s.freshReports(a) {
		switch {
		case r.Undone < a.Undone || r.Database == nil:
		case r.Database.Role == RolePrimary:
			is++
		default:
			not++
		}
	}
	was := a.NoPrimary
	a.NoPrimary = not >= s.Majority() || was && is < s.Majority()
	if was || !a.NoPrimary || a.TellsFrozen {
		return
	}
	a.Mark.doubtFreeze()
	if w := g.Switchover; w.Open() && w.From == a.Name && w.Step(StepFreeze) != nil {
		w.Step(StepFreeze).Untold = false
	}
}

// doubtFreeze has a freeze that the keeper made, and that cannot be seen, made once more.
func (m *Mark) doubtFreeze() {
	if m != nil && m.Kept[PartDatabase] > 0 {
		m.Refreeze = true
	}
}

// takenBack notes how an undo, or a release that made up for one, has left a part of an app. Reports of looks that began
// before this entry say nothing of that; watchers look anew when they see it.
func (a *AppState) takenBack(index uint64, part Part, fenced bool) {
	switch part {
	case PartMaintenance:
		a.LastMaintenance = SwitchOff
		if fenced {
			a.LastMaintenance = SwitchOn
		}
	case PartDatabase:
		a.LastFrozen = fenced
		a.MayBeFrozen = a.MayBeFrozen && fenced
	default:
		return
	}
	a.Undone = index
}

// health adds up the fresh verdicts on an app that were given on its present probes and role. Down takes as many as the
// group asks for, up a strict majority of all members.
func (s *State) health(p *Group, a *AppState) Health {
	switch {
	case s.count(a, VerdictDown) >= s.needed(p):
		return HealthDown
	case s.count(a, VerdictUp) >= s.Majority():
		return HealthUp
	}
	return HealthUnknown
}

func (s *State) count(a *AppState, v Verdict) int {
	n := 0
	for _, r := range s.freshReports(a) {
		if r.Verdict == v {
			n++
		}
	}
	return n
}

// freshReports are the reports that count, in the order of the watchers' names. What a watcher said before it was last
// started does not: it has not looked since. Reports on other probes or another role are not there (takeReport, forget).
func (s *State) freshReports(a *AppState) []*Report {
	reports := make([]*Report, 0, len(s.Fresh))
	for _, m := range s.Members {
		r := a.Reports[m.Name]
		if r != nil && r.Boot >= m.About.Boot && s.IsFresh(m.Name) {
			reports = append(reports, r)
		}
	}
	return reports
}

// maintenanceIn is what a majority of all members says in these reports of an app's maintenance.
func (s *State) maintenanceIn(reports []*Report) Switch {
	seen := map[Switch]int{}
	for _, r := range reports {
		seen[r.Maintenance]++
	}
	for _, v := range []Switch{SwitchOn, SwitchOff} {
		if seen[v] >= s.Majority() {
			return v
		}
	}
	return SwitchUnknown
}

// noteOutage keeps the record of the active app's outage: when the quorum's agreement began and whether it has lasted.
func (s *State) noteOutage(g *GroupState) {
	p := s.Policy.Group(g.Name)
	switch g.Apps[g.Active].Health {
	case HealthUp:
		g.Outage = nil
	case HealthUnknown:
		if g.Outage != nil {
			g.Outage.Index, g.Outage.Confirmed = 0, false
		}
	case HealthDown:
		if g.Outage == nil {
			g.Outage = &Outage{Since: s.Time}
		}
		if g.Outage.Index == 0 {
			g.Outage.Index = s.Index
			g.Outage.Confirmed = p.Failover.ConfirmFor == 0
		}
	}
}

// settle finds a new group's first active app: the one whose database is the only primary, else the first in order.
func (s *State) settle(g *GroupState) {
	p := s.Policy.Group(g.Name)
	if g.Settled || g.Switchover.Open() || g.Unconfirmed != nil {
		return
	}
	if !p.HasDatabase() {
		g.Settled = true
		return
	}
	primary := ""
	for _, app := range p.Apps {
		switch s.role(g.Apps[app.Name]) {
		case RoleUnknown:
			return
		case RolePrimary:
			if primary != "" {
				return // two primaries: roles_disagree says so, a person decides
			}
			primary = app.Name
		}
	}
	if primary == "" {
		return
	}
	g.Settled = true
	if primary != g.Active {
		s.event("settled", g.Name, primary, primary+" has the only primary database, so it is the active app", nil)
		s.changeRoles(g, primary)
		g.Writer = primary
		s.bumpSerial()
	}
}

// role is what a majority of all members sees of an app's database.
func (s *State) role(a *AppState) Role { return s.roleIn(s.freshReports(a)) }

func (s *State) roleIn(reports []*Report) Role {
	seen := map[Role]int{}
	for _, r := range reports {
		if r.Database != nil {
			seen[r.Database.Role]++
		}
	}
	for _, role := range []Role{RolePrimary, RoleReplica} {
		if seen[role] >= s.Majority() {
			return role
		}
	}
	return RoleUnknown
}

// frozen reports whether a majority of all members sees the app's database refuse writes.
func (s *State) frozen(a *AppState) bool { return s.frozenIn(s.freshReports(a)) }

func (s *State) frozenIn(reports []*Report) bool {
	n := 0
	for _, r := range reports {
		if r.Database != nil && r.Database.Frozen {
			n++
		}
	}
	return n >= s.Majority()
}

// changeRoles makes app the active one. Both apps start at unknown until a full round of probes.
func (s *State) changeRoles(g *GroupState, app string) {
	old := g.Active
	g.Active = app
	g.UpOnce, g.Outage = false, nil
	s.forget(g.Apps[old])
	s.forget(g.Apps[app])
}

// forget drops all verdicts on an app, because what is asked of it has changed. Its database's evidence is kept out
// too: it belongs to the same reports.
func (s *State) forget(a *AppState) {
	if a == nil {
		return
	}
	a.Revision = s.Index
	a.Reports = map[string]*Report{}
	a.Health, a.HealthSince = HealthUnknown, s.Time
	a.Maintenance = SwitchUnknown
	a.LastMaintenance, a.LastFrozen = "", false
}

// noteServed sets when the last compliant cache has dropped the old answer, once every member has answered the new one.
func (s *State) noteServed(g *GroupState) {
	w := g.Switched
	if w == nil || w.CachesExpireAt != nil {
		return
	}
	for _, m := range s.Members {
		if m.Voter() && m.About.Served < w.Index {
			return
		}
	}
	w.CachesExpireAt = at(s.Time.Add(secondsOf(w.TTL)))
}

// GroupNames lists the groups in order.
func (s *State) GroupNames() []string {
	names := make([]string, 0, len(s.Groups))
	for name := range s.Groups {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// IsFresh reports whether the watcher's verdicts count now.
func (s *State) IsFresh(watcher string) bool { return slices.Contains(s.Fresh, watcher) }

// HasQuorum reports whether enough watchers are heard to decide anything.
func (s *State) HasQuorum() bool {
	return s.Voters() > 0 && len(s.Fresh) >= s.Majority()
}

func (s *State) isMember(watcher string) bool {
	return slices.ContainsFunc(s.Members, func(m Member) bool { return m.Name == watcher })
}
