package main

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// part is one thing that took time.
type part struct {
	text     string
	look     style
	from, to time.Time
}

// parts are what lies between the kill and the next order that is taken, in their order.
func parts(s *scene) []part {
	who, failed := s.firstFailure()
	list := []part{
		{"first failed probe, by " + orDash(who), plain, s.killed, failed},
		{"a second watcher finds main down", plain, failed, s.majority()},
		{"failover opened (journaled)", plain, s.majority(), s.opened},
	}
	for i, step := range s.steps {
		list = append(list, part{fmt.Sprintf("%d %-16s %-7s %s", i+1, step.name, step.app, step.state), stateLooks[step.state], step.started, step.ended})
	}
	return append(list,
		part{"all three watchers answer standby", good, s.switched, s.allAnswer(s.shops[1].address)},
		part{"the customer's next order is taken", good, s.switched, s.customer.again},
	)
}

// Widths of the timeline's columns.
const (
	textWidth = 38
	timeWidth = 10
)

// timeline draws the parts with bars on a common scale; width is the terminal's.
func timeline(s *scene, width int, g signs) []row {
	list := parts(s)
	end := s.killed
	for _, p := range list {
		if p.to.After(end) {
			end = p.to
		}
	}
	room := width - 2 - textWidth - 2*timeWidth - 3
	rows := []row{{cell(strong, textWidth+2, "  What took how long"), cell(faint, timeWidth, "%10s", "at"), cell(faint, timeWidth, "%10s", "took")}}
	for _, p := range list {
		r := row{cell(p.look, textWidth+2, "  %s", p.text)}
		if p.from.IsZero() || p.to.IsZero() {
			rows = append(rows, append(r, cell(faint, timeWidth, "%10s", "-"), cell(faint, timeWidth, "%10s", "-")))
			continue
		}
		took := max(0, p.to.Sub(p.from))
		r = append(r, cell(plain, timeWidth, "%10s", after(s.killed, p.to)), cell(strong, timeWidth, "%10s", millis(took)))
		if room >= 10 {
			r = append(r, span{p.look, "  " + bar(p.from.Sub(s.killed), p.to.Sub(s.killed), end.Sub(s.killed), room, g)})
		}
		rows = append(rows, r)
	}
	return rows
}

// bar draws from..to on a scale of room characters for the whole; everything that happened is at least one wide.
func bar(from, to, whole time.Duration, room int, g signs) string {
	if whole <= 0 {
		return ""
	}
	place := func(d time.Duration) int {
		return int(math.Round(float64(min(max(0, d), whole)) / float64(whole) * float64(room)))
	}
	start := min(place(from), room-1)
	return strings.Repeat(" ", start) + strings.Repeat(g.bar, max(1, place(to)-start))
}
