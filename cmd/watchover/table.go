package main

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/watchover-ha/watchover/pkg/client"
)

// width is what every table keeps to: a terminal nobody has widened at 3 a.m.
const width = 80

// style is how a word looks on a terminal: an SGR parameter (ECMA-48, 8.3.117).
type style string

// The styles.
const (
	plain style = ""
	bold  style = "1"
	dim   style = "2"
	good  style = "32"
	bad   style = "1;31"
	warn  style = "33"
)

// page collects lines; colours are left out if the ui has none.
type page struct {
	strings.Builder
	color bool
}

func (u *ui) page() *page { return &page{color: u.color} }

func (p *page) paint(s style, text string) string {
	if !p.color || s == plain || text == "" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

func (p *page) line(format string, args ...any) {
	p.WriteString(strings.TrimRight(fmt.Sprintf(format, args...), " ") + "\n")
}

// wrapped prints text under a first prefix, its further lines indented by the prefix's width. Words longer than a line
// stay whole, so that they can be copied.
func (p *page) wrapped(s style, prefix, text string) {
	indent := strings.Repeat(" ", utf8.RuneCountInString(prefix))
	line, used := "", 0
	for _, word := range strings.Fields(clean(text)) {
		n := utf8.RuneCountInString(word)
		if used > 0 && len(indent)+used+1+n > width {
			p.line("%s%s", prefix, p.paint(s, line))
			prefix, line, used = indent, "", 0
		}
		if used > 0 {
			line, used = line+" ", used+1
		}
		line, used = line+word, used+n
	}
	p.line("%s%s", prefix, p.paint(s, line))
}

// cell is one field of a table.
type cell struct {
	text  string
	style style
}

func c(text string) cell { return cell{text: clean(text)} }

// rows prints a table, each column as wide as its widest cell.
func (p *page) rows(indent string, rows [][]cell) {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell.text))
		}
	}
	for _, row := range rows {
		line := indent
		for i, cell := range row {
			line += p.paint(cell.style, cell.text)
			if i < len(row)-1 {
				line += strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell.text)+2)
			}
		}
		p.line("%s", line)
	}
}

func header(names ...string) []cell {
	row := make([]cell, len(names))
	for i, name := range names {
		row[i] = cell{text: name, style: dim}
	}
	return row
}

// wordStyle colours the words of the API.
func wordStyle(word string) style {
	switch word {
	case "up", "steady", "done", "yes":
		return good
	case "down", "halted", "failed", "aborted", "no":
		return bad
	case "suspect", "switching", "running", "marked", "undone", "unknown", "done_with_exceptions":
		return warn
	}
	return plain
}

func word(text string) cell { return cell{text: clean(text), style: wordStyle(text)} }

// clean makes text of others (a reason, a hook's output) harmless to a terminal: control characters could move its
// cursor or change its settings.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control) || r == utf8.RuneError:
			return '?'
		}
		return r
	}, text)
}

// short cuts a name that would spoil the table.
func short(text string, most int) string {
	text = clean(text)
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most-1]) + "…"
}

// size writes bytes in a person's measure.
func size(n int64) string {
	for _, unit := range []struct {
		name string
		size int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= unit.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(unit.size), unit.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}

// span writes a duration in a person's measure.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", max(d, 0).Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%d d", d/(24*time.Hour))
}

// clock writes a time of day; with the date if that is not today's. now is the daemon's clock.
func clock(t *client.Time, now time.Time) string {
	switch {
	case t == nil:
		return "-"
	case t.UTC().Format(time.DateOnly) != now.UTC().Format(time.DateOnly):
		return t.UTC().Format("2006-01-02 15:04:05Z")
	}
	return t.UTC().Format("15:04:05Z")
}

// took is how long a step or a switchover lasted, or has lasted until now; empty if it has not begun.
func took(from, to *client.Time, now time.Time) string {
	if from == nil {
		return ""
	}
	if to == nil {
		to = &client.Time{Time: now}
	}
	if d := to.Sub(from.Time); d < time.Minute {
		return fmt.Sprintf("%.3f s", max(d, 0).Seconds())
	}
	return span(to.Sub(from.Time))
}

// risk says what a promotion may lose; ok is false if nothing is known of it at all.
func risk(r client.AtRisk) (text string, ok bool) {
	var parts []string
	if r.Bytes != nil {
		least := "at least "
		if r.BytesExact {
			least = "exactly "
		}
		parts = append(parts, least+size(*r.Bytes))
	}
	if r.Seconds != nil {
		parts = append(parts, fmt.Sprintf("up to %.1f s of writes", *r.Seconds))
	}
	if len(parts) == 0 {
		return "unknown", false
	}
	return strings.Join(parts, ", "), true
}
