package failover

// StepName names one step of the plan, in state, logs, metrics and configuration alike.
type StepName string

// The steps of the plan.
const (
	StepMaintenanceOn   StepName = "maintenance-on"
	StepFreeze          StepName = "freeze"
	StepCatchUp         StepName = "catch-up"
	StepStopReplication StepName = "stop-replication"
	StepPromote         StepName = "promote"
	StepMaintenanceOff  StepName = "maintenance-off"
	StepSwitchDNS       StepName = "switch-dns"
	StepVerify          StepName = "verify"
)

// Plan is every step in the order in which a switchover performs them.
var Plan = []StepName{
	StepMaintenanceOn, StepFreeze, StepCatchUp, StepStopReplication,
	StepPromote, StepMaintenanceOff, StepSwitchDNS, StepVerify,
}
