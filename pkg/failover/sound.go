package failover

import (
	"errors"
	"fmt"
)

// check refuses a state that the rules could not work with. Only a damaged or foreign snapshot is one: better not to
// start from it than to fail at the first entry.
func (s *State) check() error {
	if s.Cluster == "" {
		if s.Policy != nil || len(s.Groups) > 0 || len(s.Members) > 0 {
			return errors.New("it has contents but no cluster")
		}
		return nil
	}
	if s.Policy == nil {
		return errors.New("it has no policy")
	}
	if err := s.Policy.check(); err != nil {
		return err
	}
	if err := checkMembers(s.Members); err != nil {
		return err
	}
	if s.Generation > maxGeneration {
		return fmt.Errorf("its generation %d is above %d", s.Generation, maxGeneration)
	}
	if r := s.Recovery; r != nil && (r.ID == "" || r.Generation == 0 || r.Generation > s.Generation || r.Begun > s.Index) {
		return fmt.Errorf("its recovery %q with generation %d cannot be: it has generation %d and index %d", r.ID, r.Generation, s.Generation, s.Index)
	}
	if len(s.Groups) != len(s.Policy.Groups) {
		return fmt.Errorf("it has %d groups, its policy has %d", len(s.Groups), len(s.Policy.Groups))
	}
	for i := range s.Policy.Groups {
		p := &s.Policy.Groups[i]
		if err := s.Groups[p.Name].check(p); err != nil {
			return fmt.Errorf("group %s: %w", p.Name, err)
		}
		if err := s.checkCursors(s.Groups[p.Name], p); err != nil {
			return fmt.Errorf("group %s: %w", p.Name, err)
		}
	}
	return nil
}

// checkMembers refuses names and data directories that would let one watcher count twice.
func checkMembers(members []Member) error {
	names, nodes, voters := map[string]bool{}, map[string]bool{}, 0
	for _, m := range members {
		if m.Name == "" || names[m.Name] {
			return fmt.Errorf("watcher name %q is empty or not unique", m.Name)
		}
		if m.Node != "" && nodes[m.Node] {
			return fmt.Errorf("the data directory of watcher %s is another watcher's too", m.Name)
		}
		names[m.Name], nodes[m.Node] = true, true
		if m.Voter() {
			voters++
		}
	}
	if voters == 0 {
		return errors.New("there are no watchers")
	}
	return nil
}

func (g *GroupState) check(p *Group) error {
	if g == nil || g.Name != p.Name {
		return errors.New("its state is missing")
	}
	if len(g.Apps) != len(p.Apps) {
		return fmt.Errorf("it has %d apps, its policy has %d", len(g.Apps), len(p.Apps))
	}
	for _, app := range p.Apps {
		a := g.Apps[app.Name]
		if a == nil || a.Name != app.Name || a.Reports == nil {
			return fmt.Errorf("the state of app %s is missing", app.Name)
		}
		if err := a.Release.checkFound(); err != nil {
			return fmt.Errorf("app %s: %w", app.Name, err)
		}
		for watcher, r := range a.Reports {
			if r == nil {
				return fmt.Errorf("the report of %s on app %s is missing", watcher, app.Name)
			}
		}
	}
	if g.Apps[g.Active] == nil || g.Apps[g.Writer] == nil {
		return fmt.Errorf("active %q or writer %q is none of its apps", g.Active, g.Writer)
	}
	for _, w := range g.History {
		if w == nil || w.Open() {
			return errors.New("its history holds a switchover that has not ended")
		}
	}
	if g.Switchover == nil {
		return nil
	}
	return g.Switchover.check(g)
}

func (w *Switchover) check(g *GroupState) error {
	if !w.Open() || w.Group != g.Name || g.Apps[w.From] == nil || g.Apps[w.To] == nil || w.From == w.To {
		return fmt.Errorf("switchover %d from %q to %q cannot be open in it", w.ID, w.From, w.To)
	}
	var want []StepName
	for _, name := range Plan {
		switch name {
		case StepFreeze, StepCatchUp, StepStopReplication, StepPromote:
			if !w.Policy.HasDatabase() {
				continue
			}
		}
		want = append(want, name)
	}
	if len(want) != len(w.Steps) {
		return fmt.Errorf("switchover %d has %d steps, its plan has %d", w.ID, len(w.Steps), len(want))
	}
	for i := range want {
		step := &w.Steps[i]
		if step.Name != want[i] || g.Apps[step.App] == nil {
			return fmt.Errorf("switchover %d: step %q on %q is not of its plan", w.ID, step.Name, step.App)
		}
		if len(step.Found) > MaxFound || len(step.Position) > MaxFound {
			return fmt.Errorf("switchover %d: what step %s found, or its position, is longer than %d bytes", w.ID, step.Name, MaxFound)
		}
	}
	return nil
}

func (m *Mark) checkFound() error {
	if m == nil {
		return nil
	}
	for part, text := range m.Found {
		if len(text) > MaxFound {
			return fmt.Errorf("what a release of its %s has to put back is longer than %d bytes", part, MaxFound)
		}
	}
	return nil
}
