package switchover

import (
	"testing"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

var rhythm = failover.Probing{Interval: 2 * time.Second, Timeout: time.Second}

// second is a moment of the tests' clock.
func second(x float64) time.Time {
	return time.Unix(1_700_000_000, 0).Add(time.Duration(x * float64(time.Second)))
}

func streamingAt(x float64, lag int64) sample {
	return sample{at: second(x), db: failover.Observation{Role: failover.RoleReplica, Streaming: true, ID: "db1", LagBytes: &lag}}
}

func TestEvidenceOfAnOutage(t *testing.T) {
	stopped := func(x float64) sample {
		return sample{at: second(x), db: failover.Observation{Role: failover.RoleReplica, ID: "db1", LagBytes: num(int64(0))}}
	}
	silent := func(x float64) sample {
		return sample{at: second(x), db: failover.Observation{Role: failover.RoleUnknown}}
	}
	for _, tc := range []struct {
		name        string
		looks       []sample // the last one comes after the outage's first sign at second 10
		untilOutage bool
		risk        *float64
		bytes       *int64
		id          string
	}{
		{"live and without lag", []sample{streamingAt(9, 0), stopped(11)}, true, num(1.0), num(int64(0)), "db1"},
		{"lag at the last look", []sample{streamingAt(7, 0), streamingAt(9, 500), stopped(11)}, true, num(3.0), num(int64(500)), "db1"},
		{"never without lag", []sample{streamingAt(7, 10), streamingAt(9, 500), stopped(11)}, true, nil, num(int64(500)), "db1"},
		{"a look in the outage proves nothing", []sample{streamingAt(8, 0), streamingAt(11, 0)}, true, num(2.0), num(int64(0)), "db1"},
		{"at the edge of grace", []sample{streamingAt(5.1, 0), stopped(11)}, true, num(4.9), num(int64(0)), "db1"},
		{"not looked since long", []sample{streamingAt(1, 0), stopped(11)}, true, num(9.0), num(int64(0)), "db1"},
		{"seen broken within grace", []sample{streamingAt(4, 0), stopped(5.1), stopped(11)}, true, num(6.0), num(int64(0)), "db1"},
		{"seen broken before", []sample{streamingAt(3, 0), stopped(5), stopped(9), stopped(11)}, false, num(7.0), num(int64(0)), "db1"},
		{"without a stream its lag is not from before", []sample{stopped(9), stopped(11)}, false, nil, nil, "db1"},
		{"replica gone as well", []sample{streamingAt(9, 0), silent(11)}, true, num(1.0), num(int64(0)), "db1"},
		{"never seen before", []sample{streamingAt(11, 0)}, false, nil, nil, "db1"},
		{"begun at the very moment", []sample{streamingAt(10, 0), stopped(11)}, true, num(0.0), num(int64(0)), "db1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var e evidence
			var o failover.Observation
			for i, s := range tc.looks {
				failing := time.Time{}
				if i == len(tc.looks)-1 {
					failing = second(10)
				}
				o = e.judge(s, failing, rhythm)
			}
			want(t, "until outage", o.UntilOutage, tc.untilOutage)
			want(t, "id", o.ID, tc.id)
			same(t, "seconds at risk", o.RiskSeconds, tc.risk)
			same(t, "bytes behind", o.LagBytes, tc.bytes)
		})
	}
}

// A watcher that was frozen while the main died sees the stream gone before its own probes have failed for the first
// time. That does not make it a stream that was broken before the outage; how old its last look is stands in the lag.
func TestEvidenceAfterAGapInEverything(t *testing.T) {
	stopped := func(x float64) sample {
		return sample{at: second(x), db: failover.Observation{Role: failover.RoleReplica}}
	}
	for _, tc := range []struct {
		name        string
		broken      float64
		untilOutage bool
	}{
		{"first seen broken after the gap", 58, true},
		{"seen broken long before", 20, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var e evidence
			e.judge(streamingAt(5, 0), time.Time{}, rhythm)
			e.judge(stopped(tc.broken), time.Time{}, rhythm)
			o := e.judge(stopped(62), second(61), rhythm)
			want(t, "until outage", o.UntilOutage, tc.untilOutage)
			same(t, "seconds behind", o.LagSeconds, num(56.0))
		})
	}
}

// A busy replica is never seen without any lag. What it told last, and when, bounds what is lost.
func TestEvidenceOfABusyReplica(t *testing.T) {
	busy := func(x, lag float64) sample {
		return sample{at: second(x), db: failover.Observation{Role: failover.RoleReplica, Streaming: true, LagSeconds: &lag}}
	}
	var e evidence
	e.judge(busy(1, 0.2), time.Time{}, rhythm)
	if o := e.judge(busy(9, 0.5), time.Time{}, rhythm); *o.LagSeconds != 0.5 || o.RiskSeconds != nil {
		t.Errorf("while the writer serves: %v behind, %v at risk", *o.LagSeconds, o.RiskSeconds)
	}
	o := e.judge(busy(9, 0.5), second(10), rhythm)
	same(t, "seconds at risk", o.RiskSeconds, num(1.5))
	same(t, "seconds behind", o.LagSeconds, num(1.5))
}

func same[T comparable](t *testing.T, what string, got, wanted *T) {
	t.Helper()
	switch {
	case got == nil || wanted == nil:
		if got != wanted {
			t.Errorf("%s: got %v, want %v", what, got, wanted)
		}
	default:
		want(t, what, *got, *wanted)
	}
}

