package main

import (
	"fmt"
	"slices"
	"time"
)

// news tells, in lines, what has happened between two looks: the demo for whoever has no terminal.
// In the order of their times; what has none comes first, and the new act last.
func news(before, now *scene) []string {
	type item struct {
		at   time.Time
		text string
	}
	var items []item
	tell := func(at time.Time, format string, args ...any) {
		items = append(items, item{at, fmt.Sprintf("%10s  %s", after(now.killed, at), fmt.Sprintf(format, args...))})
	}
	struck := now.killed != before.killed
	if struck {
		tell(now.killed, "%s", now.act)
	}
	for i, w := range now.watchers {
		tellWatcher(tell, now, before.watchers[i], w)
	}
	if !now.opened.IsZero() && before.opened.IsZero() {
		tell(now.opened, "failover opened: main is down by quorum")
	}
	for i, step := range now.steps {
		tellStep(tell, i, before.steps[i], step)
	}
	if !now.customer.again.IsZero() && before.customer.again.IsZero() {
		tell(now.customer.again, "the customer's order is taken by standby, %s after the one before", millis(now.customer.gap))
	}
	if !now.ended.IsZero() && before.ended.IsZero() {
		tell(now.ended, "failover ended")
	}
	if b := now.back; b != nil && (before.back == nil || before.back.closed != b.closed || before.back.frozen != b.frozen) {
		tellComeback(tell, before.back, b)
	}
	slices.SortStableFunc(items, func(a, b item) int { return a.at.Compare(b.at) })
	if now.act != before.act && !struck {
		tell(time.Time{}, "%s", now.act)
	}
	lines := make([]string, len(items))
	for i := range items {
		lines[i] = items[i].text
	}
	return lines
}

type teller func(at time.Time, format string, args ...any)

func tellWatcher(tell teller, s *scene, before, w watcherView) {
	if w.leader && !before.leader {
		tell(time.Time{}, "%s leads", w.name)
	}
	if w.ready && !before.ready && s.killed.IsZero() {
		tell(time.Time{}, "%s is armed", w.name)
	}
	if !w.failed.IsZero() && before.failed.IsZero() {
		tell(w.failed, "%s: first failed probe of main", w.name)
	}
	if !w.down.IsZero() && before.down.IsZero() {
		tell(w.down, "%s finds main down", w.name)
	}
	switch {
	case w.answer == before.answer:
	case w.answer == "":
		tell(time.Now(), "%s does not answer", w.name)
	default:
		tell(w.answering, "%s answers %s A %s (%s), TTL %d", w.name, recordName, w.answer, s.nameOf(w.answer), w.ttl)
	}
}

func tellStep(tell teller, i int, before, step stepView) {
	if step.state == before.state {
		return
	}
	at, took := step.started, ""
	if !step.ended.IsZero() {
		at = step.ended
		if !step.started.IsZero() {
			took = ", " + millis(step.ended.Sub(step.started))
		}
	}
	note := stateNotes[step.state]
	if note != "" {
		note = " (" + note + ")"
	}
	tell(at, "step %d %-16s on %-7s %s%s%s", i+1, step.name, step.app, step.state, took, note)
}

func tellComeback(tell teller, before *comeback, b *comeback) {
	if before == nil {
		before = &comeback{}
	}
	for _, fact := range []struct {
		was, is time.Time
		text    string
	}{
		{before.answered, b.answered, "the old main answers"},
		{before.closed, b.closed, "the old main is in maintenance"},
		{before.frozen, b.frozen, "the old main's database is frozen"},
	} {
		if fact.was.IsZero() && !fact.is.IsZero() {
			tell(fact.is, "%s%s", fact.text, sinceAnswer(b.answered, fact.is))
		}
	}
}

func sinceAnswer(answered, at time.Time) string {
	if answered.IsZero() || !at.After(answered) {
		return ""
	}
	return fmt.Sprintf(", %s after its first answer", millis(at.Sub(answered)))
}
