package sim

import (
	"slices"
	"time"
)

// Shrink makes a script that breaks a rule as short as it can within a number of tries, while the same rule breaks.
// Breaks plays a script and names the rule that it breaks, empty if none.
func Shrink(s *Script, rule string, tries int, breaks func(*Script) string) *Script {
	try := func(c *Script) bool {
		tries--
		return tries >= 0 && breaks(c) == rule
	}
	for again := true; again && tries > 0; {
		again = false
		for size := len(s.Events); size > 0; size /= 2 { // events, many at a time, then one by one
			for from := 0; from < len(s.Events); {
				c := s.clone()
				c.Events = append(c.Events[:from:from], c.Events[min(from+size, len(s.Events)):]...)
				if try(c) {
					s, again = c, true
				} else {
					from += size
				}
			}
		}
		for _, name := range sortedKeys(s.Settings) {
			if c := s.clone(); name != "seed" && name != "end" {
				delete(c.Settings, name)
				if try(c) {
					s, again = c, true
				}
			}
		}
		for i := range s.Events {
			if c := s.shorter(i); c != nil && try(c) {
				s, again = c, true
			}
		}
		if c := s.sooner(); c != nil && try(c) {
			s, again = c, true
		}
	}
	return s
}

// shorter makes what an event says to last last a second, nil if nothing of it is longer.
func (s *Script) shorter(i int) *Script {
	c := s.clone()
	words := slices.Clone(c.Events[i].Words)
	for j, word := range words {
		if durationOf(word) > time.Second {
			words[j] = "1s"
		}
	}
	if slices.Equal(words, s.Events[i].Words) {
		return nil
	}
	c.Events[i].Words = words
	return c
}

// sooner ends the faults shortly after the last event.
func (s *Script) sooner() *Script {
	if len(s.Events) == 0 {
		return nil
	}
	end := (s.Events[len(s.Events)-1].At + 5*time.Second).Round(time.Second)
	for _, e := range s.Events {
		for _, word := range e.Words {
			end = max(end, e.At+durationOf(word)+time.Second)
		}
	}
	if end >= s.duration("end") {
		return nil
	}
	c := s.clone()
	c.set("end", end.Round(time.Second).String())
	return c
}
