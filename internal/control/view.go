package control

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/watchover-ha/watchover/pkg/client"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// snapshot is the status as the API shows it: the replicated state beside what this watcher alone knows. It is pure,
// so that what a person reads can be tested without a cluster.
func snapshot(s *failover.State, l Local, now time.Time) client.Status {
	status := client.Status{
		Watcher: l.Watcher, Version: l.Version, Time: client.Time{Time: now}, Index: s.Index,
		Cluster: clusterView(s, l),
		Zone:    client.Zone{Serial: s.Serial},
		Groups:  []client.Group{},
	}
	if s.Policy == nil {
		return status
	}
	status.Zone.Name = s.Policy.Zone.Name
	for i := range s.Policy.Groups {
		if g, ok := groupView(s, l, s.Policy.Groups[i].Name, now); ok {
			status.Groups = append(status.Groups, g)
		}
	}
	return status
}

func clusterView(s *failover.State, l Local) client.Cluster {
	c := client.Cluster{
		Name: cmp.Or(s.Cluster, l.Cluster), Term: l.Term, CommitIndex: l.CommitIndex, AppliedIndex: l.AppliedIndex,
		HasQuorum: l.HasQuorum, PolicyRevision: s.PolicyRevision, Generation: s.Generation, Waiting: l.Waiting, Watchers: []client.Watcher{},
	}
	if l.Leader != "" {
		c.Leader = &l.Leader
	}
	for _, m := range members(s, l) {
		w := l.Watchers[m.Name]
		view := client.Watcher{
			Name: m.Name, Address: m.Address, State: watcherState(m, w, l), Voter: m.Voter(), Silent: w.Silent && m.Voter(),
			Version: cmp.Or(w.Version, m.About.Version), FileDiffers: m.About.Differs,
		}
		if m.Name == l.Watcher {
			view.Version, view.FileDiffers = cmp.Or(l.Version, view.Version), l.FileDiffers
		}
		c.Watchers = append(c.Watchers, view)
	}
	return c
}

