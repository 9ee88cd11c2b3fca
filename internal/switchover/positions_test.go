package switchover

import (
	"testing"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

func writerAt(x float64, position uint64) sample {
	return sample{at: second(x), db: failover.Observation{Role: failover.RolePrimary, ID: "db1", Timeline: 1, Position: &position}}
}

func receivedAt(x float64, position uint64) sample {
	return sample{at: second(x), db: failover.Observation{Role: failover.RoleReplica, Streaming: true, ID: "db1", Timeline: 1, Position: &position}}
}

func TestLagFromPositions(t *testing.T) {
	for _, tc := range []struct {
		name    string
		writer  []sample
		replica sample
		bytes   *int64
		seconds *float64
		upTo    *float64 // second up to which everything is received
	}{
		{"nothing known of the writer", nil, receivedAt(5, 100), nil, nil, nil},
		{"has the newest", []sample{writerAt(1, 100), writerAt(3, 200)}, receivedAt(4, 200), num(int64(0)), num(0.0), num(3.0)},
		{"has more", []sample{writerAt(3, 200)}, receivedAt(4, 250), num(int64(0)), num(0.0), num(3.0)},
		{"the newest at the edge of recent", []sample{writerAt(1, 100)}, receivedAt(6, 100), num(int64(0)), num(0.0), num(1.0)},
		{"has the newest, which is old", []sample{writerAt(1, 100)}, receivedAt(6.1, 100), nil, num(5.1), num(1.0)},
		{"has more than the newest, which is old", []sample{writerAt(1, 100)}, receivedAt(61, 900), nil, num(60.0), num(1.0)},
		{"behind, and the newest is old", []sample{writerAt(1, 100), writerAt(3, 200)}, receivedAt(63, 150), num(int64(50)), num(62.0), num(1.0)},
		{"one sample behind", []sample{writerAt(1, 100), writerAt(3, 200)}, receivedAt(4, 150), num(int64(50)), num(3.0), num(1.0)},
		{"a sample from after its look does not count", []sample{writerAt(1, 100), writerAt(3, 200), writerAt(6, 900)}, receivedAt(4, 200), num(int64(0)), num(0.0), num(3.0)},
		{"only samples from after its look", []sample{writerAt(6, 900)}, receivedAt(4, 200), nil, nil, nil},
		{"behind all that is known", []sample{writerAt(1, 100), writerAt(3, 200)}, receivedAt(4, 50), num(int64(150)), nil, nil},
		{"another timeline begins anew", []sample{writerAt(1, 100), {at: second(3), db: failover.Observation{Role: failover.RolePrimary, ID: "db1", Timeline: 2, Position: num(uint64(90))}}},
			receivedAt(4, 95), nil, nil, nil},
		{"a position that went back begins anew", []sample{writerAt(1, 100), writerAt(3, 80)}, receivedAt(4, 90), num(int64(0)), num(0.0), num(3.0)},
		{"a replica's position is not the writer's", []sample{receivedAt(3, 80)}, receivedAt(4, 90), nil, nil, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var p positions
			for _, s := range tc.writer {
				p.note("main", s)
			}
			s := tc.replica
			p.measure(&s, grace(rhythm))
			same(t, "bytes", s.db.LagBytes, tc.bytes)
			same(t, "seconds", s.db.LagSeconds, tc.seconds)
			if tc.upTo == nil {
				want(t, "proof", s.received().IsZero(), true)
			} else {
				want(t, "proof", s.received(), second(*tc.upTo))
			}
		})
	}
}

// The seconds at risk begin where the writer was looked at, not where the replica was: what was written between the two
// looks is known of nobody.
func TestRiskBeginsAtTheWritersSample(t *testing.T) {
	var p positions
	var e evidence
	for x := 1.0; x < 10; x += 2 {
		p.note("main", writerAt(x, uint64(100*x)))
		s := receivedAt(x+1, uint64(100*x))
		p.measure(&s, grace(rhythm))
		e.judge(s, time.Time{}, rhythm)
	}
	o := e.judge(sample{at: second(12), db: failover.Observation{Role: failover.RoleReplica}}, second(11), rhythm)
	same(t, "seconds at risk", o.RiskSeconds, num(2.0))
	same(t, "bytes behind when last seen", o.LagBytes, num(int64(0)))
}

