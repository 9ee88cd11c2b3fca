package sim

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Script is one run: what the world is like, and what happens in it.
type Script struct {
	Settings map[string]string // what differs from defaults
	Events   []Event           // in the order of time
}

// Event is one thing that happens at a time since the beginning: a verb and its arguments.
type Event struct {
	At    time.Duration
	Words []string
}

// defaults of the settings, and with them their names.
var defaults = map[string]string{
	"seed":      "1",         // of what the script leaves open: delays and orders of things
	"watchers":  "3",         // how many
	"apps":      "2",         // how many
	"database":  "yes",       // apps have databases
	"switch":    "checked",   // maintenance: checked, blind (no check), none
	"tokens":    "yes",       // targets refuse lower tokens
	"tells":     "yes",       // databases tell that they are frozen
	"timeline":  "yes",       // databases tell their timeline
	"washes":    "no",        // what a reboot loses: no, switch, freeze, both
	"mode":      "automatic", // of the policy, as the following
	"quorum":    "0",
	"fence":     "auto",
	"confirm":   "5s",
	"cooldown":  "1m0s",
	"tries":     "2",
	"lag":       "30s",  // max_lag.time; max_lag.bytes is 1000
	"pace":      "30ms", // how long a program takes at most, until all faults are over
	"hooks":     "",     // step:before or step:after, with commas
	"primary":   "main", // whose database is the primary when all begins
	"reprotect": "yes",  // a program makes an old primary a replica
	"twin":      "no",   // a second group names the same databases
	"end":       "3m0s", // when all faults are over
	"paired":    "no",   // the run is compared with one in which no watcher crashes
}

func (s *Script) get(name string) string {
	if v, ok := s.Settings[name]; ok {
		return v
	}
	return defaults[name]
}

func (s *Script) yes(name string) bool { return s.get(name) == "yes" }

func (s *Script) number(name string) int {
	n, _ := strconv.Atoi(s.get(name)) // Parse has looked
	return n
}

func (s *Script) duration(name string) time.Duration {
	d, _ := time.ParseDuration(s.get(name))
	return d
}

// set changes a setting.
func (s *Script) set(name, value string) {
	if s.Settings == nil {
		s.Settings = map[string]string{}
	}
	s.Settings[name] = value
}

// add appends an event; sort brings them into order.
func (s *Script) add(at time.Duration, words ...string) {
	words = slices.DeleteFunc(slices.Clone(words), func(word string) bool { return word == "" })
	s.Events = append(s.Events, Event{At: at.Round(time.Millisecond), Words: words})
}

func (s *Script) sort() {
	slices.SortStableFunc(s.Events, func(a, b Event) int { return cmp.Compare(a.At, b.At) })
}

func (s *Script) clone() *Script {
	return &Script{Settings: maps.Clone(s.Settings), Events: slices.Clone(s.Events)}
}

// String writes the script as Parse reads it.
func (s *Script) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s.Settings)) {
		if s.Settings[name] != defaults[name] || name == "seed" {
			fmt.Fprintf(&b, "set %s %s\n", name, s.Settings[name])
		}
	}
	for _, e := range s.Events {
		fmt.Fprintf(&b, "%s %s\n", e.At, strings.Join(e.Words, " "))
	}
	return b.String()
}

// Parse reads a script. Lines that begin with # are comments.
func Parse(text string) (*Script, error) {
	s := &Script{}
	for i, line := range strings.Split(text, "\n") {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if err := s.parseLine(words); err != nil {
			return nil, fmt.Errorf("cannot read script: line %d: %w", i+1, err)
		}
	}
	s.sort()
	return s, nil
}

func (s *Script) parseLine(words []string) error {
	if words[0] == "set" {
		if len(words) != 3 {
			return fmt.Errorf("a setting is: set NAME VALUE")
		}
		if _, ok := defaults[words[1]]; !ok {
			return fmt.Errorf("there is no setting %q", words[1])
		}
		s.set(words[1], words[2])
		return nil
	}
	at, err := time.ParseDuration(words[0])
	if err != nil || at < 0 || len(words) < 2 {
		return fmt.Errorf("an event is: TIME VERB ARGUMENTS, not %q", strings.Join(words, " "))
	}
	if verbs[words[1]] == nil {
		return fmt.Errorf("there is no verb %q", words[1])
	}
	s.Events = append(s.Events, Event{At: at, Words: words[1:]})
	return nil
}
