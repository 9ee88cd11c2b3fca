package client

import (
	"encoding/json"
	"fmt"
	"time"
)

// timeFormat is RFC 3339 with milliseconds; times are always UTC, so that two watchers' replies compare as text.
const timeFormat = "2006-01-02T15:04:05.000Z07:00"

// Time is a time as the API writes it: RFC 3339, UTC, milliseconds.
type Time struct{ time.Time }

// MarshalJSON writes the time in UTC with milliseconds.
func (t Time) MarshalJSON() ([]byte, error) {
	return json.Marshal(t.UTC().Format(timeFormat))
}

// UnmarshalJSON reads any RFC 3339 time.
func (t *Time) UnmarshalJSON(text []byte) error {
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return fmt.Errorf("cannot read time %s: %w", text, err)
	}
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return fmt.Errorf("cannot read time %q: %w", s, err)
	}
	t.Time = at.UTC()
	return nil
}

// Status is the reply to GET /v1/status: everything that one watcher knows.
type Status struct {
	Watcher string  `json:"watcher"` // who answers
	Version string  `json:"version"`
	Time    Time    `json:"time"`  // this watcher's clock
	Index   uint64  `json:"index"` // of the state shown; what ?wait= takes
	Cluster Cluster `json:"cluster"`
	Zone    Zone    `json:"zone"`
	Groups  []Group `json:"groups"`
}

// Cluster is the Raft cluster as this watcher sees it.
type Cluster struct {
	Name           string    `json:"name"`
	Leader         *string   `json:"leader"` // null: none is known
	Term           uint64    `json:"term"`
	CommitIndex    uint64    `json:"commit_index"`
	AppliedIndex   uint64    `json:"applied_index"`
	HasQuorum      bool      `json:"has_quorum"`
	PolicyRevision uint64    `json:"policy_revision"`
	Generation     uint64    `json:"generation,omitempty"` // raised by recover and by snapshot restore
	Watchers       []Watcher `json:"watchers"`
	Waiting        string    `json:"waiting,omitempty"` // why the watcher that answers does not take part yet
}

// Watcher is one member of the cluster.
type Watcher struct {
	Name        string `json:"name"`
	Address     string `json:"address"`
	State       string `json:"state"` // leader, follower, candidate, unknown
	Voter       bool   `json:"voter"` // false: it joins and does not count yet
	Silent      bool   `json:"silent"`
	Version     string `json:"version"`
	FileDiffers bool   `json:"file_differs"` // its file proposes another policy than the one in force
}

// Zone is the DNS zone that the watchers serve.
type Zone struct {
	Name   string `json:"name"`
	Serial uint32 `json:"serial"`
}

// Group is one failover group, also the reply to GET /v1/groups/{group}.
type Group struct {
	Name           string      `json:"name"`
	FQDN           string      `json:"fqdn"`
	TTL            uint32      `json:"ttl"` // seconds
	Active         string      `json:"active"`
	Writer         string      `json:"writer"`
	Epoch          uint64      `json:"epoch"`
	Phase          string      `json:"phase"` // steady, suspect, down, switching, halted
	Warnings       []Warning   `json:"warnings"`
	Automation     Automation  `json:"automation"`
	Apps           []App       `json:"apps"`
	Switchover     *Switchover `json:"switchover"`      // the open or halted one
	LastSwitchover *Switchover `json:"last_switchover"` // the last ended one
	CachesExpireAt *Time       `json:"caches_expire_at"`
}

// Warning is something that a person should look at, though the automation works.
type Warning struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// Automation says whether the cluster would act by itself, and if not, why not.
type Automation struct {
	Mode   string `json:"mode"`
	Paused bool   `json:"paused"`
	// Unconfirmed: the state was recovered or restored, and everything is held until ack.
	Unconfirmed bool     `json:"unconfirmed,omitempty"`
	PausedBy    string   `json:"paused_by"`
	Reason      string   `json:"reason"`
	Until       *Time    `json:"until"` // null: until resume
	Armed       bool     `json:"armed"`
	Blockers    []Reason `json:"blockers"`
}

