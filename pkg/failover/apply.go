package failover

import (
	"fmt"
	"slices"
	"sort"
	"time"
)

// Apply returns the state after one committed entry, and what the proposer is to learn of it. It is deterministic and
// leaves s as it was. Whatever the entry brought, every group is then looked at afresh: health, readiness, whether the
// running switchover can advance, and whether the rule of decide opens one.
func (s *State) Apply(e Entry) (*State, Result) {
	n := s.clone()
	n.Index, n.Term = e.Index, e.Term
	c := &e.Command
	if c.Term != e.Term {
		return n, refuse(CodeStale, "term", "the command was proposed in term %d and landed in term %d", c.Term, e.Term).at(e.Index)
	}
	if r, seen := n.seen(c.ID); seen {
		return n, r
	}
	if t := c.Time.UTC(); t.Year() > 0 && t.Year() < lastYear {
		n.Time = t
	}
	if n.Cluster == "" && c.Init == nil {
		return n, refuse(CodeRefused, "not_initialised", "the cluster has no first entry yet").at(e.Index)
	}
	n.hear(c.Fresh)
	n.beginAnew()
	n.refreshHealth()
	command := *c
	command.By = cut(c.By, maxText)
	r := n.perform(&command)
	n.refresh()
	r.Index = e.Index
	if c.ID != "" {
		n.Applied = appendBounded(n.Applied, appliedKept, Applied{ID: c.ID, Result: r})
	}
	return n, r
}

// perform dispatches the one thing that the command carries.
func (s *State) perform(c *Command) Result {
	switch {
	case c.Init != nil:
		return s.init(c)
	case c.Tick != nil:
		return Result{Accepted: true}
	case c.Reports != nil:
		return s.report(c.Reports)
	case c.Due != nil:
		return s.due(c.Due.Key)
	case c.SetPolicy != nil:
		return s.setPolicy(c.SetPolicy, c.By)
	case c.Request != nil:
		return s.request(c.Request, c.By)
	case c.Abort != nil:
		return s.abort(c.Abort, c.By)
	case c.Retry != nil:
		return s.retry(c.Retry, c.By)
	case c.Ack != nil:
		return s.ack(c.Ack, c.By)
	case c.Pause != nil:
		return s.pause(c.Pause, c.By)
	case c.Resume != nil:
		return s.resume(c.Resume, c.By)
	case c.Journal != nil:
		return s.journal(c.Journal)
	case c.Reprotect != nil:
		return s.reprotect(c.Reprotect, c.By)
	case c.Told != nil:
		return s.tell(c.Told)
	case c.Restore != nil:
		return s.restore(c.Restore, c.By)
	case c.AddMember != nil:
		return s.addMember(c.AddMember, c.By)
	case c.JoinMember != nil:
		return s.joinMember(c.JoinMember)
	case c.AdmitMember != nil:
		return s.admitMember(c.AdmitMember, c.Fresh)
	case c.RemoveMember != nil:
		return s.removeMember(c.RemoveMember, c.By)
	case c.SettleMembers != nil:
		return s.settleMembers(c.SettleMembers)
	case c.Transfer != nil:
		return s.transfer(c.Transfer, c.By)
	}
	return refuse(CodeInvalid, "empty", "the command carries nothing that this version knows")
}

func (s *State) seen(id string) (Result, bool) {
	if id == "" {
		return Result{}, false
	}
	for _, a := range s.Applied {
		if a.ID == id {
			return a.Result, true
		}
	}
	return Result{}, false
}

// hear replaces the list of watchers whose verdicts count. Names that are not members do not, nor do those that join.
func (s *State) hear(fresh []string) {
	s.FreshTerm = s.Term
	s.Fresh = nil
	for _, m := range s.Members {
		if m.Voter() && slices.Contains(fresh, m.Name) {
			s.Fresh = append(s.Fresh, m.Name)
		}
	}
	sort.Strings(s.Fresh)
}

