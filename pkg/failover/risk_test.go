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