// Reason is a named reason why something is not so: a blocker, or why an app is not ready.
type Reason struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
	Since  *Time  `json:"since"`
}

// App is one site of a group.
type App struct {
	Name               string    `json:"name"`
	Role               string    `json:"role"` // active, standby
	Address            []string  `json:"address"`
	Health             string    `json:"health"`                    // up, down, unknown
	Maintenance        string    `json:"maintenance"`               // on, off, unknown
	Marked             bool      `json:"marked"`                    // kept fenced
	Releasing          bool      `json:"releasing"`                 // to be opened again, which could not be done yet
	Reprotecting       bool      `json:"reprotecting"`              // its database is being made a replica, because a person asked for it
	ReprotectError     string    `json:"reprotect_error,omitempty"` // why that failed last time
	CertificateExpires *Time     `json:"certificate_expires"`
	Verdicts           []Verdict `json:"verdicts"`
	Probes             []Probe   `json:"probes"` // this watcher's own
	Ready              bool      `json:"ready"`
	NotReady           []Reason  `json:"not_ready"`
	Database           *Database `json:"database"` // null: the app has none
}

// Verdict is one watcher's opinion of an app.
type Verdict struct {
	Watcher string `json:"watcher"`
	Verdict string `json:"verdict"` // up, down, unknown
	Since   *Time  `json:"since"`
	Reason  string `json:"reason"`
	Fresh   bool   `json:"fresh"` // it counts
}

// Probe is the last result of one of the answering watcher's own probes.
type Probe struct {
	Name   string `json:"name"`
	Up     bool   `json:"up"`
	Reason string `json:"reason"`
	Since  *Time  `json:"since"`
}

// Database is what was last seen of an app's database.
type Database struct {
	Kind       string   `json:"kind"`
	Role       string   `json:"role"` // primary, replica, unknown
	LagBytes   *int64   `json:"lag_bytes"`
	LagSeconds *float64 `json:"lag_seconds"`
	Streaming  bool     `json:"streaming"`
	Frozen     bool     `json:"frozen"` // refuses writes
}

// Switchover is one run of the plan.
type Switchover struct {
	ID         uint64   `json:"id"`
	Group      string   `json:"group"`
	Kind       string   `json:"kind"` // failover, planned, forced
	From       string   `json:"from"`
	To         string   `json:"to"`
	Cause      string   `json:"cause"`
	By         string   `json:"by"` // quorum, uid:N, signal:WATCHER
	Epoch      uint64   `json:"epoch"`
	StartedAt  *Time    `json:"started_at"`
	EndedAt    *Time    `json:"ended_at"`
	Result     string   `json:"result"` // running, halted, done, done_with_exceptions, undone, aborted
	AtRisk     AtRisk   `json:"at_risk"`
	Steps      []Step   `json:"steps"`
	Exceptions []string `json:"exceptions"`
	Undoing    string   `json:"undoing"` // why the started steps are undone; empty: they are not
}

// AtRisk is what may be lost by promoting; null is unknown.
type AtRisk struct {
	Bytes      *int64   `json:"bytes"`
	BytesExact bool     `json:"bytes_exact"`
	Seconds    *float64 `json:"seconds"`
}

// Step is one entry of the plan as it stands.
type Step struct {
	Name      string `json:"name"`
	App       string `json:"app"` // whom it acts on
	State     string `json:"state"`
	Token     uint64 `json:"token"`
	Attempts  int    `json:"attempts"`
	StartedAt *Time  `json:"started_at"`
	EndedAt   *Time  `json:"ended_at"`
	Error     string `json:"error"`
	Output    string `json:"output"` // the last 4 KiB of what its program said
}

