package failover

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"
)

// Beginning anew. A cluster that lost its quorum for good goes on from what one or two of its watchers still have
// (Recover); a cluster may be given a saved state (Restore). Both begin from a state that may be older than what the
// outside has seen, so three things keep numbers from being given twice: the generation rises, and with it every token and
// every id of a switchover; epochs of different generations are a million apart; and the zone's serial is taken from the
// clock again. Nothing acts on such a state by itself: every group is held until a person has looked at it and says so (Ack).

// epochsPerGeneration keeps the epochs of two generations apart. No group is switched over that often in one.
const epochsPerGeneration = 1_000_000

// maxGeneration is the last generation whose tokens every reader of JSON takes as they are: integers up to 2^53 (RFC 8259,
// section 6).
const maxGeneration = 1<<(53-generationBit) - 1

// maxKept is how many watchers a recovery may go on with: so many that all of them are needed to elect the first
// leader. Raft elects none whose log is behind another voter's, so the one with the most is the one that leads.
const maxKept = 2

// Recovery says that the history began anew with what was left of it. Watchers compare it before they let each other in.
type Recovery struct {
	ID         string   `json:"id"`         // tells two recoveries with the same generation apart
	Generation uint64   `json:"generation"` // that began with it
	Left       []Member `json:"left"`       // members that were left behind
	Begun      uint64   `json:"begun"`      // index of the first entry after it; 0: there is none yet
}

// Unconfirmed holds a group still whose state was recovered or restored, until Ack. Only a person knows what the outside has
// seen meanwhile.
type Unconfirmed struct {
	Index  uint64    `json:"index"` // 0: no entry has come since
	Since  time.Time `json:"since"`
	By     string    `json:"by"` // recover, restore
	Reason string    `json:"reason"`
}

// Open is what becomes of open switchovers when a history begins anew. Either way nothing is touched until Ack.
type Open string

// What may become of open switchovers.
const (
	OpenUnsaid Open = ""     // refuse to begin anew if there is one
	OpenUndo   Open = "undo" // take it back; not past the point of no return
	OpenKeep   Open = "keep" // go on with it
)

// RecoverOrder says how a cluster without a quorum is to go on.
type RecoverOrder struct {
	ID    string   // of the recovery
	Keep  []string // watchers that go on; the others are members no longer
	Open  Open
	Above uint64 // a generation that is known to have been; the new one is above it
}

// Recover is the state with which the kept watchers begin anew; s stays as it was. Each of them works it out for itself, from
// its own log, so nothing in it depends on when or where: what needs a clock is left to the first entry.
func (s *State) Recover(o RecoverOrder) (*State, Result) {
	if s.Cluster == "" {
		return nil, refuse(CodeRefused, "not_initialised", "the cluster had not begun when this log ended, so there is nothing to go on with").
			hint("start all watchers with empty data directories, or restore a snapshot into a new cluster")
	}
	if r := s.judgeKept(o.Keep); !r.Accepted {
		return nil, r
	}
	if r := s.judgeOpen(o.Open); !r.Accepted {
		return nil, r
	}
	n := s.clone()
	generation := max(s.Generation, o.Above) + 1
	if generation > maxGeneration {
		return nil, noGeneration()
	}
	n.Members, n.Fresh, n.Change = nil, nil, nil // a change under way has nobody left to end it
	recovery := &Recovery{ID: o.ID, Generation: generation, Left: []Member{}}
	for _, m := range s.Members {
		if slices.Contains(o.Keep, m.Name) {
			n.Members = append(n.Members, m)
		} else {
			recovery.Left = append(recovery.Left, m)
		}
	}
	n.Recovery = recovery
	n.dropReports()
	n.beginGeneration(generation, o.Open, "recover", "recovered from a lost quorum; what others had committed last may be missing")
	return n, Result{Accepted: true}
}

func noGeneration() Result {
	return refuse(CodeRefused, "generation", "generation %d is the last one there can be", maxGeneration)
}

func (s *State) judgeKept(keep []string) Result {
	for _, name := range keep {
		switch m := s.Member(name); {
		case m == nil:
			return refuse(CodeInvalid, "member", "%q is not a watcher of cluster %s; its watchers are %s", name, s.Cluster, strings.Join(s.memberNames(), ", "))
		case !m.Voter():
			return refuse(CodeRefused, "joining", "watcher %s was still joining, its log is not whole", name).
				hint("keep one that voted; add " + name + " anew afterwards")
		}
	}
	switch {
	case len(keep) == 0:
		return refuse(CodeInvalid, "member", "no watcher is kept")
	case len(keep) > maxKept:
		return refuse(CodeRefused, "too_many_kept", "%d watchers are to go on, %d is the most", len(keep), maxKept).
			hint("keep the one or two that have most of the log; wipe the others and add them with watchover members add")
	case len(keep) >= s.Majority() && s.Voters() > 1:
		return refuse(CodeRefused, "quorum", "%d of %d watchers are a quorum, nothing is lost", len(keep), s.Voters()).
			hint("start them; they go on by themselves")
	}
	return Result{Accepted: true}
}