func (s *State) init(command *Command) Result {
	c := command.Init
	if s.Cluster != "" {
		return refuse(CodeRefused, "initialised", "the cluster is already %q", s.Cluster)
	}
	if c.Cluster == "" {
		return refuse(CodeInvalid, "init", "a cluster needs a name")
	}
	if err := checkMembers(c.Members); err != nil {
		return refuse(CodeInvalid, "init", "%v", err)
	}
	if err := c.Policy.check(); err != nil {
		return refuse(CodeInvalid, "policy", "%v", err)
	}
	s.Cluster, s.ClusterID = c.Cluster, c.ClusterID
	s.Members = slices.Clone(c.Members)
	sort.Slice(s.Members, func(i, j int) bool { return s.Members[i].Name < s.Members[j].Name })
	s.hear(command.Fresh)
	s.adopt(c.Policy)
	s.event("cluster", "", "", fmt.Sprintf("cluster %s begins with %d watchers", c.Cluster, len(c.Members)), nil)
	return Result{Accepted: true}
}

// report takes in what watchers say of apps and of themselves.
func (s *State) report(c *Reports) Result {
	for i := range c.Reports {
		s.takeReport(c.Reports[i])
	}
	for i := range s.Members {
		m := &s.Members[i]
		about, ok := c.About[m.Name]
		if ok && newer(about.Boot, about.Seq, m.About.Boot, m.About.Seq) {
			if about.Unseen { // a restart lifts nothing
				about.Missing, about.Differs = m.About.Missing, m.About.Differs
			}
			about.Missing = s.boundMissing(about.Missing)
			if about.Faults != nil {
				about.Faults = bounded(about.Faults)
			}
			about.Version = cut(about.Version, maxText)
			s.noteDisk(m, about.LowDisk)
			about.Life, about.Node = cut(about.Life, maxText), cut(about.Node, maxText)
			if m.Node == "" && m.Voter() && !s.hasNode(about.Node) {
				m.Node = about.Node // in a log from before data directories had ids in it
			}
			about.Node = ""
			m.About = about
		}
	}
	return Result{Accepted: true}
}

// boundMissing keeps so many of the missing files, and one at least of each group, for that is what holds the group back.
func (s *State) boundMissing(list []MissingFile) []MissingFile {
	if len(list) <= maxMissing {
		return list
	}
	var kept []MissingFile
	told := map[string]bool{}
	for _, f := range list {
		if s.Groups[f.Group] != nil && (len(kept) < maxMissing || !told[f.Group]) {
			kept = append(kept, f)
			told[f.Group] = true
		}
	}
	return kept
}

// noteDisk announces that a watcher's disk begins or ceases to run out of space.
func (s *State) noteDisk(m *Member, low bool) {
	if low == m.About.LowDisk {
		return
	}
	text := m.Name + " is running out of disk space"
	if !low {
		text = m.Name + " has enough disk space again"
	}
	s.event("low_disk", "", "", text, map[string]string{"watcher": m.Name, "low": fmt.Sprint(low)})
}

func (s *State) takeReport(r Report) {
	g := s.Groups[r.Group]
	if g == nil || g.Apps[r.App] == nil || !s.isMember(r.Watcher) {
		return
	}
	a := g.Apps[r.App]
	old := a.Reports[r.Watcher]
	if r.Revision != a.Revision || old != nil && !newer(r.Boot, r.Seq, old.Boot, old.Seq) {
		return
	}
	r.Reason = cut(r.Reason, maxText)
	if old == nil && r.Verdict != VerdictUnknown || old != nil && old.Verdict != r.Verdict {
		s.event("verdict", g.Name, a.Name, fmt.Sprintf("%s finds %s %s", r.Watcher, a.Name, r.Verdict),
			map[string]string{"watcher": r.Watcher, "verdict": string(r.Verdict), "reason": r.Reason})
	}
	if old != nil {
		r.Database = r.Database.rememberWho(old.Database)
	}
	if r.Database != nil && len(r.Database.ID) > maxText {
		r.Database = copied(r.Database)
		r.Database.ID = cut(r.Database.ID, maxText)
	}
	a.noteFrozen(r.Database)
	a.Reports[r.Watcher] = &r
}

// noteFrozen remembers that a database tells when it is frozen.
func (a *AppState) noteFrozen(o *Observation) {
	a.TellsFrozen = a.TellsFrozen || o != nil && o.Frozen
}

