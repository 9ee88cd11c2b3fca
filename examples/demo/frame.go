package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// The most that a frame takes: a line and a column less than the smallest terminal that is still in use, 80x24.
const (
	frameHeight = 23
	frameWidth  = 79
)

// Widths of the columns of a frame.
const (
	labelWidth   = 15
	shopWidth    = 31
	watcherWidth = 20
)

// frame draws the scene as it is now.
func frame(s *scene, now time.Time, g signs) []row {
	rows := []row{title(s, now), {{strong, "  " + s.act}}, nil}
	rows = append(rows, shopRows(s, g)...)
	rows = append(rows, nil)
	rows = append(rows, watcherRows(s, g)...)
	rows = append(rows, nil)
	rows = append(rows, stepRows(s)...)
	rows = append(rows, nil)
	return append(rows, customerRows(s, g)...)
}

// plainFrame is a frame for an error message.
func plainFrame(s *scene) string {
	var b strings.Builder
	for _, r := range frame(s, time.Now(), asciiSigns) {
		b.WriteString(r.render(100, false) + "\n")
	}
	return b.String()
}

// title shows the clock: the time since the kill, until customers are served again and the run has ended.
func title(s *scene, now time.Time) row {
	r := row{cell(good, 64, "  WATCHOVER  one name, two shops, three watchers")}
	if s.killed.IsZero() {
		return r
	}
	if end := s.served(); !end.IsZero() {
		now = end
	}
	return append(r, span{strong, fmt.Sprintf("%14s", after(s.killed, now))})
}

// served is when everything was well again: the run ended, all watchers answer standby, and it has taken an order.
func (s *scene) served() time.Time {
	all := s.allAnswer(s.shops[1].address)
	if s.ended.IsZero() || all.IsZero() || s.customer.again.IsZero() {
		return time.Time{}
	}
	return slices.MaxFunc([]time.Time{s.ended, all, s.customer.again}, time.Time.Compare)
}

func shopRows(s *scene, g signs) []row {
	head, shops, data := row{cell(faint, labelWidth, "")}, row{cell(faint, labelWidth, "  shop")}, row{cell(faint, labelWidth, "  database")}
	for i, v := range s.shops {
		head = append(head, cell(strong, shopWidth, "%s %s", v.name, v.address))
		state, text := openness(s, i, g)
		shops = append(shops, cell(state, shopWidth, "%s", text))
		data = append(data, databaseCell(v))
	}
	return []row{head, shops, data}
}

func openness(s *scene, i int, g signs) (style, string) {
	v := s.shops[i]
	switch {
	case !v.reachable && i == 0 && !s.killed.IsZero():
		return bad, g.no + " killed"
	case !v.reachable:
		return faint, "-"
	case i == 0 && s.back != nil && !s.back.closed.IsZero() && !v.Open:
		return alert, fmt.Sprintf("back, fenced within %s", millis(s.back.closed.Sub(s.back.answered)))
	case v.Open:
		return good, g.yes + " open"
	}
	return alert, "in maintenance"
}

func databaseCell(v shopView) span {
	if !v.reachable {
		return cell(faint, shopWidth, "-")
	}
	role := v.Role
	if v.Frozen {
		role += ", frozen"
	}
	return cell(plain, shopWidth, "%s, %d orders", role, v.Seq)
}

func watcherRows(s *scene, g signs) []row {
	head, finds := row{cell(faint, labelWidth, "")}, row{cell(faint, labelWidth, "  finds main")}
	answers, since := row{cell(faint, labelWidth, "  answers")}, row{cell(faint, labelWidth, "  (UDP)")}
	for _, w := range s.watchers {
		name := w.name
		if w.leader {
			name += " leader"
		}
		head = append(head, cell(strong, watcherWidth, "%s", name))
		finds = append(finds, verdictCell(s, w, g))
		look, ttl, moved := plain, "", ""
		if w.answer != "" {
			ttl = fmt.Sprintf("TTL %d", w.ttl)
		}
		if w.answer == s.shops[1].address {
			look, moved = good, after(s.killed, w.answering)
		}
		answers = append(answers, cell(look, watcherWidth, "%s", orDash(w.answer)))
		since = append(since, cell(faint, watcherWidth, "%s", strings.TrimSpace(ttl+"  "+moved)))
	}
	return []row{head, finds, answers, since}
}

func verdictCell(s *scene, w watcherView, g signs) span {
	switch {
	case w.verdict == "up":
		return cell(good, watcherWidth, "%s up", g.yes)
	case !w.down.IsZero():
		return cell(bad, watcherWidth, "%s down %s", g.no, after(s.killed, w.down))
	case !w.failed.IsZero():
		return cell(alert, watcherWidth, "fails %s", after(s.killed, w.failed))
	}
	return cell(faint, watcherWidth, "%s", orDash(w.verdict))
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// looks of a step's state.
var stateLooks = map[string]style{"done": good, "running": strong, "marked": alert, "failed": bad, "undone": bad, "pending": faint, "skipped": faint}

// stateNotes say what the less usual states mean.
var stateNotes = map[string]string{
	"marked":  "kept fenced",
	"skipped": "not needed",
}

func stepRows(s *scene) []row {
	var rows []row
	for i, step := range s.steps {
		look := stateLooks[step.state]
		r := row{cell(look, 22, "  %d %s", i+1, step.name), cell(look, 10, "%s", step.app), cell(look, 10, "%s", step.state)}
		if !step.started.IsZero() {
			r = append(r, cell(plain, 10, "%9s", after(s.killed, step.started)), span{plain, " "})
		} else {
			r = append(r, cell(plain, 11, ""))
		}
		note := stateNotes[step.state]
		if !step.started.IsZero() && !step.ended.IsZero() {
			r = append(r, cell(strong, 8, "%7s", millis(step.ended.Sub(step.started))))
		} else if note != "" {
			r = append(r, cell(plain, 8, ""))
		}
		rows = append(rows, append(r, span{faint, " " + note}))
	}
	return rows
}

func customerRows(s *scene, g signs) []row {
	c := s.customer
	strip := row{cell(faint, labelWidth, "  orders")}
	for _, taken := range c.marks {
		if taken {
			strip = append(strip, span{good, g.bar})
		} else {
			strip = append(strip, span{bad, g.gap})
		}
	}
	text := "not yet"
	if c.taken+c.refused > 0 {
		text = fmt.Sprintf("%d taken, %d not; last by %s", c.taken, c.refused, s.nameOf(c.at))
	}
	if c.gap > 0 {
		text += "; " + millis(c.gap) + " without service"
	}
	return []row{strip, {cell(faint, labelWidth, "  customer"), {plain, text}}}
}
