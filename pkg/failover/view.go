package failover

import "strings"

// Phase sums a group up in one word.
type Phase string

// The phases of a group.
const (
	PhaseSteady    Phase = "steady"
	PhaseSuspect   Phase = "suspect" // some verdicts on the active app are down, but no quorum
	PhaseDown      Phase = "down"    // down by quorum, held back by blockers
	PhaseSwitching Phase = "switching"
	PhaseHalted    Phase = "halted"
)

// Phases lists them all.
var Phases = []Phase{PhaseSteady, PhaseSuspect, PhaseDown, PhaseSwitching, PhaseHalted}

// Phase returns a group's phase; empty for an unknown group.
func (s *State) Phase(group string) Phase {
	g := s.Groups[group]
	if g == nil {
		return ""
	}
	a := g.Apps[g.Active]
	switch {
	case g.Switchover.Open() && g.Switchover.Result == ResultHalted:
		return PhaseHalted
	case g.Switchover.Open():
		return PhaseSwitching
	case a.Health == HealthDown:
		return PhaseDown
	case s.count(a, VerdictDown) > 0:
		return PhaseSuspect
	}
	return PhaseSteady
}

// Armed reports whether nothing would hold the automation back.
func (s *State) Armed(group string) bool {
	g := s.Groups[group]
	return g != nil && len(g.Blockers) == 0
}

// FQDN is a group's absolute record name.
func (p *Policy) FQDN(g *Group) string {
	if g.Record == "@" {
		return p.Zone.Name
	}
	return strings.TrimSuffix(g.Record, ".") + "." + p.Zone.Name
}

// ZoneIndex is the entry with which what the name servers answer last changed for a group's record: the newest index
// that a watcher has to have served before it can say that it answers the present state.
func (s *State) ZoneIndex() uint64 {
	index := s.PolicyRevision
	for _, g := range s.Groups {
		if g.Switched != nil {
			index = max(index, g.Switched.Index)
		}
	}
	return index
}

// Switchover returns the switchover of that id, open or ended, nil if it is not kept.
func (s *State) Switchover(group string, id uint64) *Switchover {
	g := s.Groups[group]
	if g == nil {
		return nil
	}
	if g.Switchover != nil && g.Switchover.ID == id {
		return g.Switchover
	}
	for _, w := range g.History {
		if w.ID == id {
			return w
		}
	}
	return nil
}

// BetterPlaced lists the watchers that find an app up which the given one finds down, if the quorum finds it up. Empty: the
// given watcher is as good as any to act on it.
func (s *State) BetterPlaced(watcher, group, app string) []string {
	g := s.Groups[group]
	if g == nil || g.Apps[app] == nil {
		return nil
	}
	a := g.Apps[app]
	own := a.Reports[watcher]
	if a.Health != HealthUp || own == nil || own.Revision != a.Revision || own.Verdict != VerdictDown {
		return nil
	}
	var list []string
	for _, m := range s.Members {
		if r := a.Reports[m.Name]; r != nil && r.Revision == a.Revision && r.Verdict == VerdictUp && s.IsFresh(m.Name) {
			list = append(list, m.Name)
		}
	}
	return list
}
