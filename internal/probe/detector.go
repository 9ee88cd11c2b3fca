package probe

import (
	"slices"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// outcome is what one probe's answer means for the app.
type outcome uint8

const (
	success outcome = iota
	failure
	unable // the fault is on this watcher, so the answer says nothing about the app
)

// detector turns the results of one app's probes into a verdict. It is pure: no clock, no lock, no I/O.
//
//	unknown -> up    the last result of every probe is a success (one full round)
//	any     -> down  one probe failed `fall` times in a row
//	down    -> up    the last `rise` results of every probe are successes
//	any     -> unknown  a probe cannot be carried out here, unless another one proves the app down
//
// Checks of one probe may overlap and be answered in any order. What is "last" and "in a row" goes by the order in which
// the checks began, and these rules make it precise:
//
//   - A result counts unless a check of the same probe that began later has succeeded (or proved unable) before. So a
//     check that is still unanswered then no longer counts, however it ends.
//   - A success takes away the failures of the checks that began before it, and leaves those that began after it.
//   - Successes in a row do not overlap: each began after the one counted before it was known. An app that answers all
//     that had piled up in one moment has shown once that it is back, not `rise` times.
type detector struct {
	fall, rise int
	verdict    failover.Verdict
	streaks    []streak // one per probe
}

// streak is how one probe answered lately. Checks are numbered from 1 in the order in which they began. At most one of
// failures, successes and unable is not zero.
type streak struct {
	begun     uint64   // number of the newest check
	barrier   uint64   // newest check that succeeded or was unable: what began before it no longer counts
	proven    uint64   // newest check when a success was counted last: what began up to it proves nothing more
	failures  []uint64 // failed checks after the barrier, ascending, the last `fall` at most
	successes int
	unable    bool
}

func newDetector(probes, fall, rise int) detector {
	return detector{fall: fall, rise: rise, verdict: failover.VerdictUnknown, streaks: make([]streak, probes)}
}

// begin numbers a check of the probe with the given index. Every check has to be told before it is observed.
func (d *detector) begin(index int) uint64 {
	d.streaks[index].begun++
	return d.streaks[index].begun
}

// observe takes in the result of a check and returns the verdict that follows.
func (d *detector) observe(index int, check uint64, o outcome) failover.Verdict {
	s := &d.streaks[index]
	if check < s.barrier {
		return d.verdict
	}
	switch o {
	case success:
		s.succeed(check)
	case failure:
		s.fail(check, d.fall)
	case unable:
		s.pass(check)
		s.successes = 0
		s.unable = len(s.failures) == 0
	}
	d.verdict = d.next()
	return d.verdict
}

// pass makes the check the barrier.
func (s *streak) pass(check uint64) {
	s.barrier = check
	s.failures = slices.DeleteFunc(s.failures, func(failed uint64) bool { return failed < check })
}

func (s *streak) succeed(check uint64) {
	s.pass(check)
	s.unable = false
	if len(s.failures) == 0 && (s.successes == 0 || check > s.proven) {
		s.successes++
		s.proven = s.begun
	}
}

func (s *streak) fail(check uint64, fall int) {
	s.successes, s.unable = 0, false
	at, _ := slices.BinarySearch(s.failures, check)
	s.failures = slices.Insert(s.failures, at, check)
	if len(s.failures) > fall {
		s.failures = slices.Delete(s.failures, 0, 1) // more than fall prove no more than fall do
	}
}

func (d *detector) next() failover.Verdict {
	switch {
	case d.worst() >= 0 && len(d.streaks[d.worst()].failures) >= d.fall:
		return failover.VerdictDown
	case d.blocked() >= 0:
		return failover.VerdictUnknown
	case d.verdict == failover.VerdictDown && d.roundsUp() >= d.rise:
		return failover.VerdictUp
	case d.verdict == failover.VerdictUnknown && d.roundsUp() >= 1:
		return failover.VerdictUp
	}
	return d.verdict
}

// worst is the index of the probe with the longest run of failures, -1 if none is failing.
func (d *detector) worst() int {
	worst, most := -1, 0
	for i, s := range d.streaks {
		if len(s.failures) > most {
			worst, most = i, len(s.failures)
		}
	}
	return worst
}

// blocked is the index of the first probe that cannot be carried out on this watcher, -1 if all can.
func (d *detector) blocked() int {
	for i, s := range d.streaks {
		if s.unable {
			return i
		}
	}
	return -1
}

// roundsUp is how many successes in a row every probe has behind it.
func (d *detector) roundsUp() int {
	if len(d.streaks) == 0 {
		return 0 // an app without probes is never known to be up
	}
	rounds := d.streaks[0].successes
	for _, s := range d.streaks[1:] {
		rounds = min(rounds, s.successes)
	}
	return rounds
}

// failing says whether some probe's last result was a failure.
func (d *detector) failing() bool { return d.worst() >= 0 }

// suspects says whether the last result of the probe with the given index was a failure.
func (d *detector) suspects(index int) bool { return len(d.streaks[index].failures) > 0 }

// settled says whether the app is up without doubt, so that the calm interval is enough.
func (d *detector) settled() bool { return d.verdict == failover.VerdictUp && !d.failing() }

// reset forgets everything: a new full round is needed for up, `fall` new failures for down. The numbers go on, so that
// no old check is taken for a new one.
func (d *detector) reset() {
	for i, s := range d.streaks {
		d.streaks[i] = streak{begun: s.begun, barrier: s.begun + 1}
	}
	d.verdict = failover.VerdictUnknown
}
