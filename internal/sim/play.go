package sim

import (
	"fmt"
	"slices"
	"strings"
	"testing/synctest"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// Outcome is what became of a run.
type Outcome struct {
	Broken *Violation // nil: every guarantee held
	Story  string     // if it was asked for
	Stats  Stats
	Count  tally
	Final  string // what the run ended with, apart from numbers and times
	Trace  string // digest of the last state, if the story was asked for
}

// Play runs a script in the bubble that it is called in.
func Play(s *Script, tell bool) Outcome {
	w := newWorld(s, tell)
	w.run()
	synctest.Wait()
	o := Outcome{Broken: w.broken, Stats: w.stats, Count: w.log.count, Final: w.final()}
	if tell {
		o.Story, o.Trace = w.story.String(), w.log.state().Hash()
	}
	return o
}

// Compare plays a script that is paired a second time without its crashes, which must come to the same end. In all else it
// is what play gives.
func Compare(s *Script, tell bool, play func(*Script, bool) Outcome) Outcome {
	o := play(s, tell)
	if !s.yes("paired") || o.Broken != nil {
		return o
	}
	calm := s.clone()
	calm.Events = slices.DeleteFunc(calm.Events, func(e Event) bool { return e.Words[0] == "trap" || e.Words[0] == "crash" })
	if other := play(calm, false); other.Broken == nil && other.Final != o.Final {
		o.Broken = &Violation{Rule: "crash-differs", At: o.Stats.Simulated, Detail: fmt.Sprintf("the run ends otherwise than the same one without crashes:\n  %s\nwithout:\n  %s", o.Final, other.Final)}
	}
	return o
}

// final words the end of a run, apart from numbers, times and terms.
func (w *world) final() string {
	g := w.log.state().Groups[group]
	if g == nil {
		return ""
	}
	text := []string{fmt.Sprintf("active %s, writer %s, open %v", g.Active, g.Writer, g.Switchover.Open())}
	for _, o := range append(slices.Clone(g.History), g.Switchover) {
		if o != nil {
			steps := stepsText(o)
			if o.Result == failover.ResultHalted { // whether the next try of its step is just under way is chance
				steps = strings.ReplaceAll(steps, "="+string(failover.StepRunning), "="+string(failover.StepFailed))
			}
			text = append(text, fmt.Sprintf("%s from %s to %s: %s, %s%v", o.Kind, o.From, o.To, o.Result, steps, o.Exceptions))
		}
	}
	for _, a := range w.apps {
		x := g.Apps[a.name]
		if x == nil {
			continue
		}
		line := fmt.Sprintf("%s: closed %v, marked %v, to be released %v", a.name, a.closed, x.Mark != nil, x.Release != nil)
		if a.db != nil {
			line += fmt.Sprintf(", primary %v, frozen %v, replicating %v", a.db.primary, a.db.frozen, a.db.on)
		}
		text = append(text, line)
	}
	return strings.Join(slices.Compact(text), "\n  ")
}
