package switchover

import (
	"context"
	"fmt"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// maintenance is one app's maintenance switch.
type maintenance struct {
	out    *outside
	policy *failover.Maintenance
}

// state asks whether the app is in maintenance. Without a check nobody knows.
func (m maintenance) state(ctx context.Context, id identity) (failover.Switch, error) {
	if m.policy.Check == nil {
		return failover.SwitchUnknown, nil
	}
	on, err := m.out.ask(ctx, *m.policy.Check, id)
	switch {
	case err != nil:
		return failover.SwitchUnknown, err
	case on:
		return failover.SwitchOn, nil
	}
	return failover.SwitchOff, nil
}

// set turns maintenance to what is wanted and reads it back, as far as there is a check.
func (m maintenance) set(ctx context.Context, want failover.Switch, id identity) (string, error) {
	action := m.policy.On
	if want == failover.SwitchOff {
		action = m.policy.Off
	}
	output, err := m.out.do(ctx, action, id)
	if err != nil || m.policy.Check == nil {
		return output, err
	}
	got, err := m.state(ctx, id)
	if err != nil {
		return output, fmt.Errorf("cannot read maintenance back: %w", err)
	}
	if got != want {
		return output, fmt.Errorf("maintenance still reads %s after it was turned %s", got, want)
	}
	return output, nil
}
