package switchover

import (
	"context"
	"errors"
	"testing"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// What was closed before the switchover touched it stays so after its undo, also if it does not answer just when the
// switchover begins: then it is as the quorum last saw it.
func TestPriorOfAnAppThatDoesNotAnswer(t *testing.T) {
	silent := func(context.Context, Process) ([]byte, int, error) { return nil, 0, errors.New("no route") }
	open := func(context.Context, Process) ([]byte, int, error) { return []byte("primary"), 1, nil }
	app := shop().Groups[0].Apps[0]
	for _, tc := range []struct {
		name string
		step failover.StepName
		last failover.AppState
		run  Program
		want string
	}{
		{"was on", failover.StepMaintenanceOn, failover.AppState{LastMaintenance: failover.SwitchOn}, silent, failover.PriorOn},
		{"was off", failover.StepMaintenanceOn, failover.AppState{LastMaintenance: failover.SwitchOff}, silent, ""},
		{"is off now", failover.StepMaintenanceOn, failover.AppState{LastMaintenance: failover.SwitchOn}, open, ""},
		{"was frozen", failover.StepFreeze, failover.AppState{LastFrozen: true}, silent, failover.PriorFrozen},
		{"was not frozen", failover.StepFreeze, failover.AppState{}, silent, ""},
		{"is not frozen now", failover.StepFreeze, failover.AppState{LastFrozen: true}, func(context.Context, Process) ([]byte, int, error) { return []byte("primary"), 0, nil }, ""},
	} {
		a := &attempt{
			p:    &performer{r: &Runner{out: newOutside(Options{Run: tc.run})}},
			task: failover.Task{Step: tc.step, Work: failover.WorkAct}, target: &app, last: tc.last,
		}
		var seen sight
		if tc.step == failover.StepFreeze {
			a.lookAtFreeze(t.Context(), &seen)
		} else {
			a.lookAtMaintenance(t.Context(), &seen)
		}
		if seen.start.Prior != tc.want || seen.done {
			t.Errorf("%s: %+v", tc.name, seen)
		}
	}
}
