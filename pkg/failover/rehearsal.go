package failover

import (
	"fmt"
	"strings"
)

// maxFaults bounds the faults that a watcher may tell of its rehearsals.
const maxFaults = 64

// NotReadyRehearsal: a watcher's rehearsal found that a step on the app would fail.
const NotReadyRehearsal = "rehearsal"

// Fault is what a rehearsal found for certain: a step of the plan would fail on that app, whoever is well. An app that
// does not answer just now is none: its probes and its database's evidence tell that, and a switchover is for such times.
type Fault struct {
	Group  string `json:"group"`
	App    string `json:"app"`
	Detail string `json:"detail"`
}

// Finding is one thing that a rehearsal tried on one watcher, and what came of it.
type Finding struct {
	Watcher string `json:"watcher"`
	App     string `json:"app,omitempty"` // empty: of the whole group
	Check   string `json:"check"`         // files, maintenance, database, privileges, settings, dns, reach
	OK      bool   `json:"ok"`
	Detail  string `json:"detail,omitempty"`
	// Certain says that what failed would fail a step of the plan as well; not so of an app that does not answer just now.
	Certain bool `json:"certain,omitempty"`
}

// Faults are the findings that readiness is judged by.
func Faults(group string, findings []Finding) []Fault {
	var faults []Fault
	for _, f := range findings {
		if !f.OK && f.Certain && f.App != "" {
			faults = append(faults, Fault{Group: group, App: f.App, Detail: f.Check + ": " + f.Detail})
		}
	}
	return faults
}

// bounded cuts what a watcher told to what the state keeps.
func bounded(faults []Fault) []Fault {
	kept := make([]Fault, 0, min(len(faults), maxFaults))
	for _, f := range faults[:min(len(faults), maxFaults)] {
		f.Group, f.App, f.Detail = cut(f.Group, maxText), cut(f.App, maxText), cut(f.Detail, maxText)
		kept = append(kept, f)
	}
	return kept
}

// rehearsed words the faults that the watchers heard fresh have found on an app; empty: none. Any of them may lead when it
// matters, so one is enough.
func (s *State) rehearsed(group, app string) string {
	var list []string
	for _, m := range s.Members {
		for _, f := range m.About.Faults {
			if f.Group == group && f.App == app && m.Voter() && s.IsFresh(m.Name) {
				list = append(list, fmt.Sprintf("%s: %s", m.Name, f.Detail))
			}
		}
	}
	return strings.Join(list, "; ")
}

// Rehearsed tells the faults that rehearsals found in a group, by app; of the active app too, where they are a warning.
func (s *State) Rehearsed(group string) map[string]string {
	p := s.Policy.Group(group)
	if p == nil {
		return nil
	}
	found := map[string]string{}
	for _, app := range p.Apps {
		if detail := s.rehearsed(group, app.Name); detail != "" {
			found[app.Name] = detail
		}
	}
	return found
}
