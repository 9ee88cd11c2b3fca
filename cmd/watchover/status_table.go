package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/watchover-ha/watchover/pkg/client"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// status prints what is wrong first, then each group, then the watchers.
func (p *page) status(s *client.Status) {
	now := s.Time.Time
	p.head(s)
	for _, problem := range problems(s) {
		sign, look := "! ", warn
		if problem.critical {
			sign, look = "!!", bad
		}
		text := problem.text
		if problem.group != "" {
			text = problem.group + ": " + text
		}
		p.wrapped(look, sign+" ", text)
	}
	for i := range s.Groups {
		p.line("")
		p.group(&s.Groups[i], now)
	}
	if len(s.Groups) == 0 {
		p.line("\nthe cluster has no groups yet")
	}
	p.line("")
	p.watchers(s)
}

func (p *page) head(s *client.Status) {
	quorum, leader := p.paint(good, "quorum"), "no leader"
	if !s.Cluster.HasQuorum {
		quorum = p.paint(bad, "NO QUORUM")
	}
	if s.Cluster.Leader != nil {
		leader = "leader " + clean(*s.Cluster.Leader)
	}
	p.line("%s  %s  %s  %s", p.paint(bold, clean(s.Cluster.Name)), quorum, leader,
		p.paint(dim, fmt.Sprintf("seen by %s at %s", clean(s.Watcher), clock(&s.Time, s.Time.Time))))
}

func (p *page) group(g *client.Group, now time.Time) {
	armed := p.paint(good, "armed")
	if !g.Automation.Armed {
		armed = p.paint(warn, "not armed")
	}
	p.line("%s  %s  %s  %s", p.paint(bold, clean(g.Name)), p.paint(wordStyle(g.Phase), strings.ToUpper(clean(g.Phase))), armed, clean(g.FQDN))
	p.line("  %s is active, epoch %d, mode %s%s", clean(g.Active), g.Epoch, clean(g.Automation.Mode), pausedText(g.Automation, now))
	table := [][]cell{header("APP", "ROLE", "HEALTH", "READY", "MAINTENANCE", "DATABASE, LAG", "VERDICTS")}
	for _, a := range g.Apps {
		table = append(table, []cell{
			c(short(a.Name, 14)), c(a.Role), word(a.Health), word(yesNo(a.Ready)), c(maintenance(a)), c(database(a.Database)), c(verdicts(a.Verdicts)),
		})
	}
	p.rows("  ", table)
	for _, a := range g.Apps {
		p.whyApp(a, now)
	}
	switch {
	case g.Switchover != nil:
		p.switchover("  ", g.Switchover, now)
	case g.LastSwitchover != nil:
		l := g.LastSwitchover
		p.wrapped(plain, "  last: ", fmt.Sprintf("%s %d from %s to %s: %s, ended %s after %s", l.Kind, l.ID, l.From, l.To, l.Result, clock(l.EndedAt, now), took(l.StartedAt, l.EndedAt, now)))
	}
	if g.CachesExpireAt != nil && g.CachesExpireAt.After(now) {
		p.line("  the last caches drop the old answer at %s", clock(g.CachesExpireAt, now))
	}
}

func pausedText(a client.Automation, now time.Time) string {
	switch {
	case !a.Paused:
		return ""
	case a.Unconfirmed:
		return ", held until ack"
	case a.Until == nil:
		return ", paused until resume"
	}
	return ", paused until " + clock(a.Until, now)
}

// whyApp says of one app what its line in the table leaves open.
func (p *page) whyApp(a client.App, now time.Time) {
	var said []string // in the order of the watchers
	by := map[string][]string{}
	for _, v := range a.Verdicts {
		if v.Verdict == "down" || !v.Fresh {
			text := v.Verdict + staleText(v.Fresh) + reasonText(v)
			if by[text] == nil {
				said = append(said, text)
			}
			by[text] = append(by[text], v.Watcher)
		}
	}
	for _, r := range a.NotReady {
		if r.Code != failover.NotReadyProbes || len(said) == 0 {
			p.wrapped(dim, "    ", fmt.Sprintf("%s: %s: %s%s", a.Name, r.Code, r.Detail, sinceText(r.Since, now)))
		}
	}
	for _, text := range said {
		p.wrapped(dim, "    ", fmt.Sprintf("%s by %s: %s", a.Name, strings.Join(by[text], ", "), text))
	}
}

