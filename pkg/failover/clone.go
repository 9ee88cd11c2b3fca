package failover

import (
	"maps"
	"unicode/utf8"
)

// clone returns a state whose groups may be changed without touching the original. Reports, holds, pauses, events,
// cursors, changes of the members and ended switchovers are never changed in place, so they are shared.
func (s *State) clone() *State {
	n := *s
	n.Members = append([]Member(nil), s.Members...)
	n.Groups = make(map[string]*GroupState, len(s.Groups))
	for name, g := range s.Groups {
		n.Groups[name] = g.clone()
	}
	return &n
}

func (g *GroupState) clone() *GroupState {
	n := *g
	n.Apps = make(map[string]*AppState, len(g.Apps))
	for name, a := range g.Apps {
		n.Apps[name] = a.clone()
	}
	n.Outage = copied(g.Outage)
	n.Switched = copied(g.Switched)
	n.Switchover = g.Switchover.clone()
	return &n
}

func (a *AppState) clone() *AppState {
	n := *a
	n.Reports = maps.Clone(a.Reports)
	n.Mark = a.Mark.clone()
	n.Release = a.Release.clone()
	return &n
}

func (m *Mark) clone() *Mark {
	n := copied(m)
	if n != nil {
		n.Open = copied(m.Open)
		n.Kept = maps.Clone(m.Kept)
		n.Reprotect = copied(m.Reprotect)
		n.Found = maps.Clone(m.Found)
	}
	return n
}

func (w *Switchover) clone() *Switchover {
	n := copied(w)
	if n != nil {
		n.Steps = append([]Step(nil), w.Steps...)
		n.Exceptions = append([]string(nil), w.Exceptions...)
	}
	return n
}

func copied[T any](p *T) *T {
	if p == nil {
		return nil
	}
	n := *p
	return &n
}

// appendBounded appends to a list of which only the last most are kept. It never writes into the old list's array.
func appendBounded[T any](list []T, most int, item T) []T {
	if over := len(list) + 1 - most; over > 0 {
		list = list[over:]
	}
	return append(list[:len(list):len(list)], item)
}

// cut shortens a text from outside to what the state keeps. It never cuts a character in two: half of one would be
// encoded as something else, and a restored state would differ from a replayed one.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most]
}
