package switchover

import (
	"context"
	"errors"
	"testing"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// An app that was in maintenance before the switchover stays so after its undo, also if its check does not answer just when
// the switchover begins: then it is as the quorum last saw it.
func TestPriorOfAnAppThatDoesNotAnswer(t *testing.T) {
	for _, wasOn := range []bool{true, false} {
		silent := func(context.Context, Process) ([]byte, int, error) { return nil, 0, errors.New("no route") }
		a := &attempt{
			p:      &performer{r: &Runner{out: newOutside(Options{Run: silent})}},
			task:   failover.Task{Step: failover.StepMaintenanceOn, Work: failover.WorkAct},
			target: &failover.App{Maintenance: &failover.Maintenance{Check: &failover.Action{Exec: []string{"/check"}}}},
			wasOn:  wasOn,
		}
		var seen sight
		a.lookAtMaintenance(t.Context(), &seen)
		if got := seen.start.Prior == priorOn; got != wasOn || seen.done {
			t.Errorf("was on %t: %+v", wasOn, seen)
		}
	}
}
