package failover

import (
	"fmt"
	"slices"
	"time"
)

// Not-ready codes.
const (
	NotReadyProbes       = "probes"
	NotReadyCertificate  = "certificate" // beside probes: what failed there is the certificate that it shows
	NotReadyNotReplica   = "not_replica"
	NotReadyWrongCluster = "wrong_cluster"
	NotReadyNotStreaming = "not_streaming"
	NotReadyLag          = "lag"
)

// notReady says why an app could not take over now; for the active app, why it is not serving. A replica counts when a
// strict majority of all members saw it fit, each judged on its own sight.
func (s *State) notReady(g *GroupState, p *Group, a *AppState) []Blocker {
	var reasons []Blocker
	if a.Health != HealthUp {
		reasons = append(reasons, Blocker{Code: NotReadyProbes, Detail: s.whyNotUp(a)})
		if r := s.untrusted(a); r != nil {
			reasons = append(reasons, Blocker{Code: NotReadyCertificate, Detail: r.Watcher + ": " + r.Reason})
		}
	}
	if a.Name == g.Active {
		return reasons
	}
	if p.HasDatabase() {
		if r, ok := s.databaseUnfit(g, p, a); !ok {
			reasons = append(reasons, r)
		}
	}
	if detail := s.rehearsed(g.Name, a.Name); detail != "" {
		reasons = append(reasons, Blocker{Code: NotReadyRehearsal, Detail: detail})
	}
	return reasons
}

// untrusted is the first fresh report that the app's certificate was refused; nil if there is none.
func (s *State) untrusted(a *AppState) *Report {
	for _, r := range s.freshReports(a) {
		if r.Verdict != VerdictUp && r.Untrusted {
			return r
		}
	}
	return nil
}

func (s *State) whyNotUp(a *AppState) string {
	for _, r := range s.freshReports(a) {
		if r.Verdict != VerdictUp && r.Reason != "" {
			return r.Reason
		}
	}
	return fmt.Sprintf("%d of %d watchers find it up", s.count(a, VerdictUp), s.Voters())
}

// databaseUnfit counts the watchers that saw the database fit to be promoted; ok if they are a majority. Otherwise the
// reason is the first in the order of the codes below that some watcher had. Who the database is, which not even force
// overrides, is judged by itself: where a majority sees a replica of the right cluster, one watcher's bad sight is no reason.
func (s *State) databaseUnfit(g *GroupState, p *Group, a *AppState) (Blocker, bool) {
	fit, replica := 0, 0
	reasons := make([]*Blocker, len(unfitOrder))
	id, timeline := s.writerIdentity(g)
	for _, r := range s.freshReports(a) {
		code, detail := unfit(r.Database, id, timeline, p.Failover.MaxLag)
		if code == "" {
			fit++
		} else if i := slices.Index(unfitOrder, code); reasons[i] == nil {
			reasons[i] = &Blocker{Code: code, Detail: r.Watcher + ": " + detail}
		}
		if !neverOverridden(code) {
			replica++
		}
	}
	for _, reason := range reasons {
		if reason != nil && !(neverOverridden(reason.Code) && replica >= s.Majority()) {
			return *reason, fit >= s.Majority()
		}
	}
	return Blocker{Code: NotReadyNotReplica, Detail: "no watcher has seen its database"}, fit >= s.Majority()
}

// unfitOrder ranks the reasons: who the database is comes before how it does.
var unfitOrder = []string{NotReadyNotReplica, NotReadyWrongCluster, NotReadyNotStreaming, NotReadyLag}

// neverOverridden reports whether a reason says that the target is not a replica of the same database.
func neverOverridden(code string) bool {
	return code == NotReadyNotReplica || code == NotReadyWrongCluster
}

// unfit says why one observation of a replica does not allow its promotion; an empty code if it does.
func unfit(o *Observation, writerID string, writerTimeline uint64, limit MaxLag) (code, detail string) {
	switch {
	case o == nil:
		return NotReadyNotReplica, "its database was not seen"
	case o.Role != RoleReplica:
		return NotReadyNotReplica, fmt.Sprintf("its database says it is %s", o.Role)
	case o.ID != "" && writerID != "" && o.ID != writerID:
		return NotReadyWrongCluster, fmt.Sprintf("its database belongs to %s, the writer's to %s", o.ID, writerID)
	case o.Timeline != 0 && writerTimeline != 0 && o.Timeline != writerTimeline:
		return NotReadyWrongCluster, fmt.Sprintf("its database is on timeline %d, the writer's on %d", o.Timeline, writerTimeline)
	case !o.Streaming && !o.UntilOutage:
		return NotReadyNotStreaming, "its database does not receive from the writer"
	}
	return tooFarBehind(o, limit)
}