func staleText(fresh bool) string {
	if fresh {
		return ""
	}
	return " (not fresh)"
}

func reasonText(v client.Verdict) string {
	if v.Reason == "" {
		return ""
	}
	return ": " + v.Reason
}

func sinceText(t *client.Time, now time.Time) string {
	if t == nil {
		return ""
	}
	return " (since " + clock(t, now) + ")"
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func maintenance(a client.App) string {
	text := a.Maintenance
	if a.Marked {
		text += ", marked"
	}
	if a.Releasing {
		text += ", to open"
	}
	return text
}

func database(d *client.Database) string {
	if d == nil {
		return "-"
	}
	text := d.Role
	if d.Frozen {
		text += ", frozen"
	}
	switch {
	case d.Role != "replica":
	case d.LagBytes != nil:
		text += ", " + size(*d.LagBytes)
	case d.LagSeconds != nil:
		text += fmt.Sprintf(", %.1f s", *d.LagSeconds)
	}
	return text
}

// verdicts counts them: the names of five watchers do not fit.
func verdicts(list []client.Verdict) string {
	var parts []string
	for _, verdict := range []string{"up", "down", "unknown"} {
		n := 0
		for _, v := range list {
			if v.Verdict == verdict {
				n++
			}
		}
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, verdict))
		}
	}
	return strings.Join(parts, " ")
}

// switchover prints a run of the plan with every step.
func (p *page) switchover(indent string, w *client.Switchover, now time.Time) {
	p.line("%s%s %d  %s -> %s  %s  %s", indent, clean(w.Kind), w.ID, clean(w.From), clean(w.To),
		p.paint(wordStyle(w.Result), clean(w.Result)), p.paint(dim, clock(w.StartedAt, now)+", "+took(w.StartedAt, w.EndedAt, now)))
	inner := indent + "  "
	cause := w.Cause
	if !strings.Contains(cause, w.By) { // it often says who asked
		cause = "by " + w.By + ": " + cause
	}
	p.wrapped(plain, inner, cause)
	if text, ok := risk(w.AtRisk); ok && promotes(w.Steps) {
		p.wrapped(plain, inner, "at risk: "+text)
	}
	if w.Undoing != "" {
		p.wrapped(warn, inner, "undone because: "+w.Undoing)
	}
	for _, e := range w.Exceptions {
		p.wrapped(warn, inner, "exception: "+e)
	}
	var table [][]cell
	for _, s := range w.Steps {
		tries := ""
		if s.Attempts > 1 {
			tries = fmt.Sprintf("%d attempts", s.Attempts)
		}
		table = append(table, []cell{c(s.Name), c(short(s.App, 16)), word(s.State), c(took(s.StartedAt, s.EndedAt, now)), c(tries)})
	}
	p.rows(inner, table)
	for _, s := range w.Steps {
		if s.Error != "" {
			p.wrapped(dim, inner, s.Name+": "+s.Error)
		}
	}
}

// promotes tells a plan that may lose data from one of a group without a database.
func promotes(steps []client.Step) bool {
	return slices.ContainsFunc(steps, func(s client.Step) bool { return s.Name == string(failover.StepPromote) })
}

func (p *page) watchers(s *client.Status) {
	table := [][]cell{header("WATCHER", "STATE", "ADDRESS", "VERSION", "")}
	for _, w := range s.Cluster.Watchers {
		state, note := word(w.State), cell{}
		switch {
		case !w.Voter:
			state = cell{text: "joining", style: warn}
		case w.Silent:
			state = cell{text: "silent", style: bad}
		}
		if w.FileDiffers {
			note = cell{text: "file differs", style: warn}
		}
		table = append(table, []cell{c(short(w.Name, 16)), state, c(w.Address), c(w.Version), note})
	}
	p.rows("", table)
}
