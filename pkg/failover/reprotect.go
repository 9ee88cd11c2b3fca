package failover

import (
	"fmt"
	"strings"
	"time"
)

// ReprotectTimeout bounds one attempt to make an old primary a replica. What takes longer, such as copying a whole
// database, is handed to a service manager by the configured program: the mark ends when the stream is seen.
const ReprotectTimeout = time.Minute

// PartReprotect is a marked app's database, to be made a replica of the writer's because a person asked for it.
const PartReprotect Part = "reprotect"

// ReprotectOrder asks that a marked app's database be made a replica of the writer's, which ends the mark.
type ReprotectOrder struct {
	Group string `json:"group"`
	App   string `json:"app,omitempty"`   // empty: the only marked one
	Force bool   `json:"force,omitempty"` // also where writes on it would vanish
}

// Reprotect is such an order. It is carried out by one attempt: after one that failed a person looks first.
type Reprotect struct {
	Index uint64    `json:"index"`
	Since time.Time `json:"since"`
	By    string    `json:"by"`
	Force bool      `json:"force,omitempty"`
	Ended bool      `json:"ended,omitempty"`
	Error string    `json:"error,omitempty"` // of the attempt that failed
}

// Open reports whether the order is still to be carried out.
func (r *Reprotect) Open() bool { return r != nil && !r.Ended }

// reprotect takes the order if there is a writer to follow and nothing else is under way. The act itself is the keeper's, like
// everything that is owed to a marked app.
func (s *State) reprotect(o *ReprotectOrder, by string) Result {
	g := s.Groups[o.Group]
	if g == nil {
		return noGroup(o.Group)
	}
	p := s.Policy.Group(g.Name)
	if o.App != "" && p.App(o.App) == nil {
		return refuse(CodeInvalid, "app", "group %s has no app %q", g.Name, o.App)
	}
	a, refusal := s.reprotectable(g, p, o.App)
	if refusal != nil {
		return *refusal
	}
	a.Mark.Reprotect = &Reprotect{Index: s.Index, Since: s.Time, By: by, Force: o.Force}
	s.event("reprotecting", g.Name, a.Name, fmt.Sprintf("the database of %s is to become a replica of that of %s", a.Name, g.Writer), map[string]string{"by": by})
	return Result{Accepted: true}
}

// reprotectable finds the app that is meant, or why it cannot be reprotected now.
func (s *State) reprotectable(g *GroupState, p *Group, name string) (*AppState, *Result) {
	no := func(rule, format string, args ...any) (*AppState, *Result) {
		r := refuse(CodeRefused, rule, format, args...)
		return nil, &r
	}
	switch {
	case !p.HasDatabase():
		return no("no_database", "group %s has no database to replicate", g.Name)
	case g.Unconfirmed != nil:
		r := unconfirmed(g)
		return nil, &r
	case g.Switchover.Open():
		return no(BlockOpen, "switchover %d from %s to %s is %s", g.Switchover.ID, g.Switchover.From, g.Switchover.To, g.Switchover.Result)
	case !s.HasQuorum():
		return no(BlockNoQuorum, "%d of %d watchers are heard, %d needed", len(s.Fresh), s.Voters(), s.Majority())
	}
	var marked []string
	for _, app := range p.Apps {
		if g.Apps[app.Name].Mark != nil && app.Name != g.Writer && (name == "" || name == app.Name) {
			marked = append(marked, app.Name)
		}
	}
	switch {
	case len(marked) == 0 && name != "":
		return no("not_marked", "%s is not kept fenced, so there is nothing to make good", name)
	case len(marked) == 0:
		return no("not_marked", "no app of %s is kept fenced, so there is nothing to make good", g.Name)
	case len(marked) > 1:
		return no("app", "%s are kept fenced: say which", strings.Join(marked, " and "))
	case s.role(g.Apps[g.Writer]) != RolePrimary:
		return no(BlockRolesDisagree, "the database of %s is not seen as the primary, so there is nothing to follow", g.Writer)
	}
	a := g.Apps[marked[0]]
	if a.Mark.Reprotect.Open() {
		return no("reprotecting", "%s is being reprotected since %s", a.Name, a.Mark.Reprotect.Since.Format(time.TimeOnly))
	}
	return a, nil
}

// dropReprotects ends orders that were given on another writer or in another history: what was judged then does not hold now.
func (g *GroupState) dropReprotects(why string) {
	for _, a := range g.Apps {
		if a.Mark != nil && a.Mark.Reprotect.Open() {
			a.Mark.Reprotect.Ended, a.Mark.Reprotect.Error = true, why
		}
	}
}

// reprotected ends the order. An attempt that was given up unfinished, its leader having gone, is made again by the next.
func (s *State) reprotected(g *GroupState, a *AppState, e *Ended) {
	order := a.Mark.Reprotect
	if e.Outcome != OutcomeDone && !a.TellsFrozen {
		a.Mark.doubtFreeze() // it may have been restarted
	}
	if !order.Open() || e.Outcome == OutcomeInterrupted {
		return
	}
	order.Ended = true
	if e.Outcome == OutcomeDone {
		s.event("reprotected", g.Name, a.Name, fmt.Sprintf("the database of %s is a replica of that of %s", a.Name, g.Writer), nil)
		return
	}
	order.Error = cut(e.Error, maxText)
	s.event("reprotect_failed", g.Name, a.Name, fmt.Sprintf("the database of %s could not be made a replica: %s", a.Name, order.Error), map[string]string{"error": order.Error})
}
