package sim

import (
	"slices"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// checkRest judges what has become of everything after the faults are over and some time has passed.
func (w *world) checkRest() {
	leader := w.checkLeader()
	if leader == nil {
		return
	}
	s := w.log.state()
	g := s.Groups[group]
	if g == nil {
		w.violate("rest", "the cluster has not begun")
		return
	}
	if w.script.yes("paired") && len(w.faults) > 0 {
		return // what fails for ever may keep anything from ending
	}
	w.checkMembers(s)
	if g.Unconfirmed != nil {
		return // nothing acts before a person has looked
	}
	w.checkOpen(s, g)
	w.checkMarks(g)
	w.checkTakenBack(s, g)
	w.checkOutage(s, g)
}

func (w *world) checkLeader() *watcher {
	var leader *watcher
	for _, n := range w.watchers {
		if n.reign != nil && n.reign.ready {
			if leader != nil {
				w.violate("leader", "%s and %s both lead long after all faults were over", leader.name, n.name)
			}
			leader = n
		}
	}
	if leader == nil {
		w.violate("leader", "nobody leads %s after all faults were over", w.rest())
		return nil
	}
	for _, n := range w.watchers {
		if !n.removed() && n.state != leader.state && len(w.faults) == 0 { // else an attempt may just have failed once more
			w.violate("same-state", "%s has applied %d and %s %d long after all faults were over", n.name, n.applied, leader.name, leader.applied)
		}
	}
	return leader
}

// checkMembers: a change of the members ends, unless the watcher that is to join cannot.
func (w *world) checkMembers(s *failover.State) {
	c := s.Change
	if c == nil {
		return
	}
	if m, n := s.Member(c.Name), w.watcher(c.Name); c.Kind == failover.ChangeAdd && m.Node != "" && n.node() != m.Node {
		return // another directory has its name
	}
	w.violate("members", "the change of watcher %s (%s) is not complete long after all faults were over", c.Name, c.Kind)
}

// checkOpen: a switchover ends, or is halted because of an app that does not answer.
func (w *world) checkOpen(s *failover.State, g *failover.GroupState) {
	o := g.Switchover
	if !o.Open() {
		return
	}
	if o.Result == failover.ResultHalted && (w.app(o.To).dead || w.app(o.To).sick || w.app(o.From).dead) {
		return
	}
	if p := o.Step(failover.StepPromote); o.Result == failover.ResultHalted && p != nil && p.State == failover.StepFailed && w.writableBeside(g, o) {
		return
	}
	w.violate("ends", "switchover %d of kind %s is still %s long after all faults were over: undoing %q, %s", o.ID, o.Kind, o.Result, o.Undoing, stepsText(o))
}

// writableBeside reports whether another database than the target's takes writes that nobody is obliged to fence, or cannot: the target
// is not promoted beside it.
func (w *world) writableBeside(g *failover.GroupState, o *failover.Switchover) bool {
	return slices.ContainsFunc(w.apps, func(a *app) bool {
		is := g.Apps[a.name]
		return a.name != o.To && a.writable() && (a.name == o.From || is != nil && is.Mark == nil)
	})
}

// checkMarks: an app that is to be kept fenced is fenced if it answers.
func (w *world) checkMarks(g *failover.GroupState) {
	for name, a := range g.Apps {
		x := w.app(name)
		if x == nil || x.dead || x.hung || a.Mark == nil || name == g.Writer || w.now()-x.since < 30*time.Second {
			continue
		}
		if !x.closed && w.script.get("switch") == "checked" {
			w.violate("marked", "%s is marked and not in maintenance, though it answers", name)
		}
		if x.writable() && !x.untold {
			w.violate("marked", "%s is marked and its database takes writes, though it answers", name)
		}
	}
}

// checkTakenBack: nothing that a switchover closed on the writer is left closed, unless a person closed it, or the program that did came
// so late that nobody could know.
func (w *world) checkTakenBack(s *failover.State, g *failover.GroupState) {
	a := w.app(g.Writer)
	if g.Switchover.Open() || a.dead || a.byHand || s.Generation > 0 || w.now()-a.since < 30*time.Second {
		return
	}
	for part, closes := range map[failover.Part]string{failover.PartMaintenance: "on", failover.PartDatabase: "freeze"} {
		i := len(a.hands) - 1
		for i >= 0 && changes[a.hands[i].verb] != part {
			i--
		}
		if i >= 0 && a.hands[i].verb == closes && !a.hands[i].late && (part == failover.PartMaintenance && a.closed || part == failover.PartDatabase && a.db.frozen) {
			w.violate("taken-back", "%s is the writer, and what %s did with token %d is not taken back", a.name, closes, a.hands[i].token)
		}
	}
}

// excuses are blockers that may rightly stand in an outage's way for ever.
var excuses = []string{failover.BlockMode, failover.BlockPaused, failover.BlockHalted, failover.BlockRolesDisagree, failover.BlockNeverUp,
	failover.BlockSharedDatabase, failover.BlockMissingFile}

// checkOutage: a real outage is acted on, unless something that can be named is in the way.
func (w *world) checkOutage(s *failover.State, g *failover.GroupState) {
	a := w.app(g.Active)
	if !a.dead && !a.sick || w.now()-a.since < w.bound() || g.Switchover.Open() {
		return
	}
	for _, b := range g.Blockers {
		tooFew := b.Code == failover.BlockNoQuorum && s.Policy.Group(group).Failover.Quorum > s.Voters() // there are not so many left
		if slices.Contains(excuses, b.Code) || tooFew || b.Code == failover.BlockNoReadyTarget && !w.readyTarget(g) {
			return
		}
	}
	w.violate("outage", "%s is down for %s and nothing is done; blockers: %v", a.name, short(w.now()-a.since), codes(g.Blockers))
}

// bound is how long an outage may last until it is acted on, once all faults are over.
func (w *world) bound() time.Duration {
	return 2*w.script.duration("confirm") + w.script.duration("cooldown") + time.Minute
}

// rest is how long the world is left alone after its faults are over. Within that everything that can end has to.
func (w *world) rest() time.Duration { return w.bound() + 30*time.Second }

// readyTarget reports whether the group has an app that could take over, whatever the state thinks.
func (w *world) readyTarget(g *failover.GroupState) bool {
	for _, a := range w.apps {
		if g.Apps[a.name] == nil || a.name == g.Active || a.dead || a.hung || a.sick {
			continue
		}
		if a.db == nil {
			return true
		}
	}
	return false
}

func codes(blockers []failover.Blocker) []string {
	var list []string
	for _, b := range blockers {
		list = append(list, b.Code)
	}
	return list
}

func stepsText(o *failover.Switchover) string {
	text := ""
	for i := range o.Steps {
		text += string(o.Steps[i].Name) + "=" + string(o.Steps[i].State) + " "
	}
	return text
}