// Explanation is the reply to GET /v1/groups/{group}/explain.
type Explanation struct {
	WouldSwitch bool        `json:"would_switch"`
	Conditions  []Condition `json:"conditions"`
}

// Condition is one of those that must all be met before the cluster switches by itself.
type Condition struct {
	Code     string `json:"code"`
	Met      bool   `json:"met"`
	Evidence string `json:"evidence"`
	Since    *Time  `json:"since"`
}

// History is the reply to GET /v1/history: ended switchovers, newest first.
type History struct {
	Switchovers []Switchover `json:"switchovers"`
}

// SwitchoverRequest is the body of POST /v1/groups/{group}/switchover.
type SwitchoverRequest struct {
	To     string `json:"to,omitempty"` // empty: the first ready app in order of preference
	Force  bool   `json:"force,omitempty"`
	DryRun bool   `json:"dry_run,omitempty"`
}

// DryRun is what a switchover would do now.
type DryRun struct {
	Kind    string `json:"kind"`
	To      string `json:"to"`
	Steps   []Step `json:"steps"`
	Refused string `json:"refused"` // the rule and its detail; empty: it would be accepted
	AtRisk  AtRisk `json:"at_risk"`
	// AlreadyActive says that there is nothing to do: the app asked for is the active one.
	AlreadyActive bool `json:"already_active"`
}

// Started is the reply to a switchover request: the switchover, or word that there is nothing to do.
type Started struct {
	AlreadyActive bool   `json:"already_active"`
	Active        string `json:"active,omitempty"`
	Switchover
}

// RetryRequest is the body of POST /v1/groups/{group}/retry.
type RetryRequest struct {
	SkipStep bool `json:"skip_step,omitempty"`
}

// PauseRequest is the body of POST /v1/pause and /v1/groups/{group}/pause.
type PauseRequest struct {
	For    string `json:"for,omitempty"` // a duration such as 2h; empty: until resume
	Reason string `json:"reason,omitempty"`
}

// Accepted is the reply to abort, retry, ack, pause and resume.
type Accepted struct {
	Index      uint64 `json:"index"`      // of the entry that holds the order
	Switchover uint64 `json:"switchover"` // that it is about; 0: none
	Note       string `json:"note"`       // what a person should know, for instance that nothing had to be changed
}

// Members is the reply to GET /v1/members.
type Members struct {
	Leader  *string       `json:"leader"` // null: none is known
	Quorum  int           `json:"quorum"` // how many voters decide
	Members []Member      `json:"members"`
	Change  *MemberChange `json:"change"` // under way; null: none is
}

// Member is one watcher of the cluster.
type Member struct {
	Name    string   `json:"name"`
	Address string   `json:"address"`
	DNS     []string `json:"dns"`
	State   string   `json:"state"`   // leader, follower, unknown
	Voter   bool     `json:"voter"`   // it counts
	Joining bool     `json:"joining"` // it was added and has not caught up yet
	Silent  bool     `json:"silent"`
	Version string   `json:"version"`
}

// MemberChange is a change of the members that is not complete.
type MemberChange struct {
	Kind     string `json:"kind"` // add, remove, move
	Name     string `json:"name"`
	By       string `json:"by"`
	Since    *Time  `json:"since"`
	WaitsFor string `json:"waits_for"` // empty: for nothing that is known here
}

// MemberRequest is the body of POST /v1/members: a new watcher, or another address of one.
type MemberRequest struct {
	Name    string   `json:"name"`
	Address string   `json:"address"`
	DNS     []string `json:"dns,omitempty"` // left out: a watcher keeps what it has
}

// TransferRequest is the body of POST /v1/members/transfer. To empty: to any other watcher.
type TransferRequest struct {
	To string `json:"to,omitempty"`
}

// Transferred is the reply to POST /v1/members/transfer.
type Transferred struct {
	Leader string `json:"leader"`
	Note   string `json:"note,omitempty"`
}
