package config

import (
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// databaseSteps are the steps that a group without a database does not have.
var databaseSteps = []failover.StepName{
	failover.StepFreeze, failover.StepCatchUp, failover.StepStopReplication, failover.StepPromote,
}

// maintenanceSteps are those that need an app with a maintenance switch.
var maintenanceSteps = []failover.StepName{failover.StepMaintenanceOn, failover.StepMaintenanceOff}

// steps changes in settings, which holds the defaults, what v says about the steps that apps have.
func (v value) steps(settings failover.StepSettings, apps value) {
	m := v.mapping()
	for _, name := range failover.Plan {
		entry, ok := m.get(string(name))
		if !ok {
			continue
		}
		// A hook on a step that never runs would be silence at the moment it was written for.
		if slices.Contains(databaseSteps, name) && !apps.anyHas("database") {
			entry.fault("no app of this group has a database, so this step does not run")
			continue
		}
		if slices.Contains(maintenanceSteps, name) && !apps.anyHas("maintenance") {
			entry.fault("no app of this group has maintenance, so this step does not run")
			continue
		}
		settings[name] = entry.step(settings[name])
	}
	m.done()
}

func (v value) step(s failover.StepSetting) failover.StepSetting {
	m := v.mapping()
	m.duration("timeout", &s.Timeout, 100*time.Millisecond, time.Hour)
	m.number("tries", &s.Tries, 1, 100)
	m.duration("backoff", &s.Backoff, 0, 10*time.Minute)
	s.Before = v.r.hooks(m, "before")
	s.After = v.r.hooks(m, "after")
	m.done()
	return s
}

// anyHas says whether an item of the list v has key. It asks the file and not what was read from it, so that an app
// whose database is faulty is not also blamed for having none; without a list there is nothing to contradict.
func (v value) anyHas(key string) bool {
	if v.node == nil || v.node.Kind != yaml.SequenceNode {
		return true
	}
	return slices.ContainsFunc(v.node.Content, func(n *yaml.Node) bool { return value{node: n}.has(key) })
}
