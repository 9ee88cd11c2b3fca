package failover

import (
	"fmt"
	"reflect"
	"slices"
	"time"
)

// Group returns the policy of the group with that name, nil if there is none.
func (p *Policy) Group(name string) *Group {
	if p == nil {
		return nil
	}
	for i := range p.Groups {
		if p.Groups[i].Name == name {
			return &p.Groups[i]
		}
	}
	return nil
}

// App returns the app with that name, nil if there is none.
func (g *Group) App(name string) *App {
	for i := range g.Apps {
		if g.Apps[i].Name == name {
			return &g.Apps[i]
		}
	}
	return nil
}

// HasDatabase reports whether the group's apps have databases. The config sees to it that all have or none.
func (g *Group) HasDatabase() bool { return len(g.Apps) > 0 && g.Apps[0].Database != nil }

func (g *Group) sharesDatabase(other *Group) bool {
	for _, a := range g.Apps {
		for _, b := range other.Apps {
			if a.Database.same(b.Database) {
				return true
			}
		}
	}
	return false
}

// same compares first what mostly differs: every entry asks it of every two databases.
func (d *Database) same(other *Database) bool {
	if d == nil || other == nil || d.DSN != other.DSN || (d.Exec == nil) != (other.Exec == nil) {
		return false
	}
	return (d.Exec == nil || slices.Equal(d.Exec.Role, other.Exec.Role)) && reflect.DeepEqual(d, other)
}

// check refuses what the rules could not work with. The file's own validation is far stricter; this guards the log.
func (p *Policy) check() error {
	if p.Zone.Name == "" || p.Zone.TTL < time.Second {
		return fmt.Errorf("the zone %q with ttl %s cannot be served", p.Zone.Name, p.Zone.TTL)
	}
	names := map[string]bool{}
	for i := range p.Groups {
		g := &p.Groups[i]
		if g.Name == "" || names[g.Name] {
			return fmt.Errorf("group name %q is empty or not unique", g.Name)
		}
		names[g.Name] = true
		if len(g.Apps) < 2 {
			return fmt.Errorf("group %s has %d apps, two are needed", g.Name, len(g.Apps))
		}
		for j := range g.Apps {
			if a := &g.Apps[j]; a.Name == "" || g.App(a.Name) != a {
				return fmt.Errorf("group %s: app name %q is empty or not unique", g.Name, a.Name)
			} else if (a.Database != nil) != g.HasDatabase() {
				return fmt.Errorf("group %s: either all apps have a database or none", g.Name)
			}
		}
	}
	return nil
}

// setPolicy replaces the policy if the proposer had seen the one in force, and if nothing that is in use would go.
func (s *State) setPolicy(c *SetPolicy, by string) Result {
	if c.Revision != s.PolicyRevision {
		return refuse(CodeRefused, "policy_revision", "the policy in force is revision %d, the proposal was made for %d", s.PolicyRevision, c.Revision).
			hint("look at what is in force now, then propose again")
	}
	if err := c.Policy.check(); err != nil {
		return refuse(CodeInvalid, "policy", "%v", err)
	}
	if reflect.DeepEqual(*s.Policy, c.Policy) {
		return Result{Accepted: true, Note: "unchanged"}
	}
	for i := range c.Policy.Groups {
		if g := &c.Policy.Groups[i]; s.isMember(g.Record) {
			return refuse(CodeInvalid, "policy", "group %s wants the record %s, which is the name of a watcher", g.Name, g.Record)
		}
	}
	if why := s.inUse(&c.Policy); why != "" {
		return refuse(CodeRefused, "in_use", "%s", why)
	}
	s.adopt(c.Policy)
	s.event("policy", "", "", fmt.Sprintf("policy revision %d in force", s.PolicyRevision), map[string]string{"by": by})
	return Result{Accepted: true}
}

// TryPolicy is what would be answered to proposing p for the policy in force. It changes nothing.
func (s *State) TryPolicy(p Policy) Result {
	return s.clone().setPolicy(&SetPolicy{Revision: s.PolicyRevision, Policy: p}, "")
}