func (s *State) memberNames() []string {
	var names []string
	for _, m := range s.Members {
		names = append(names, m.Name)
	}
	return names
}

// OpenSwitchovers lists the switchovers that have not ended, in the order of their groups.
func (s *State) OpenSwitchovers() []*Switchover {
	var list []*Switchover
	for _, name := range s.GroupNames() {
		if w := s.Groups[name].Switchover; w.Open() {
			list = append(list, w)
		}
	}
	return list
}

// judgeOpen wants a person's word on every open switchover.
func (s *State) judgeOpen(o Open) Result {
	for _, w := range s.OpenSwitchovers() {
		switch {
		case o == OpenUnsaid:
			return refuse(CodeRefused, "open_switchovers", "switchover %d of %s from %s to %s is open", w.ID, w.Group, w.From, w.To).
				hint("say what becomes of it: --open-switchovers=undo or keep; nothing is touched before watchover ack " + w.Group)
		case o == OpenUndo && w.PastNoReturn():
			return refuse(CodeRefused, "past_no_return", "switchover %d of %s is past the point of no return: %s is the writer", w.ID, w.Group, w.To).
				hint("--open-switchovers=keep is all that is left; one that can be taken back is taken back with watchover abort, before ack")
		case o != OpenUndo && o != OpenKeep:
			return refuse(CodeInvalid, "open_switchovers", "open switchovers cannot be treated by %q; undo and keep are known", o)
		}
	}
	return Result{Accepted: true}
}

// dropReports forgets what watchers said that are members no longer.
func (s *State) dropReports() {
	for _, g := range s.Groups {
		for _, a := range g.Apps {
			for watcher := range a.Reports {
				if !s.isMember(watcher) {
					delete(a.Reports, watcher)
				}
			}
		}
	}
}

// beginGeneration raises what must never fall and holds every group.
func (s *State) beginGeneration(generation uint64, open Open, by, reason string) {
	s.Generation = generation
	ids := s.writerIDs()
	for _, name := range s.GroupNames() {
		g := s.Groups[name]
		g.Epoch = max(g.Epoch, generation*epochsPerGeneration)
		g.Unconfirmed = &Unconfirmed{By: by, Reason: reason}
		forgetHands(g)
		if w := g.Switchover; w.Open() && open == OpenUndo && w.Undoing == "" {
			s.undo(g, w, "taken back by "+by)
		}
		g.Blockers = s.blockers(g, ids)
	}
}

// forgetHands notes that the hands of open attempts are no leader's any more. A term of the new history may have the number
// of an old one, and must not be taken for it.
func forgetHands(g *GroupState) {
	if w := g.Switchover; w.Open() {
		for i := range w.Steps {
			w.Steps[i].OpenTerm = 0
		}
	}
	for _, a := range g.Apps {
		for _, m := range []*Mark{a.Mark, a.Release} {
			if m != nil {
				m.Refreeze = m.Refreeze || m == a.Mark && m.Open != nil && m.Open.Part != PartMaintenance // perhaps half-way
				m.Open = nil
			}
		}
	}
	g.dropReprotects("the cluster's history was replaced since it was asked for; ask again")
}

// beginAnew does with the first entry after a recovery what needs a clock.
func (s *State) beginAnew() {
	if s.Recovery == nil || s.Recovery.Begun != 0 {
		return
	}
	r := *s.Recovery
	r.Begun = s.Index
	s.Recovery = &r
	s.bumpSerial()
	s.dateHolds()
	var left []string
	for _, m := range r.Left {
		left = append(left, m.Name)
	}
	sort.Strings(left)
	s.event("recovered", "", "", fmt.Sprintf("cluster %s begins anew with generation %d and %d watchers", s.Cluster, s.Generation, len(s.Members)),
		map[string]string{"recovery": r.ID, "left_behind": strings.Join(left, ",")})
}

func (s *State) dateHolds() {
	for _, g := range s.Groups {
		if u := g.Unconfirmed; u != nil && u.Index == 0 {
			g.Unconfirmed = &Unconfirmed{Index: s.Index, Since: s.Time, By: u.By, Reason: u.Reason}
		}
	}
}

// confirm ends the hold on a recovered or restored group, and nothing else.
func (s *State) confirm(g *GroupState, by string) Result {
	what := g.Unconfirmed.By
	g.Unconfirmed = nil
	s.event("acknowledged", g.Name, "", "the state of "+g.Name+" is confirmed after "+what, map[string]string{"by": by})
	r := Result{Accepted: true}
	if g.Pause != nil {
		r.Note = g.Name + " acknowledged; it is still paused by " + g.Pause.By + ", watchover resume " + g.Name + " ends that"
	}
	return r
}

// unconfirmed refuses what must wait until a person has looked.
func unconfirmed(g *GroupState) Result {
	return refuse(CodeRefused, BlockPaused, "the state of %s is unconfirmed after %s: %s", g.Name, g.Unconfirmed.By, g.Unconfirmed.Reason).
		hint("look at watchover status " + g.Name + "; if it is true, watchover ack " + g.Name)
}