// However long it runs, the memory is bounded and reaches back further than it would with the newest alone.
func TestPositionsAreBounded(t *testing.T) {
	var p positions
	for i := range 10 * positionsKept {
		p.note("main", writerAt(float64(i), uint64(i)))
	}
	if len(p.samples) > positionsKept {
		t.Errorf("%d samples are kept", len(p.samples))
	}
	newest := p.samples[len(p.samples)-1]
	if span := newest.at.Sub(p.samples[0].at); newest.position != 10*positionsKept-1 || span < 2*positionsKept*time.Second {
		t.Errorf("they reach from %s to %d", span, newest.position)
	}
	s := receivedAt(10*positionsKept, 9*positionsKept)
	p.measure(&s, grace(rhythm))
	if age := *s.db.LagSeconds; age < positionsKept || age > 2*positionsKept {
		t.Errorf("a replica that is %d s behind is told to be %.0f s behind", positionsKept, age)
	}
}

// The observer holds a replica against the writer of its own group.
func TestObserverMeasures(t *testing.T) {
	o := NewObserver(Options{}, func(Sight) {})
	main, standby := &observed{writes: true, sight: Sight{Group: "shop", App: "main"}}, &observed{probing: rhythm, sight: Sight{Group: "shop", App: "standby"}}
	other := &observed{writes: true, sight: Sight{Group: "wiki", App: "main"}}
	a, b, s := writerAt(1, 100), writerAt(2, 900), receivedAt(3, 100)
	o.measure(main, &a)
	o.measure(other, &b)
	o.measure(standby, &s)
	same(t, "bytes", s.db.LagBytes, num(int64(0)))
	o.measure(standby, nil)
}

// A replica whose stream broke long before the outage falls behind by what the writer is seen to write.
func TestLagGrowsWithoutAStream(t *testing.T) {
	var p positions
	var e evidence
	p.note("main", writerAt(1, 100))
	s := receivedAt(2, 100)
	p.measure(&s, grace(rhythm))
	e.judge(s, time.Time{}, rhythm)
	for x := 3.0; x < 20; x += 2 {
		p.note("main", writerAt(x, uint64(100*x)))
		s := receivedAt(x+1, 100)
		s.db.Streaming = false
		p.measure(&s, grace(rhythm))
		e.judge(s, time.Time{}, rhythm)
	}
	o := e.judge(sample{at: second(22), db: failover.Observation{Role: failover.RoleReplica}}, second(21), rhythm)
	same(t, "bytes behind", o.LagBytes, num(int64(1800)))
	same(t, "seconds at risk", o.RiskSeconds, num(20.0))
	want(t, "until outage", o.UntilOutage, false)
}

// A writer that its watcher does not see any more may have written anything: what a replica lacks grows with the silence, and
// the outage of the app, when it comes at last, does not make it small.
func TestLagGrowsWhileTheWriterIsUnseen(t *testing.T) {
	var p positions
	var e evidence
	p.note("main", writerAt(1, 100))
	for x := 2.0; x < 100; x += 2 {
		p.note("main", sample{at: second(x), db: failover.Observation{Role: failover.RoleUnknown}})
		s := receivedAt(x+1, 100)
		p.measure(&s, grace(rhythm))
		e.judge(s, time.Time{}, rhythm)
	}
	o := e.judge(sample{at: second(102), db: failover.Observation{Role: failover.RoleReplica}}, second(101), rhythm)
	same(t, "bytes behind", o.LagBytes, nil)
	same(t, "seconds behind", o.LagSeconds, num(100.0))
	same(t, "seconds at risk", o.RiskSeconds, num(100.0))
}

// After a restart a watcher may remember less of the writer than a replica is behind. That is not a small lag, in the outage
// neither; and it passes as soon as the replica has received the first sample.
func TestLagBeyondTheMemoryIsUnknown(t *testing.T) {
	var p positions
	var e evidence
	look := func(x float64, position uint64) failover.Observation {
		s := receivedAt(x, position)
		p.measure(&s, grace(rhythm))
		return e.judge(s, time.Time{}, rhythm)
	}
	p.note("main", writerAt(1, 1000))
	o := look(2, 900)
	same(t, "seconds behind", o.LagSeconds, nil)
	o = e.judge(sample{at: second(4), db: failover.Observation{Role: failover.RoleReplica}}, second(3), rhythm)
	same(t, "bytes behind in the outage", o.LagBytes, num(int64(100)))
	same(t, "seconds behind in the outage", o.LagSeconds, nil)
	same(t, "seconds at risk", o.RiskSeconds, nil)
	want(t, "position in the outage", *o.Position, 900) // says by what the lag was worked out

	p.note("main", writerAt(5, 2000))
	o = look(6, 1500)
	same(t, "seconds behind, once the first sample is received", o.LagSeconds, num(5.0))
	same(t, "bytes behind", o.LagBytes, num(int64(500)))
}
