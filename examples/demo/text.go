package main

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// style is how a piece of text looks on a terminal with colours.
type style string

// The styles are ANSI escape sequences (ECMA-48, SGR).
const (
	plain  style = ""
	faint  style = "\x1b[2m"
	strong style = "\x1b[1m"
	good   style = "\x1b[32m"
	bad    style = "\x1b[31m"
	alert  style = "\x1b[33m"
	reset        = "\x1b[0m"
)

// span is a piece of text in one style, row a line of them.
type (
	span struct {
		style style
		text  string
	}
	row []span
)

// cell is a span of exactly width characters.
func cell(s style, width int, format string, args ...any) span {
	text := clip(fmt.Sprintf(format, args...), width)
	return span{s, text + strings.Repeat(" ", width-utf8.RuneCountInString(text))}
}

// clip cuts text to width characters; it never wraps, since a wrapped line would spoil the redrawing.
func clip(text string, width int) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	return string([]rune(text)[:max(0, width)])
}

// render gives the row at most width characters, and colours if wanted.
func (r row) render(width int, colour bool) string {
	var b strings.Builder
	for _, s := range r {
		text := clip(s.text, width)
		width -= utf8.RuneCountInString(text)
		if colour && s.style != plain && text != "" {
			b.WriteString(string(s.style) + text + reset)
			continue
		}
		b.WriteString(text)
	}
	if colour {
		return b.String()
	}
	return strings.TrimRight(b.String(), " ")
}

// millis is a duration for people: milliseconds up to ten seconds.
func millis(d time.Duration) string {
	if d >= 10*time.Second {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
}

// after is a moment as the time since start; empty if either is unknown.
func after(start, at time.Time) string {
	if start.IsZero() || at.IsZero() {
		return ""
	}
	return "+" + millis(max(0, at.Sub(start)))
}

// signs are the few signs that not every terminal can show.
type signs struct{ yes, no, bar, gap, arrow string }

var (
	unicodeSigns = signs{yes: "✓", no: "✗", bar: "█", gap: "·", arrow: "→"}
	asciiSigns   = signs{yes: "+", no: "x", bar: "#", gap: ".", arrow: "->"}
)

// signsFor asks the locale, in POSIX's order of precedence, whether the terminal takes UTF-8.
func signsFor(getenv func(string) string) signs {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if value := strings.ToLower(getenv(name)); value != "" {
			if strings.Contains(value, "utf-8") || strings.Contains(value, "utf8") {
				return unicodeSigns
			}
			return asciiSigns
		}
	}
	return asciiSigns
}
