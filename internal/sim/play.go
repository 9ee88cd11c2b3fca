package sim

import "testing/synctest"

// Outcome is what became of a run.
type Outcome struct {
	Broken *Violation // nil: every guarantee held
	Story  string     // if it was asked for
	Stats  Stats
	Count  tally
	Final  string // what the run ended with, apart from numbers and times
	Trace  string // digest of the whole log
}

// Play runs a script in the bubble that it is called in.
func Play(s *Script, tell bool) Outcome {
	w := newWorld(s, tell)
	w.run()
	synctest.Wait()
	return Outcome{Broken: w.broken, Story: w.story.String(), Stats: w.stats, Count: w.log.count, Final: w.final(), Trace: w.log.state().Hash()}
}

func (w *world) final() string { return "" }