// inUse names an app that the new policy drops although it is active, writer, marked or in an open switchover. A whole
// group may go unless something of it is open or owed.
func (s *State) inUse(p *Policy) string {
	for _, name := range s.GroupNames() {
		g := s.Groups[name]
		group := p.Group(name)
		if group == nil {
			if heir := s.heir(p, s.Policy.Group(name)); heir != nil && heir.Apps[0].Name != g.Active {
				return fmt.Sprintf("group %s would take over the record or database of group %s and begin with %s, but %s is active; switch over first, or put %s first",
					heir.Name, name, heir.Apps[0].Name, g.Active, g.Active)
			}
		}
		for _, app := range s.Policy.Group(name).Apps {
			if group != nil && group.App(app.Name) != nil {
				continue
			}
			a := g.Apps[app.Name]
			switch {
			case g.Switchover.Open() && (app.Name == g.Switchover.From || app.Name == g.Switchover.To):
				return fmt.Sprintf("app %s of group %s is in switchover %d", app.Name, name, g.Switchover.ID)
			case a.Mark != nil && (!a.Mark.empty() || a.Mark.Open != nil) || a.Release != nil:
				// An old writer that was fenced as planned may go: a site that is given up never becomes a replica again.
				return fmt.Sprintf("app %s of group %s is marked", app.Name, name)
			case group != nil && app.Name == g.Active:
				return fmt.Sprintf("app %s of group %s is active", app.Name, name)
			case group != nil && app.Name == g.Writer:
				return fmt.Sprintf("app %s of group %s is the writer", app.Name, name)
			}
		}
	}
	return ""
}

// heir is the new group that takes over a dropped group's record or database: the same group under another name.
func (s *State) heir(p *Policy, dropped *Group) *Group {
	for i := range p.Groups {
		group := &p.Groups[i]
		if s.Groups[group.Name] == nil && (group.Record == dropped.Record || group.sharesDatabase(dropped)) {
			return group
		}
	}
	return nil
}

// adopt puts a policy in force. Apps whose probes changed start at unknown.
func (s *State) adopt(p Policy) {
	old := s.Policy
	s.Policy, s.PolicyRevision = &p, s.Index
	if old == nil || zoneContentDiffers(old, &p) {
		s.bumpSerial()
	}
	for name := range s.Groups {
		if p.Group(name) == nil {
			delete(s.Groups, name)
		}
	}
	for i := range p.Groups {
		s.adoptGroup(&p.Groups[i], old.Group(p.Groups[i].Name))
	}
}

func (s *State) adoptGroup(p, old *Group) {
	g := s.Groups[p.Name]
	if g == nil {
		g = &GroupState{Name: p.Name, Active: p.Apps[0].Name, Writer: p.Apps[0].Name, Epoch: s.Generation * epochsPerGeneration, Apps: map[string]*AppState{}, History: []*Switchover{}, Blockers: []Blocker{}}
		s.Groups[p.Name] = g
	}
	g.Notified = cursors(g.Notified, p.Notify, s.EventSeq)
	for name := range g.Apps {
		if p.App(name) == nil {
			delete(g.Apps, name)
		}
	}
	for i := range p.Apps {
		app := &p.Apps[i]
		a := g.Apps[app.Name]
		if a == nil {
			a = &AppState{Name: app.Name, NotReady: []Blocker{}}
			g.Apps[app.Name] = a
			s.forget(a)
		} else if old == nil || probingDiffers(old, p, app.Name) {
			s.forget(a)
			if app.Name == g.Active {
				g.UpOnce, g.Outage = false, nil
			}
			if old != nil && old.App(app.Name) != nil && !reflect.DeepEqual(old.App(app.Name).Database, app.Database) {
				// Another database, or another program that tells of it.
				a.TellsFrozen = false
				if app.Name == g.Writer {
					g.WriterID, g.WriterTimeline = "", 0
				}
				a.Mark.doubtFreeze()
			}
		}
	}
}

// probingDiffers reports whether what is asked of an app, or how, has changed: old verdicts answer another question.
func probingDiffers(old, now *Group, app string) bool {
	a, b := old.App(app), now.App(app)
	return a == nil || old.Probing != now.Probing || !reflect.DeepEqual(a.Probes, b.Probes) || !reflect.DeepEqual(a.StandbyProbes, b.StandbyProbes) ||
		!reflect.DeepEqual(a.Database, b.Database) || !reflect.DeepEqual(a.Maintenance, b.Maintenance) ||
		!slices.Equal(old.Failover.Witnesses, now.Failover.Witnesses)
}

// zoneContentDiffers reports whether a name server would answer differently.
func zoneContentDiffers(old, now *Policy) bool {
	if old.Zone != now.Zone || len(old.Groups) != len(now.Groups) {
		return true
	}
	for i := range now.Groups {
		a, b := old.Group(now.Groups[i].Name), &now.Groups[i]
		if a == nil || a.Record != b.Record || len(a.Apps) != len(b.Apps) {
			return true
		}
		for j := range b.Apps {
			if !slices.Equal(a.Apps[j].Address, b.Apps[j].Address) || a.Apps[j].Name != b.Apps[j].Name {
				return true
			}
		}
	}
	return false
}
