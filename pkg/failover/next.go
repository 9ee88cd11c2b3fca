package failover

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Next says what the leader's runner is to do for a group's open switchover now, in the order of the plan; more than one
// task means: at the same time. Nothing means: wait for a timer, a verdict, or a person. A new leader calls it like the
// old one did: a task whose attempt is still open was begun by another pair of hands, which must be still before a new
// attempt starts.
func (s *State) Next(group string) []Task {
	g := s.Groups[group]
	if g == nil || !g.Switchover.Open() || g.Unconfirmed != nil {
		return nil
	}
	w := g.Switchover
	if w.Undoing != "" {
		return s.undoTasks(g, w)
	}
	if w.Held != 0 {
		return nil
	}
	var tasks []Task
	for i := range w.Steps {
		step := &w.Steps[i]
		switch {
		case !reachable(w, step.Name), s.keeperAtWork(g, w, step), step.Name == StepVerify && step.State == StepFailed:
		case step.After == AfterPending, step.After == AfterRetrying && step.Waiting == 0:
			tasks = append(tasks, w.task(step, WorkAfter))
		case !step.settled() && step.Waiting == 0:
			tasks = append(tasks, w.task(step, WorkAct))
		}
	}
	return tasks
}

func (s *State) undoTasks(g *GroupState, w *Switchover) []Task {
	step := nextUndo(w)
	if step == nil || step.Waiting != 0 || s.keeperAtWork(g, w, step) {
		return nil
	}
	return []Task{w.task(step, WorkUndo)}
}

// keeperAtWork reports whether this leader's hands are still keeping a mark or doing a release where a step is to act:
// their end comes first. The point of no return waits for those on the old app too, and for an earlier leader's that may be
// opening it: what they were to open then is the old app for good. The keeper ends such an attempt when its time is over.
func (s *State) keeperAtWork(g *GroupState, w *Switchover, step *Step) bool {
	busy := func(app string) bool {
		a := g.Apps[app]
		for _, m := range []*Mark{a.Mark, a.Release} {
			if m != nil && m.Open != nil && m.Open.Term == s.Term {
				return true
			}
		}
		return false
	}
	if step == w.pointOfNoReturn() && !step.Acted {
		if r := g.Apps[w.From].Release; busy(w.From) || r != nil && r.Open != nil {
			return true
		}
	}
	return busy(step.App)
}

func (w *Switchover) task(step *Step, work Work) Task {
	return Task{Group: w.Group, App: step.App, Switchover: w.ID, Step: step.Name, Work: work}
}

// Keep says which apps of a group are to be kept fenced or opened again, where nobody else's hands are. The runner acts
// on one only when it has seen that the app answers otherwise.
func (s *State) Keep(group string) []Task {
	g := s.Groups[group]
	if g == nil || g.Unconfirmed != nil {
		return nil // an old mark may be on what serves today
	}
	var tasks []Task
	for _, p := range s.Policy.Group(group).Apps {
		a := g.Apps[p.Name]
		if g.Switchover.touches(a.Name) || g.Switchover.closesAgain(a.Name) {
			continue
		}
		if a.Mark != nil && a.Name != g.Writer {
			tasks = append(tasks, keeping(g, p, a.Mark, false)...)
		}
		if a.Release != nil && (a.Name == g.Writer || a.Release.Replication) && !g.Switchover.between(a.Name) {
			tasks = append(tasks, keeping(g, p, a.Release, true)...)
		}
	}
	return tasks
}

// Obliged lists the apps on which something is owed, whether or not it may be done just now.
func (s *State) Obliged(group string) []string {
	g := s.Groups[group]
	if g == nil {
		return nil
	}
	var apps []string
	for _, p := range s.Policy.Group(group).Apps {
		if a := g.Apps[p.Name]; a.Mark != nil || a.Release != nil {
			apps = append(apps, p.Name)
		}
	}
	return apps
}

// keeping lists the parts of an obligation. A marked app is fenced whole, whichever of the two steps it was that failed.
func keeping(g *GroupState, p App, m *Mark, release bool) []Task {
	var tasks []Task
	add := func(wanted bool, part Part) {
		if wanted {
			tasks = append(tasks, Task{Group: g.Name, App: p.Name, Part: part, Release: release})
		}
	}
	add((m.Maintenance || !release) && p.Maintenance != nil, PartMaintenance)
	add((m.Database || !release) && p.Database != nil, PartDatabase)
	add(m.Replication && p.Database != nil, PartReplication)
	add(m.Reprotect.Open() && p.Database != nil, PartReprotect)
	return tasks
}

