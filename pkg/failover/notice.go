package failover

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
)

// Notifications. The leader tells every target of a group's notifications the events that a person should be woken or
// at least mailed for. How far each target has been told is part of the state, so that the next leader goes on where the
// last one stopped: at least once, in order. The events themselves are those that the state keeps; what is dropped before
// a target could be told is counted for it.

// Cursor says how far one target of a group's notifications has been told.
type Cursor struct {
	Seq  uint64 `json:"seq"`            // of the last event that it has been told; a new target begins at the newest
	Lost uint64 `json:"lost,omitempty"` // later events that were dropped before it could be told
}

// Told says that a target has been told a group's events up to Seq, and that Lost were dropped before.
type Told struct {
	Group  string `json:"group"`
	Target string `json:"target"` // Action.Key
	Seq    uint64 `json:"seq"`
	Lost   uint64 `json:"lost,omitempty"`
}

// Notice is an event that a target is to be told.
type Notice struct {
	Event
	ID   string // the same each time the event is told
	Lost uint64 // events before it that were dropped untold
}

// told are the types of events that notifications carry: what changes how safe the group is, or waits for a person.
// Single verdicts and steps are left out, and what a person has just done and seen answered.
var told = map[string]bool{
	"switchover_opened": true, "switchover_ended": true,
	"halted": true, "going_on": true, "undoing": true, "undo_kept": true, "released": true,
	"marked": true, "fenced": true, "unmarked": true, "reprotect_failed": true,
	"blocked": true, "would_switch": true, "health": true,
	"paused": true, "resumed": true,
	"low_disk": true,
}

// concerns reports whether a group's targets are told the event. Events of no group concern all.
func (e *Event) concerns(group string) bool {
	if e.Group != "" && e.Group != group || !told[e.Type] {
		return false
	}
	if e.Type != "health" {
		return true
	}
	// Once that it is down and once that it is up again, whatever it seemed to be in between.
	was := e.Data["was"] == string(HealthDown)
	return e.Data["health"] == string(HealthDown) && !was || e.Data["health"] == string(HealthUp) && was
}

// Key identifies a target of notifications: the same one keeps its cursor when the policy's other parts change.
func (a *Action) Key() string {
	text, err := json.Marshal(a)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// NextNotice is the first event that a target has not been told yet; false: there is none, or no such target.
func (s *State) NextNotice(group, target string) (Notice, bool) {
	g := s.Groups[group]
	if g == nil {
		return Notice{}, false
	}
	c, ok := g.Notified[target]
	if !ok {
		return Notice{}, false
	}
	for i := range s.Events {
		if e := &s.Events[i]; e.Seq > c.Seq && e.concerns(group) {
			return Notice{Event: *e, ID: fmt.Sprintf("%s-%d-%d", s.ClusterID, s.Generation, e.Seq), Lost: c.Lost}, true
		}
	}
	return Notice{}, false
}

// GroupsToTell lists the groups whose targets are to be told something of the events after seq.
func (s *State) GroupsToTell(seq uint64) []string {
	var list []string
	for _, name := range s.GroupNames() {
		if len(s.Groups[name].Notified) > 0 && s.anyConcerns(name, seq) {
			list = append(list, name)
		}
	}
	return list
}

func (s *State) anyConcerns(group string, seq uint64) bool {
	for i := len(s.Events) - 1; i >= 0 && s.Events[i].Seq > seq; i-- {
		if s.Events[i].concerns(group) {
			return true
		}
	}
	return false
}

// tell moves a target's cursor. It is no event, or telling would never end.
func (s *State) tell(c *Told) Result {
	g := s.Groups[c.Group]
	if g == nil {
		return noGroup(c.Group)
	}
	cursor, ok := g.Notified[c.Target]
	switch {
	case !ok:
		return refuse(CodeNotFound, "target", "group %s has no target %q", g.Name, c.Target)
	case c.Seq > s.EventSeq:
		return refuse(CodeInvalid, "seq", "event %d has not happened, the last one is %d", c.Seq, s.EventSeq)
	case c.Seq <= cursor.Seq:
		return Result{Accepted: true, Note: "told already"}
	}
	cursor.Seq = c.Seq
	cursor.Lost -= min(cursor.Lost, c.Lost)
	g.Notified = maps.Clone(g.Notified)
	g.Notified[c.Target] = cursor
	return Result{Accepted: true}
}

// lose counts an event that is about to be dropped for every target that has not been told it.
func (s *State) lose(e *Event) {
	for name, g := range s.Groups {
		if len(g.Notified) == 0 || !e.concerns(name) {
			continue
		}
		after := make(map[string]Cursor, len(g.Notified))
		for target, c := range g.Notified {
			if c.Seq < e.Seq {
				c.Lost++
			}
			after[target] = c
		}
		g.Notified = after
	}
}

// cursors keeps those of a group's targets that remain and begins new ones at seq. Nil: the group has none.
func cursors(old map[string]Cursor, targets []Action, seq uint64) map[string]Cursor {
	if len(targets) == 0 {
		return nil
	}
	list := make(map[string]Cursor, len(targets))
	for i := range targets {
		key := targets[i].Key()
		c, ok := old[key]
		if !ok {
			c.Seq = seq
		}
		list[key] = c
	}
	return list
}

// checkCursors refuses cursors that are not those of the group's targets, or that stand before the events.
func (s *State) checkCursors(g *GroupState, p *Group) error {
	want := cursors(g.Notified, p.Notify, s.EventSeq)
	if len(want) != len(g.Notified) {
		return fmt.Errorf("it has cursors of %d targets of notifications, its policy has %d", len(g.Notified), len(want))
	}
	for target, c := range want {
		if have, ok := g.Notified[target]; !ok || have != c || c.Seq > s.EventSeq {
			return fmt.Errorf("the cursor of target %s is missing or stands at event %d, the last one is %d", target, c.Seq, s.EventSeq)
		}
	}
	return nil
}