// tooFarBehind applies max_lag to whatever of the lag is known. A database that tells none of it is not trusted. Bytes that
// a watcher worked out from positions do not do without the seconds: few bytes may be old ones.
func tooFarBehind(o *Observation, limit MaxLag) (code, detail string) {
	switch {
	case o.LagBytes == nil && o.LagSeconds == nil:
		return NotReadyLag, "its database does not tell how far it is behind"
	case o.LagBytes != nil && *o.LagBytes > limit.Bytes:
		return NotReadyLag, fmt.Sprintf("%d bytes behind, the limit is %d", *o.LagBytes, limit.Bytes)
	case o.LagSeconds == nil && o.Position != nil:
		return NotReadyLag, "its database has not received the oldest position of the writer's that is remembered, so nobody knows for how long it is behind"
	case o.LagSeconds != nil && *o.LagSeconds > limit.Time.Seconds():
		return NotReadyLag, fmt.Sprintf("%.1f s behind, the limit is %s", *o.LagSeconds, limit.Time)
	}
	return "", ""
}

// writerIdentity is the database cluster and timeline that the watchers see at the writer: what those say that see it as a
// primary now, else what the others know, else old sights, for a writer that does not answer has not become another one, and last
// what a majority once saw. One
// watcher that is wrong does not decide for all: the cluster that most of them name counts, and its timelines alone.
func (s *State) writerIdentity(g *GroupState) (id string, timeline uint64) {
	a := g.Apps[g.Writer]
	if a == nil {
		return "", 0
	}
	var primary, fresh, all []*Observation
	for _, r := range s.freshReports(a) {
		if r.Database != nil {
			fresh = append(fresh, r.Database)
			if r.Database.Role == RolePrimary {
				primary = append(primary, r.Database)
			}
		}
	}
	for _, m := range s.Members {
		if r := a.Reports[m.Name]; r != nil && r.Database != nil {
			all = append(all, r.Database)
		}
	}
	for _, seen := range [][]*Observation{primary, fresh, all} {
		if id == "" {
			id = mostNamed(seen)
		}
	}
	if id == "" {
		id = g.WriterID
	}
	if newestTimeline(primary, id) != 0 {
		return id, newestTimeline(fresh, id)
	}
	if timeline = newestTimeline(all, id); timeline == 0 && id == g.WriterID {
		timeline = g.WriterTimeline
	}
	return id, timeline
}

// noteWriter keeps who the writer's database is, for when those who have seen it are members no more or have forgotten it.
func (s *State) noteWriter(g *GroupState) {
	if a := g.Apps[g.Writer]; a == nil || s.role(a) != RolePrimary {
		return
	}
	if id, timeline := s.writerIdentity(g); id != "" || timeline != 0 {
		g.WriterID, g.WriterTimeline = id, timeline
	}
}

// mostNamed is the database cluster that most observations name; of two that are named as often, the first.
func mostNamed(seen []*Observation) string {
	count, most := map[string]int{}, ""
	for _, o := range seen {
		if o.ID != "" {
			count[o.ID]++
		}
	}
	for _, o := range seen {
		if count[o.ID] > count[most] {
			most = o.ID
		}
	}
	return most
}

// newestTimeline is the highest one that is told of a database cluster: a timeline only rises, and the older one is an old sight.
func newestTimeline(seen []*Observation, id string) (timeline uint64) {
	for _, o := range seen {
		if o.ID == id {
			timeline = max(timeline, o.Timeline)
		}
	}
	return timeline
}

// target picks whom an unattended switchover moves to: the first ready app in order of preference. After one that was
// undone, the next ready app after the one that failed comes first.
func (s *State) target(g *GroupState) string {
	p := s.Policy.Group(g.Name)
	var ready []string
	for _, app := range p.Apps {
		if app.Name != g.Active && s.Ready(g.Name, app.Name) {
			ready = append(ready, app.Name)
		}
	}
	if len(ready) == 0 {
		return ""
	}
	if g.Undone > 0 {
		for i, name := range ready {
			if name == g.LastTarget {
				return ready[(i+1)%len(ready)]
			}
		}
	}
	return ready[0]
}

// Ready reports whether an app could take over now; of the active app, whether its health is up.
func (s *State) Ready(group, app string) bool {
	g := s.Groups[group]
	return g != nil && g.Apps[app] != nil && len(g.Apps[app].NotReady) == 0 && g.Apps[app].Health == HealthUp
}

// keepSince carries over since when each reason holds.
func keepSince(old, now []Blocker, t time.Time) []Blocker {
	for i := range now {
		now[i].Since = t
		for _, b := range old {
			if b.Code == now[i].Code {
				now[i].Since = b.Since
			}
		}
	}
	return now
}

func secondsOf(ttl uint32) time.Duration { return time.Duration(ttl) * time.Second }
