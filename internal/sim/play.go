package sim

import "testing/synctest"

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

func (w *world) final() string { return "" }