// between reports whether an open switchover moves from or to an app. What an earlier one owes to such an app waits: to
// open it now would be to work against the plan.
func (w *Switchover) between(app string) bool {
	return w.Open() && (app == w.From || app == w.To)
}

// closesAgain reports whether the step is about to close an app again before the other one is opened: a keeper that began first
// would have the other one wait for as long as it takes.
func (w *Switchover) closesAgain(app string) bool {
	if !w.Open() {
		return false
	}
	on := w.Step(StepMaintenanceOn)
	return on.App == app && on.Redo && !on.settled()
}

// touches reports whether an attempt of the switchover is open on an app.
func (w *Switchover) touches(app string) bool {
	return w.Open() && slices.ContainsFunc(w.Steps, func(step Step) bool { return step.App == app && step.Open != "" })
}

// Timer is something that becomes due. The leader counts After from when it applied the state in which Key first
// appeared, by its own monotonic clock, and then proposes Due with the key.
type Timer struct {
	Key   string
	After time.Duration
}

// Timers lists what the state waits for.
func (s *State) Timers() []Timer {
	var list []Timer
	add := func(after time.Duration, format string, args ...any) {
		list = append(list, Timer{Key: fmt.Sprintf(format, args...), After: after})
	}
	for _, name := range s.GroupNames() {
		g := s.Groups[name]
		if o := g.Outage; o != nil && o.Index != 0 && !o.Confirmed {
			add(s.Policy.Group(name).Failover.ConfirmFor, "confirm/%s/%d", name, o.Index)
		}
		for kind, h := range holds(g) {
			if *h != nil {
				add((*h).For, "%s/%s/%d", kind, name, (*h).Index)
			}
		}
		if g.Pause != nil && g.Pause.For > 0 {
			add(g.Pause.For, "pause/%s/%d", name, g.Pause.Index)
		}
		if w := g.Switchover; w.Open() && g.Unconfirmed == nil {
			if w.Held != 0 {
				add(heldTooLong, "held/%s/%d", name, w.Held)
			}
			for i := range w.Steps {
				if step := &w.Steps[i]; step.Waiting != 0 {
					add(w.waits(step), "%s/%s/%d", step.Name, name, step.Waiting)
				}
			}
		}
	}
	slices.SortFunc(list, func(a, b Timer) int { return strings.Compare(a.Key, b.Key) })
	return list
}

func holds(g *GroupState) map[string]**Hold {
	return map[string]**Hold{"cooldown": &g.Cooldown, "again": &g.Retry, "asked": &g.AskedEnd}
}

func (w *Switchover) waits(step *Step) time.Duration {
	setting := w.Policy.Steps[step.Name]
	switch {
	case step.Name == StepVerify && step.State == StepRunning:
		return setting.Timeout
	case step.State == StepFailed && w.Undoing == "":
		return haltedRetry
	}
	return setting.Backoff
}

// due takes in that a timer has run out. One that the state does not wait for any more changes nothing.
func (s *State) due(key string) Result {
	if !slices.ContainsFunc(s.Timers(), func(t Timer) bool { return t.Key == key }) {
		return refuse(CodeStale, "not_due", "nothing waits for %q", key)
	}
	kind, rest, _ := strings.Cut(key, "/")
	name := rest[:strings.LastIndexByte(rest, '/')] // a group's name may hold one too
	g := s.Groups[name]
	switch kind {
	case "confirm":
		g.Outage.Confirmed = true
	case "pause":
		s.event("resumed", name, "", "pause of "+name+" has run out", nil)
		g.Pause = nil
	case "held":
		s.undo(g, g.Switchover, "the quorum does not find "+g.Switchover.From+" down any more")
	case "again":
		g.Retry, g.OutOfReach = nil, ""
		if g.Apps[g.Active].Health == HealthUp {
			g.Undone, g.LastTarget = 0, "" // what comes next is another outage
		}
	case "cooldown", "asked":
		*holds(g)[kind] = nil
	default:
		s.stepDue(g, StepName(kind))
	}
	return Result{Accepted: true}
}

func (s *State) stepDue(g *GroupState, name StepName) {
	w := g.Switchover
	step := w.Step(name)
	if name == StepVerify && step.State == StepRunning {
		s.reportUnverified(g, w, strings.Join(s.unverified(g, w), "; "))
		return
	}
	step.Waiting = 0
}
