package failover

// Verdict is one watcher's opinion of one app.
type Verdict string

// The verdicts.
const (
	VerdictUp      Verdict = "up"
	VerdictDown    Verdict = "down"
	VerdictUnknown Verdict = "unknown"
)

// Health is what the fresh verdicts on an app add up to by quorum.
type Health string

// The values of health.
const (
	HealthUp      Health = "up"
	HealthDown    Health = "down"
	HealthUnknown Health = "unknown"
)

// Switch is the state of an app's maintenance mode.
type Switch string

// The states of maintenance.
const (
	SwitchOn      Switch = "on"
	SwitchOff     Switch = "off"
	SwitchUnknown Switch = "unknown"
)

// Role is what a database says of itself.
type Role string

// The roles of a database.
const (
	RolePrimary Role = "primary"
	RoleReplica Role = "replica"
	RoleUnknown Role = "unknown"
)