// rememberWho carries over to which database cluster and timeline a database belongs when it does not tell any more: in
// an outage that is what a target is measured against. A watcher goes on telling the cluster that it knows, without the
// timeline.
func (o *Observation) rememberWho(old *Observation) *Observation {
	if old == nil || old.ID == "" && old.Timeline == 0 || o != nil && (o.Timeline != 0 || o.ID != "" && o.ID != old.ID) {
		return o
	}
	n := Observation{Role: RoleUnknown}
	if o != nil {
		n = *o
	}
	n.ID, n.Timeline = old.ID, old.Timeline
	return &n
}

func newer(boot, seq, oldBoot, oldSeq uint64) bool {
	return boot > oldBoot || boot == oldBoot && seq > oldSeq
}

// pause, resume, ack: a person's orders to the automation.

func (s *State) pause(c *PauseOrder, by string) Result {
	if c.For < 0 {
		return refuse(CodeInvalid, "for", "the duration %s is negative", c.For)
	}
	groups, r := s.named(c.Group)
	changed := false
	for _, g := range groups {
		if g.Pause != nil && g.Pause.For == 0 && c.Signal {
			continue // a timed pause is made one that lasts
		}
		changed = true
		g.Pause = &Pause{Index: s.Index, Since: s.Time, By: by, Reason: cut(c.Reason, maxText), For: c.For}
		s.event("paused", g.Name, "", "automation of "+g.Name+" paused", map[string]string{"by": by, "reason": g.Pause.Reason})
	}
	if !changed && len(groups) > 0 {
		r.Note = "already paused"
	}
	return r
}

func (s *State) resume(c *GroupOrder, by string) Result {
	groups, r := s.named(c.Group)
	for _, g := range groups {
		if g.Unconfirmed != nil {
			if c.Group != "" {
				return unconfirmed(g)
			}
			r.Note = "groups whose state is unconfirmed after a recovery or a restore stay held: watchover ack GROUP"
			continue
		}
		if g.Pause == nil {
			continue
		}
		g.Pause = nil
		s.event("resumed", g.Name, "", "automation of "+g.Name+" resumed", map[string]string{"by": by})
	}
	return r
}

func (s *State) ack(c *GroupOrder, by string) Result {
	g := s.Groups[c.Group]
	if g == nil {
		return noGroup(c.Group)
	}
	if g.Unconfirmed != nil {
		return s.confirm(g, by)
	}
	if g.Cooldown == nil && g.Retry == nil && g.OutOfReach == "" {
		return Result{Accepted: true, Note: "nothing to acknowledge"}
	}
	g.Cooldown, g.Retry, g.Undone, g.OutOfReach = nil, nil, 0, ""
	s.event("acknowledged", g.Name, "", "cooldown of "+g.Name+" ended by hand", map[string]string{"by": by})
	return Result{Accepted: true}
}

// named returns the group of that name, or all groups in order for the empty name.
func (s *State) named(name string) ([]*GroupState, Result) {
	if name != "" {
		if g := s.Groups[name]; g != nil {
			return []*GroupState{g}, Result{Accepted: true}
		}
		return nil, noGroup(name)
	}
	groups := make([]*GroupState, 0, len(s.Groups))
	for _, g := range s.GroupNames() {
		groups = append(groups, s.Groups[g])
	}
	return groups, Result{Accepted: true}
}

func noGroup(name string) Result {
	return refuse(CodeNotFound, "", "there is no group %q", name)
}

func refuse(code, rule, format string, args ...any) Result {
	return Result{Code: code, Rule: rule, Detail: fmt.Sprintf(format, args...)}
}

func (r Result) at(index uint64) Result { r.Index = index; return r }

func (r Result) hint(text string) Result { r.Hint = text; return r }

func (s *State) event(kind, group, app, text string, data map[string]string) {
	s.EventSeq++
	if len(s.Events) == eventsKept {
		s.lose(&s.Events[0])
	}
	s.Events = appendBounded(s.Events, eventsKept, Event{Seq: s.EventSeq, Time: s.Time, Type: kind, Group: group, App: app, Text: text, Data: data})
}

// bumpSerial makes the zone newer. The serial is the entry's clock in Unix seconds so that it stays ahead of a zone
// that was served from elsewhere before, and never less than the one before plus one (RFC 1912, section 2.2).
func (s *State) bumpSerial() {
	next := s.Serial + 1
	if now := s.Time.Unix(); now > int64(next) && now <= int64(^uint32(0)) {
		next = uint32(now)
	}
	s.Serial = next
}

func at(t time.Time) *time.Time { return &t }