func TestEvidenceWhileTheWriterAnswers(t *testing.T) {
	var e evidence
	e.judge(streamingAt(1, 0), time.Time{}, rhythm)
	o := e.judge(streamingAt(5, 700), time.Time{}, rhythm)
	same(t, "bytes", o.LagBytes, num(int64(700)))
	same(t, "seconds, which it does not tell", o.LagSeconds, nil)
	same(t, "risk", o.RiskSeconds, nil)
	want(t, "until outage", o.UntilOutage, false)

	told := streamingAt(6, 700)
	told.db.LagSeconds = num(0.25)
	o = e.judge(told, time.Time{}, rhythm)
	same(t, "seconds by its own word", o.LagSeconds, num(0.25))
}

// The seconds at risk count from before the look that saw no lag to after the outage began, so they are never too few.
func TestRiskIsAnUpperBound(t *testing.T) {
	for proof := 0.0; proof < 9; proof += 0.5 {
		var e evidence
		e.judge(streamingAt(proof, 0), time.Time{}, rhythm)
		e.judge(streamingAt(9.5, 1), time.Time{}, rhythm)
		o := e.judge(streamingAt(12, 0), second(10), rhythm)
		same(t, "risk", o.RiskSeconds, num(10-proof))
		o = e.judge(streamingAt(13, 0), second(10), rhythm)
		same(t, "risk later in the outage", o.RiskSeconds, num(10-proof))
	}
}

func TestSecondsAloneTellNoLag(t *testing.T) {
	var e evidence
	s := sample{at: second(4), db: failover.Observation{Role: failover.RoleReplica, Streaming: true, LagSeconds: num(0.0)}}
	e.judge(s, time.Time{}, rhythm)
	o := e.judge(sample{at: second(11), db: failover.Observation{Role: failover.RoleReplica}}, second(10), rhythm)
	same(t, "risk", o.RiskSeconds, num(6.0))
	same(t, "lag seconds with their age", o.LagSeconds, num(6.0))
}

func TestAPrimaryGivesNoEvidenceOfAReplica(t *testing.T) {
	var e evidence
	e.judge(sample{at: second(9), db: failover.Observation{Role: failover.RolePrimary, Streaming: true, LagBytes: num(int64(0))}}, time.Time{}, rhythm)
	o := e.judge(streamingAt(11, 0), second(10), rhythm)
	want(t, "until outage", o.UntilOutage, false)
	same(t, "risk", o.RiskSeconds, nil)
}

func TestDiffers(t *testing.T) {
	limit := failover.MaxLag{Bytes: 100, Time: time.Second}
	base := failover.Observation{Role: failover.RoleReplica, Streaming: true, ID: "db1", LagBytes: num(int64(5)), LagSeconds: num(0.1), RiskSeconds: num(1.0)}
	for _, tc := range []struct {
		name   string
		change func(*failover.Observation)
		news   bool
	}{
		{"nothing", func(*failover.Observation) {}, false},
		{"bytes within the limit", func(o *failover.Observation) { o.LagBytes = num(int64(100)) }, false},
		{"bytes beyond it", func(o *failover.Observation) { o.LagBytes = num(int64(101)) }, true},
		{"seconds within the limit", func(o *failover.Observation) { o.LagSeconds = num(1.0) }, false},
		{"seconds beyond it", func(o *failover.Observation) { o.LagSeconds = num(1.1) }, true},
		{"more seconds than there are", func(o *failover.Observation) { o.LagSeconds = num(9999999999.0) }, true},
		{"other seconds at risk", func(o *failover.Observation) { o.RiskSeconds = num(2.0) }, false},
		{"no seconds at risk", func(o *failover.Observation) { o.RiskSeconds = nil }, true},
		{"no bytes", func(o *failover.Observation) { o.LagBytes = nil }, true},
		{"no seconds", func(o *failover.Observation) { o.LagSeconds = nil }, true},
		{"role", func(o *failover.Observation) { o.Role = failover.RolePrimary }, true},
		{"frozen", func(o *failover.Observation) { o.Frozen = true }, true},
		{"stream", func(o *failover.Observation) { o.Streaming = false }, true},
		{"until outage", func(o *failover.Observation) { o.UntilOutage = true }, true},
		{"id", func(o *failover.Observation) { o.ID = "db2" }, true},
		{"timeline", func(o *failover.Observation) { o.Timeline = 2 }, true},
	} {
		other := base
		tc.change(&other)
		want(t, tc.name, differs(&base, &other, limit), tc.news)
		want(t, tc.name+", turned", differs(&other, &base, limit), tc.news)
	}
	want(t, "none and some", differs(nil, &base, limit), true)
	want(t, "none and none", differs(nil, nil, limit), false)
}

// A replica whose stream is gone may not know any more on which timeline it is; it is still on the one that it was on. So one
// of another timeline does not become fit by losing its stream.
func TestTimelineOutlivesTheStream(t *testing.T) {
	var e evidence
	s := streamingAt(9, 0)
	s.db.Timeline = 3
	e.judge(s, time.Time{}, rhythm)
	o := e.judge(sample{at: second(11), db: failover.Observation{Role: failover.RoleReplica}}, second(10), rhythm)
	want(t, "timeline", o.Timeline, 3)
	s = streamingAt(12, 0)
	s.db.Timeline = 4
	want(t, "timeline of a new stream", e.judge(s, time.Time{}, rhythm).Timeline, 4)
}
