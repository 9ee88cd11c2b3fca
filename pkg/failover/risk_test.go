package failover

import "testing"

// The log knows a lag only as of the last change that mattered. What the look before stop-replication saw is newer, and the
// last that anybody can see.
func TestRiskIsThatOfTheLastLook(t *testing.T) {
	bytes, seconds := int64(900), 2.5
	for name, streaming := range map[string]bool{"live": true, "cut off": false} {
		w := &Switchover{Steps: []Step{{Name: StepStopReplication}, {Name: StepPromote}, {Name: StepSwitchDNS}}}
		s := NewState()
		s.startAct(&GroupState{}, w, &w.Steps[0], &Start{To: &Observation{Streaming: streaming, LagBytes: &bytes, LagSeconds: &seconds}})
		if got := w.AtRisk.Bytes != nil && *w.AtRisk.Bytes == bytes && *w.AtRisk.Seconds == seconds; got != streaming {
			t.Errorf("%s: at risk %+v", name, w.AtRisk)
		}
	}
}

// A lag that was worked out from positions leaves out what was written since, and one that nobody knows is not small.
func TestRiskIsNeverALagByPositions(t *testing.T) {
	told := func(change func(*Observation)) *Observation { o := replica(); change(o); return o }
	byPosition := func(lag, risk *float64) *Observation {
		return told(func(o *Observation) { o.Position, o.LagSeconds, o.RiskSeconds = pointer(uint64(7)), lag, risk })
	}
	for name, test := range map[string]struct {
		sights [3]*Observation // of w1, w2 and w3
		want   *float64
	}{
		"its own word":            {[3]*Observation{told(func(o *Observation) { o.LagSeconds = pointer(2.0) })}, pointer(2.0)},
		"by positions":            {[3]*Observation{byPosition(pointer(0.0), nil), byPosition(nil, nil)}, nil},
		"only one knows":          {[3]*Observation{byPosition(pointer(0.0), nil), byPosition(nil, nil), byPosition(pointer(1.0), pointer(9.0))}, pointer(9.0)},
		"the least of two bounds": {[3]*Observation{byPosition(nil, pointer(8.0)), byPosition(nil, pointer(9.0))}, pointer(8.0)},
	} {
		plot := defaultPlot()
		plot.database = true
		w := begin(t, plot)
		for i, o := range test.sights {
			w.say([]string{[]string{"w1", "w2", "w3"}[i]}, "standby", sight{verdict: VerdictUp, database: o, revision: w.group("shop").Apps["standby"].Revision})
		}
		got := w.s.atRisk(w.group("shop"), w.s.Policy.Group("shop"), "standby").Seconds
		if (got == nil) != (test.want == nil) || got != nil && *got != *test.want {
			t.Errorf("%s: at risk %v, want %v", name, got, test.want)
		}
	}
}