// members are the state's, or, before the cluster's first entry, those that this watcher's file names.
func members(s *failover.State, l Local) []failover.Member {
	if len(s.Members) > 0 {
		return s.Members
	}
	var list []failover.Member
	for name, w := range l.Watchers {
		list = append(list, failover.Member{Name: name, Address: w.Address})
	}
	slices.SortFunc(list, func(a, b failover.Member) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

func watcherState(m failover.Member, w WatcherLocal, l Local) string {
	switch {
	case m.Joining:
		return "joining" // whether it has been started or not
	case w.State != "":
		return w.State
	case m.Name == l.Leader:
		return "leader"
	case w.Silent || l.Leader == "":
		return "unknown"
	}
	return "follower"
}

// groupView shows one group; false if there is none of that name.
func groupView(s *failover.State, l Local, name string, now time.Time) (client.Group, bool) {
	g := s.Groups[name]
	if s.Policy == nil || g == nil {
		return client.Group{}, false
	}
	p := s.Policy.Group(name)
	if p == nil {
		return client.Group{}, false
	}
	view := client.Group{
		Name: name, FQDN: s.Policy.FQDN(p), TTL: uint32(s.Policy.Zone.TTL / time.Second),
		Active: g.Active, Writer: g.Writer, Epoch: g.Epoch, Phase: string(s.Phase(name)),
		Automation: automationView(s, l, p, g, now),
		Apps:       []client.App{},
	}
	for i := range p.Apps {
		view.Apps = append(view.Apps, appView(s, l, g, &p.Apps[i]))
	}
	if g.Switchover.Open() {
		view.Switchover = switchoverView(g.Switchover)
	}
	if n := len(g.History); n > 0 {
		view.LastSwitchover = switchoverView(g.History[n-1])
	}
	if g.Switched != nil {
		view.CachesExpireAt = timePointer(g.Switched.CachesExpireAt)
	}
	view.Warnings = warnings(s, l, p, view, now)
	return view, true
}

func automationView(s *failover.State, l Local, p *failover.Group, g *failover.GroupState, now time.Time) client.Automation {
	a := client.Automation{
		Mode: string(p.Failover.Mode), Armed: s.Armed(p.Name), Blockers: reasonViews(g.Blockers),
	}
	if !l.HasQuorum && !slices.ContainsFunc(g.Blockers, func(b failover.Blocker) bool { return b.Code == failover.BlockNoQuorum }) {
		a.Armed = false
		a.Blockers = append(a.Blockers, client.Reason{Code: failover.BlockNoQuorum, Detail: cutOff(l), Since: cutOffSince(l, now)})
	}
	if u := g.Unconfirmed; u != nil {
		a.Paused, a.Unconfirmed, a.PausedBy, a.Reason = true, true, u.By, u.Reason
	} else if g.Pause != nil {
		a.Paused, a.PausedBy, a.Reason = true, g.Pause.By, g.Pause.Reason
		if g.Pause.For > 0 {
			a.Until = timeValue(g.Pause.Since.Add(g.Pause.For))
		}
	}
	return a
}

// cutOff is the evidence that only this watcher has: the state cannot say that nothing reaches the log any more, since
// that would have to be in the log.
func cutOff(l Local) string {
	if l.Behind != "" {
		return l.Watcher + " " + l.Behind
	}
	return l.Watcher + " has no contact with a majority of the watchers; what it shows is the last that it heard"
}

func cutOffSince(l Local, now time.Time) *client.Time {
	if l.NoQuorumFor == 0 {
		return nil
	}
	return timeValue(now.Add(-l.NoQuorumFor))
}

func appView(s *failover.State, l Local, g *failover.GroupState, p *failover.App) client.App {
	view := client.App{
		Name: p.Name, Role: "standby", Address: slices.Concat([]string{}, p.Address), Health: string(failover.HealthUnknown),
		Maintenance: string(failover.SwitchUnknown), Verdicts: []client.Verdict{}, NotReady: []client.Reason{},
		Probes: []client.Probe{}, Ready: s.Ready(g.Name, p.Name),
	}
	if p.Name == g.Active {
		view.Role = "active"
	}
	for _, probe := range l.Probes[g.Name][p.Name] {
		view.Probes = append(view.Probes, client.Probe{Name: probe.Name, Up: probe.Up, Reason: probe.Reason, Since: timeValue(probe.Since)})
	}
	a := g.Apps[p.Name]
	if a == nil {
		a = &failover.AppState{Name: p.Name}
	}
	view.Health = cmp.Or(string(a.Health), view.Health)
	view.Maintenance = cmp.Or(string(a.Maintenance), view.Maintenance)
	view.Marked, view.Releasing = a.Mark != nil, a.Release != nil
	if a.Mark != nil {
		view.Reprotecting = a.Mark.Reprotect.Open()
		if a.Mark.Reprotect != nil {
			view.ReprotectError = a.Mark.Reprotect.Error
		}
	}
	view.NotReady = reasonViews(a.NotReady)
	view.Verdicts = verdictViews(s, l, a)
	view.CertificateExpires = firstExpiry(a)
	if p.Database != nil {
		view.Database = databaseView(s, l, g.Name, p, a)
	}
	return view
}

// verdictViews has a line for every member: one that never reported is as much news as one that says down.
// Without a quorum none is fresh, whatever the leader's last list said.
func verdictViews(s *failover.State, l Local, a *failover.AppState) []client.Verdict {
	list := []client.Verdict{}
	for _, m := range s.Members {
		if !m.Voter() {
			continue
		}
		v := client.Verdict{Watcher: m.Name, Verdict: string(failover.VerdictUnknown), Fresh: l.HasQuorum && s.IsFresh(m.Name)}
		switch r := a.Reports[m.Name]; {
		case r == nil:
			v.Reason = "no verdict heard yet"
		case r.Revision != a.Revision:
			v.Reason = "probes or role changed; a full round is awaited"
		default:
			v.Verdict, v.Reason, v.Since = string(r.Verdict), r.Reason, timeValue(r.Since)
		}
		list = append(list, v)
	}
	return list
}

func firstExpiry(a *failover.AppState) *client.Time {
	var first *time.Time
	for _, r := range a.Reports {
		if r.Expires != nil && (first == nil || r.Expires.Before(*first)) {
			first = r.Expires
		}
	}
	return timePointer(first)
}

// databaseView prefers this watcher's own live sight; else a fresh watcher's that knows the role, in members' order.
func databaseView(s *failover.State, l Local, group string, p *failover.App, a *failover.AppState) *client.Database {
	view := &client.Database{Kind: p.Database.Kind, Role: string(failover.RoleUnknown)}
	sight, ok := l.Databases[group][p.Name]
	for _, m := range s.Members {
		if r := a.Reports[m.Name]; !ok && r != nil && r.Database != nil && s.IsFresh(m.Name) && r.Database.Role != failover.RoleUnknown {
			sight, ok = *r.Database, true
		}
	}
	if ok {
		view.Role = cmp.Or(string(sight.Role), view.Role)
		view.LagBytes, view.LagSeconds, view.Streaming, view.Frozen = sight.LagBytes, sight.LagSeconds, sight.Streaming, sight.Frozen
	}
	return view
}

// certificateSoon is how long before its end an app's certificate is warned about: renewals are commonly due 30 days
// before. A watcher's own is renewed by hand, so that is warned about earlier.
const (
	certificateSoon = 14 * 24 * time.Hour
	watcherSoon     = 30 * 24 * time.Hour
)

// Warning codes.
const (
	warnStandbyOpen  = "standby_not_in_maintenance"
	warnActiveClosed = "active_in_maintenance"
	warnFileDiffers  = "file_differs"
	warnCertificate  = "certificate_expires"
	warnLowDisk      = "low_disk"
	warnRehearsal    = "rehearsal"
	warnZone         = "zone_incomplete"
)

func warnings(s *failover.State, l Local, p *failover.Group, g client.Group, now time.Time) []client.Warning {
	list := []client.Warning{}
	warn := func(code, format string, args ...any) {
		list = append(list, client.Warning{Code: code, Detail: fmt.Sprintf(format, args...)})
	}
	for i, app := range g.Apps {
		if app.Role == "standby" && p.Apps[i].Maintenance != nil && app.Maintenance == string(failover.SwitchOff) {
			warn(warnStandbyOpen, "%s is not active and not in maintenance", app.Name)
		}
		if app.Role == "active" && !s.Groups[p.Name].Switchover.Open() && app.Maintenance == string(failover.SwitchOn) {
			warn(warnActiveClosed, "%s is active and in maintenance: clients are turned away", app.Name)
		}
		if e := app.CertificateExpires; e != nil && e.Sub(now) < certificateSoon {
			warn(warnCertificate, "a certificate of %s ends at %s", app.Name, e.UTC().Format(time.RFC3339))
		}
	}
	if fault := s.Rehearsed(p.Name)[g.Active]; fault != "" { // of the others it is a reason not to be ready
		warn(warnRehearsal, "%s: %s", g.Active, fault)
	}
	if l.ZoneLacks != "" {
		warn(warnZone, "%s", l.ZoneLacks)
	}
	for _, m := range s.Members {
		if m.Name == l.Watcher && l.FileDiffers || m.Name != l.Watcher && m.About.Differs {
			warn(warnFileDiffers, "the file of %s proposes another policy than the one in force", m.Name)
		}
	}
	for _, m := range s.Members {
		if e := watcherExpiry(m, l); e != nil && e.Sub(now) < watcherSoon {
			warn(warnCertificate, "the certificate of watcher %s ends at %s; the others will then refuse it", m.Name, e.UTC().Format(time.RFC3339))
		}
		switch {
		case m.Name == l.Watcher && l.LowDisk != "":
			warn(warnLowDisk, "%s: %s", l.Watcher, l.LowDisk)
		case m.Name != l.Watcher && m.About.LowDisk:
			warn(warnLowDisk, "%s is running out of disk space", m.Name)
		}
	}
	return list
}

// watcherExpiry is when a watcher's certificate ends. This one's own is known better than the state can know it: a
// watcher that the others refuse cannot tell them.
func watcherExpiry(m failover.Member, l Local) *time.Time {
	for _, cert := range l.Certificates {
		if m.Name == l.Watcher && cert.Name == l.Watcher {
			return &cert.Expires
		}
	}
	return m.About.Expires
}

// switchoverView shows one switchover.
func switchoverView(w *failover.Switchover) *client.Switchover {
	return &client.Switchover{
		ID: w.ID, Group: w.Group, Kind: string(w.Kind), From: w.From, To: w.To, Cause: w.Cause, By: w.By, Epoch: w.Epoch,
		StartedAt: timeValue(w.StartedAt), EndedAt: timePointer(w.EndedAt), Result: string(w.Result),
		AtRisk: riskView(w.AtRisk), Steps: stepViews(w.Steps), Exceptions: append([]string{}, w.Exceptions...),
		Undoing: w.Undoing,
	}
}

func riskView(r failover.AtRisk) client.AtRisk {
	return client.AtRisk{Bytes: r.Bytes, BytesExact: r.BytesExact, Seconds: r.Seconds}
}

func stepViews(steps []failover.Step) []client.Step {
	list := []client.Step{}
	for _, step := range steps {
		list = append(list, client.Step{
			Name: string(step.Name), App: step.App, State: string(step.State), Token: step.Token, Attempts: step.Attempts,
			StartedAt: timePointer(step.StartedAt), EndedAt: timePointer(step.EndedAt), Error: step.Error, Output: joined(step.Output, step.AfterOutput),
		})
	}
	return list
}

func explanationView(e failover.Explanation, l Local, now time.Time) client.Explanation {
	view := client.Explanation{WouldSwitch: e.WouldSwitch && l.HasQuorum, Conditions: []client.Condition{}}
	for _, c := range e.Conditions {
		condition := client.Condition{Code: c.Code, Met: c.Met, Evidence: c.Evidence, Since: timeValue(c.Since)}
		if c.Code == failover.BlockNoQuorum && c.Met && !l.HasQuorum {
			condition = client.Condition{Code: c.Code, Evidence: cutOff(l), Since: cutOffSince(l, now)}
		}
		view.Conditions = append(view.Conditions, condition)
	}
	return view
}

// dryRunView shows what a switchover would do. The log knows a lag only as of the last change that mattered, so what is at
// risk is taken from this watcher's own newest sight of a live stream; and only this watcher knows that it is cut off.
func dryRunView(d failover.DryRun, l Local, group string) client.DryRun {
	if d.Refused == "" && !d.Already && !l.HasQuorum {
		d = failover.DryRun{To: d.To, Refused: failover.BlockNoQuorum + ": " + cutOff(l)}
	}
	if o, ok := l.Databases[group][d.To]; ok && o.Role == failover.RoleReplica && o.Streaming && o.RiskSeconds == nil {
		d.AtRisk.Bytes, d.AtRisk.Seconds = cmp.Or(o.LagBytes, d.AtRisk.Bytes), cmp.Or(o.LagSeconds, d.AtRisk.Seconds)
	}
	return client.DryRun{Kind: string(d.Kind), To: d.To, Steps: stepViews(d.Steps), Refused: d.Refused, AtRisk: riskView(d.AtRisk), AlreadyActive: d.Already}
}

// historyView lists the n newest ended switchovers of a group, or of all groups if it is empty.
func historyView(s *failover.State, group string, n int) client.History {
	var ended []*failover.Switchover
	for name, g := range s.Groups {
		if group == "" || group == name {
			ended = append(ended, g.History...)
		}
	}
	slices.SortFunc(ended, func(a, b *failover.Switchover) int { return cmp.Compare(b.ID, a.ID) })
	view := client.History{Switchovers: []client.Switchover{}}
	for _, w := range ended[:min(n, len(ended))] {
		view.Switchovers = append(view.Switchovers, *switchoverView(w))
	}
	return view
}

func reasonViews(blockers []failover.Blocker) []client.Reason {
	list := []client.Reason{}
	for _, b := range blockers {
		list = append(list, client.Reason{Code: b.Code, Detail: b.Detail, Since: timeValue(b.Since)})
	}
	return list
}

// timeValue is null for the zero time, which means that nobody knows.
func timeValue(t time.Time) *client.Time {
	if t.IsZero() {
		return nil
	}
	return &client.Time{Time: t}
}

func timePointer(t *time.Time) *client.Time {
	if t == nil {
		return nil
	}
	return timeValue(*t)
}

// joined is what a step printed and then its hooks, each beginning a line.
func joined(output, after string) string {
	if output != "" && after != "" && !strings.HasSuffix(output, "\n") {
		output += "\n"
	}
	return output + after
}
