package failover

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// Limits on what the state keeps, so that nothing in it grows for ever.
const (
	HistoryKept   = 100  // ended switchovers per group
	eventsKept    = 512  // events
	appliedKept   = 256  // ids of applied commands
	MaxOutput     = 4096 // bytes of an attempt's output
	maxText       = 1024 // bytes of a reason, cause or error
	MaxFound      = 1024 // bytes of what a step's undo needs, and of a position
	maxMissing    = 64   // missing files that a watcher may tell, beside one of each group
	lastYear      = 9000 // of an entry's clock; a time beyond 9999 cannot be encoded (RFC 3339, section 1)
	stateFormat   = 1
	generationBit = 40 // a token is generation << 40 + index
)

// State is everything that the watchers agree on. It is immutable once published: Apply returns a new one. Its times
// come from the leaders' clocks and are for display only; no rule reads them.
type State struct {
	Format         int                    `json:"format"`
	Cluster        string                 `json:"cluster"`
	ClusterID      string                 `json:"cluster_id"`
	Generation     uint64                 `json:"generation"`
	Index          uint64                 `json:"index"` // of the last applied entry
	Term           uint64                 `json:"term"`  // of the last applied entry
	Time           time.Time              `json:"time"`  // of the last applied entry
	Members        []Member               `json:"members"`
	Change         *MemberChange          `json:"change,omitempty"`  // of the members, under way
	Removed        []Removed              `json:"removed,omitempty"` // watchers that were members, oldest first
	Policy         *Policy                `json:"policy,omitempty"`
	PolicyRevision uint64                 `json:"policy_revision"` // index of the entry that set it
	Serial         uint32                 `json:"serial"`          // of the zone
	FreshTerm      uint64                 `json:"fresh_term"`      // term in which Fresh was heard
	Fresh          []string               `json:"fresh"`           // watchers whose verdicts count, sorted
	Groups         map[string]*GroupState `json:"groups"`
	Events         []Event                `json:"events"`    // the last ones, oldest first
	EventSeq       uint64                 `json:"event_seq"` // of the last event
	Applied        []Applied              `json:"applied"`   // the last commands that carried an id, oldest first
	Recovery       *Recovery              `json:"recovery,omitempty"`
	Former         []string               `json:"former,omitempty"` // ids of clusters whose states were restored into this one
}

// Applied remembers a command's id and what Apply answered, so that sending it again changes nothing.
type Applied struct {
	ID     string `json:"id"`
	Result Result `json:"result"`
}

// Member is one watcher of the cluster: a voter, or one that joins, with an address for the others and addresses for
// its NS record.
type Member struct {
	Name    string   `json:"name"`
	Address string   `json:"address"`
	DNS     []string `json:"dns,omitempty"`
	Node    string   `json:"node,omitempty"`    // id of its data directory; empty: not known yet
	Joining bool     `json:"joining,omitempty"` // it does not count yet
	About   About    `json:"about"`
}

// About is what a watcher last said of itself.
type About struct {
	Boot    uint64        `json:"boot"`
	Seq     uint64        `json:"seq"`
	Life    string        `json:"life,omitempty"` // of the process: a random word, new with each Boot
	Node    string        `json:"node,omitempty"` // only on its way: id of the data directory
	Version string        `json:"version,omitempty"`
	Differs bool          `json:"differs,omitempty"` // its file proposes another policy than the one in force
	Served  uint64        `json:"served,omitempty"`  // index of the newest zone content that its name server answered
	Missing []MissingFile `json:"missing,omitempty"`
	Unseen  bool          `json:"unseen,omitempty"`   // it has not looked at its files since Boot: Missing and Differs hold as they were
	Faults  []Fault       `json:"faults,omitempty"`   // of its last rehearsals
	Expires *time.Time    `json:"expires,omitempty"`  // its certificate; nil: it has none
	LowDisk bool          `json:"low_disk,omitempty"` // its data directory is running out of space
}

// MissingFile is a file or a variable that the policy names and a watcher does not have.
type MissingFile struct {
	Group string `json:"group"`
	File  string `json:"file"` // a path, or what Variable.String says
}

// GroupState is what the cluster knows and does about one group.
type GroupState struct {
	Name    string               `json:"name"`
	Active  string               `json:"active"`
	Writer  string               `json:"writer"`
	Epoch   uint64               `json:"epoch"`
	Settled bool                 `json:"settled"` // the first active app was found from the databases' roles, or by a switchover
	UpOnce  bool                 `json:"up_once"` // active was up by quorum since it became active or its probes changed
	Apps    map[string]*AppState `json:"apps"`
	// WriterID and WriterTimeline are what a majority last saw of the writer's database.
	WriterID       string `json:"writer_id,omitempty"`
	WriterTimeline uint64 `json:"writer_timeline,omitempty"`

	Outage *Outage `json:"outage,omitempty"` // from the active app's being down by quorum until it is up
	Pause  *Pause  `json:"pause,omitempty"`
	// Unconfirmed holds everything back after a recovery or a restore, what a person asks for included.
	Unconfirmed *Unconfirmed `json:"unconfirmed,omitempty"`
	// Cooldown and Retry hold the automation back after a switchover; AskedEnd holds back a person's second signal.
	Cooldown   *Hold             `json:"cooldown,omitempty"`
	Retry      *Hold             `json:"retry,omitempty"`
	Undone     int               `json:"undone"` // failovers undone in a row
	LastTarget string            `json:"last_target,omitempty"`
	AskedEnd   *Hold             `json:"asked_end,omitempty"`
	OutOfReach string            `json:"out_of_reach,omitempty"` // why a promotion was held back; until the retry
	Switchover *Switchover       `json:"switchover,omitempty"`   // the open or halted one
	History    []*Switchover     `json:"history"`                // ended ones, oldest first; never changed
	Blockers   []Blocker         `json:"blockers"`
	Counts     map[string]uint64 `json:"counts,omitempty"`   // ended switchovers by "kind/result", for ever rising
	Switched   *Switched         `json:"switched,omitempty"` // the last change of the record
	Notified   map[string]Cursor `json:"notified,omitempty"` // by Action.Key, one for each target of its notifications; replaced, never changed
}

// Outage lasts from the quorum's finding the active app down until it finds it up. Index is the entry with which the
// present agreement began; 0 while the quorum does not agree.
type Outage struct {
	Index     uint64    `json:"index"`
	Since     time.Time `json:"since"`
	Confirmed bool      `json:"confirmed"`      // the agreement has lasted confirm_for
	Told      string    `json:"told,omitempty"` // what was last announced about not acting on it
}

// Pause is a person's order to the automation to hold still.
type Pause struct {
	Index  uint64        `json:"index"`
	Since  time.Time     `json:"since"`
	By     string        `json:"by"`
	Reason string        `json:"reason,omitempty"`
	For    time.Duration `json:"for,omitempty"` // 0: until resume
}

// Hold is a wait that began with an entry and ends with a Due command.
type Hold struct {
	Index uint64        `json:"index"`
	Since time.Time     `json:"since"`
	For   time.Duration `json:"for"`
}

// Switched is the last change of a group's record, with the TTL of the answers that it made old.
type Switched struct {
	Index          uint64     `json:"index"`
	TTL            uint32     `json:"ttl"`
	CachesExpireAt *time.Time `json:"caches_expire_at"` // set once every member has confirmed
}

// AppState is what the cluster knows about one app.
type AppState struct {
	Name        string             `json:"name"`
	Revision    uint64             `json:"revision"` // index at which its probes or its role last changed
	Reports     map[string]*Report `json:"reports"`  // by watcher
	Health      Health             `json:"health"`
	HealthSince time.Time          `json:"health_since"`
	Down        bool               `json:"down,omitempty"` // by quorum, since it was last up
	Maintenance Switch             `json:"maintenance"`
	NotReady    []Blocker          `json:"not_ready"`
	Mark        *Mark              `json:"mark,omitempty"`    // to be kept fenced
	Release     *Mark              `json:"release,omitempty"` // to be opened again: an undo that could not be done
	// What a quorum last saw of it since its role or its probes changed; an app that does not answer now is taken to be so.
	LastMaintenance Switch `json:"last_maintenance,omitempty"` // empty: never known
	LastFrozen      bool   `json:"last_frozen,omitempty"`
	// Undone is the index at which hands last left it as no look that began before can tell: an undo, or a freeze that is not told.
	Undone uint64 `json:"undone,omitempty"`
	// TellsFrozen says that its database has told at least once that it is frozen, so that one which does not tell it is not.
	TellsFrozen bool `json:"tells_frozen,omitempty"`
	// MayBeFrozen says that a freeze was begun on its database and that nothing has lifted it since; of one that does not tell,
	// that is all there is to go by.
	MayBeFrozen bool `json:"may_be_frozen,omitempty"`
	// NoPrimary says that a majority of the watchers does not see its database as a primary, be it silent or a replica.
	NoPrimary bool `json:"no_primary,omitempty"`
}

// Mark is an obligation on an app that outlives a switchover: to keep it fenced, or to open it again after an undo.
type Mark struct {
	Index       uint64    `json:"index"`
	Since       time.Time `json:"since"`
	Switchover  uint64    `json:"switchover"`
	Maintenance bool      `json:"maintenance"`
	Database    bool      `json:"database"`
	Replication bool      `json:"replication,omitempty"` // only of a release: to be resumed
	Attempts    int       `json:"attempts"`
	Open        *Attempt  `json:"open,omitempty"`
	Error       string    `json:"error,omitempty"`
	Output      string    `json:"output,omitempty"` // of the last attempt
	// Kept counts the attempts that were done, by part: what follows one is another deed, not a repetition.
	Kept map[Part]int `json:"kept,omitempty"`
	// Reprotect is a person's order to make the app's database a replica again; only of a mark.
	Reprotect *Reprotect `json:"reprotect,omitempty"`
	// Refreeze says that its database is to be frozen once more, whatever it tells and whatever is believed of it: the last
	// freeze failed, perhaps half-way, or what was frozen may not be what is there now.
	Refreeze bool `json:"refreeze,omitempty"`
	// Found is, by part, what a release has to put back: Step.Found of the undo that could not be done.
	Found map[Part]string `json:"found,omitempty"`
}

// Attempt is an open attempt of a mark's keeping.
type Attempt struct {
	Token uint64    `json:"token"`
	Term  uint64    `json:"term"`
	Part  Part      `json:"part"`
	Since time.Time `json:"since"`
	// Timeout is what it has, whatever a later policy says; zero: what the policy says (written before there was this field).
	Timeout time.Duration `json:"timeout,omitempty"`
}

// Part is what of an app a mark's attempt acts on.
type Part string

// The parts of an app.
const (
	PartMaintenance Part = "maintenance"
	PartDatabase    Part = "database"
	PartReplication Part = "replication"
)

// Observation is what one watcher saw of one app's database.
type Observation struct {
	Role      Role   `json:"role"`
	Frozen    bool   `json:"frozen,omitempty"`
	Streaming bool   `json:"streaming,omitempty"` // receives from its primary now
	ID        string `json:"id,omitempty"`        // of the database cluster; empty: unknown
	Timeline  uint64 `json:"timeline,omitempty"`
	// Position is where its log ends, written (a primary) or received (a replica), counted in bytes along one line for each
	// kind; null: unknown. As a mere number it is no news: what stands here is as of the last report for another reason.
	Position *uint64 `json:"position,omitempty"`
	// LagBytes and LagSeconds are as the database tells them or as the watcher works them out from positions, null if neither
	// is possible. In the writer's outage they are from the
	// last look at a live stream before it, with that look's age added to the seconds.
	LagBytes   *int64   `json:"lag_bytes"`
	LagSeconds *float64 `json:"lag_seconds"`
	// UntilOutage says that the stream was live until the writer's outage began, by this watcher's own clock.
	UntilOutage bool `json:"until_outage,omitempty"`
	// RiskSeconds is an upper bound, in time, of what was written before the writer's outage and not received: from the last
	// proof of no lag, or from the last lag that was told in seconds, whichever is less. Null: there was no such proof.
	RiskSeconds *float64 `json:"risk_seconds,omitempty"`
}

// Blocker is a named reason why something would not be done now.
type Blocker struct {
	Code   string    `json:"code"`
	Detail string    `json:"detail"`
	Since  time.Time `json:"since"`
}

// Event is something that a person would retell.
type Event struct {
	Seq   uint64            `json:"seq"`
	Time  time.Time         `json:"time"`
	Type  string            `json:"type"`
	Group string            `json:"group,omitempty"`
	App   string            `json:"app,omitempty"`
	Text  string            `json:"text"`
	Data  map[string]string `json:"data,omitempty"`
}

// Kind is why a switchover runs.
type Kind string

// The kinds of switchover.
const (
	KindFailover Kind = "failover" // decided by quorum
	KindPlanned  Kind = "planned"  // asked for, active app up
	KindForced   Kind = "forced"   // asked for, active app down or a rule overridden
)

// SwitchoverResult is how a switchover stands or ended.
type SwitchoverResult string

// The results of a switchover, in the order of life.
const (
	ResultRunning            SwitchoverResult = "running"
	ResultHalted             SwitchoverResult = "halted"
	ResultDone               SwitchoverResult = "done"
	ResultDoneWithExceptions SwitchoverResult = "done_with_exceptions"
	ResultUndone             SwitchoverResult = "undone"
	ResultAborted            SwitchoverResult = "aborted"
)

// StepState is how a step stands.
type StepState string

// The states of a step, in the order of life.
const (
	StepPending StepState = "pending"
	StepRunning StepState = "running"
	StepDone    StepState = "done"
	StepSkipped StepState = "skipped" // left out by rule, or by a person
	StepMarked  StepState = "marked"  // could not be done; the app is marked
	StepFailed  StepState = "failed"
	StepUndone  StepState = "undone"
)

// AtRisk is what may be lost by promoting.
type AtRisk struct {
	Bytes      *int64   `json:"bytes"`
	BytesExact bool     `json:"bytes_exact"`
	Seconds    *float64 `json:"seconds"`
}

// Switchover is one run of the plan.
type Switchover struct {
	ID         uint64           `json:"id"` // State.Token of the entry that opened it: in generation 0 its index
	Group      string           `json:"group"`
	Kind       Kind             `json:"kind"`
	From       string           `json:"from"`
	To         string           `json:"to"`
	Cause      string           `json:"cause"`
	By         string           `json:"by"` // quorum, uid:N, signal:WATCHER
	Epoch      uint64           `json:"epoch"`
	StartedAt  time.Time        `json:"started_at"`
	EndedAt    *time.Time       `json:"ended_at"`
	Result     SwitchoverResult `json:"result"`
	AtRisk     AtRisk           `json:"at_risk"`
	Steps      []Step           `json:"steps"`
	Exceptions []string         `json:"exceptions,omitempty"`
	Undoing    string           `json:"undoing,omitempty"`   // why the started steps are being undone; empty: they are not
	Recovered  bool             `json:"recovered,omitempty"` // undone because From was healthy again
	Aborted    bool             `json:"aborted,omitempty"`   // undone because a person said so
	Force      bool             `json:"force,omitempty"`
	Policy     Group            `json:"policy"`         // that it was opened with and keeps
	Held       uint64           `json:"held,omitempty"` // entry since which the quorum no longer holds From down
}

// Step is one entry of the plan as it stands. Attempts, Token, Error and Output are of the last attempt, undo included.
type Step struct {
	Name        StepName   `json:"name"`
	App         string     `json:"app"` // whom it acts on
	State       StepState  `json:"state"`
	Token       uint64     `json:"token"`
	Attempts    int        `json:"attempts"`
	StartedAt   *time.Time `json:"started_at"`
	EndedAt     *time.Time `json:"ended_at"`
	Error       string     `json:"error"`
	Output      string     `json:"output,omitempty"`
	AfterOutput string     `json:"after_output,omitempty"` // of its after hooks
	Prior       string     `json:"prior,omitempty"`        // non-secret state seen before the first act; what undo goes back to
	Found       string     `json:"found,omitempty"`        // what the database's driver needs to go back to it; not secret
	Position    string     `json:"position,omitempty"`     // of freeze: where the frozen database's log ends; catch-up waits for it
	Tries       int        `json:"tries,omitempty"`        // failed attempts in the present series
	Waiting     uint64     `json:"waiting,omitempty"`      // entry from which a wait (backoff, halted, verify) is counted
	Acted       bool       `json:"acted,omitempty"`        // an attempt was started, so the target may have been touched
	Open        Work       `json:"open,omitempty"`         // what the open attempt does; empty: none is open
	OpenTerm    uint64     `json:"open_term,omitempty"`
	After       AfterState `json:"after,omitempty"`
	Untold      bool       `json:"untold,omitempty"` // of freeze: done, but the database does not tell it
	Redo        bool       `json:"redo,omitempty"`   // asked for again by a last look
}

// What a step found before it touched anything, as far as its undo has to know: an app that was in maintenance, or a
// database that was frozen, stays so.
const (
	PriorOn     = "on"
	PriorFrozen = "frozen"
)

// Work is what an attempt does for a step.
type Work string

// The works of a step.
const (
	WorkAct   Work = "act"
	WorkAfter Work = "after" // its after hooks
	WorkUndo  Work = "undo"
)

// AfterState is how a step's after hooks stand; empty: it has none.
type AfterState string

// The states of after hooks.
const (
	AfterPending  AfterState = "pending"  // to be run; the next step waits
	AfterRetrying AfterState = "retrying" // failed once; the plan goes on meanwhile
	AfterDone     AfterState = "done"
	AfterFailed   AfterState = "failed"
)

// NewState is the state of a log with no entries.
func NewState() *State {
	return &State{Format: stateFormat, Groups: map[string]*GroupState{}}
}

// Token is the fencing token of an attempt journaled at index.
func (s *State) Token(index uint64) uint64 { return s.Generation<<generationBit + index }

// Hash is a digest of the whole state; equal logs give equal hashes.
func (s *State) Hash() string {
	text, err := json.Marshal(s)
	if err != nil {
		return "unhashable: " + err.Error()
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Encode writes the state for a snapshot.
func (s *State) Encode() ([]byte, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("cannot encode state at index %d: %w", s.Index, err)
	}
	return text, nil
}

// DecodeState reads what Encode wrote. A format newer than this program's is an error: reading it would lose state.
func DecodeState(text []byte) (*State, error) {
	s := &State{} // not NewState: a format that is not told must not look like ours
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("cannot decode state: %w", err)
	}
	if s.Format != stateFormat {
		return nil, fmt.Errorf("cannot decode state: its format is %d, this program reads %d; use the version that wrote it", s.Format, stateFormat)
	}
	if s.Groups == nil {
		s.Groups = map[string]*GroupState{}
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("cannot decode state at index %d: %w", s.Index, err)
	}
	return s, nil
}

// Open reports whether the switchover has not ended.
func (w *Switchover) Open() bool { return w != nil && w.EndedAt == nil }

// Step returns the step of that name, nil if the plan has none.
func (w *Switchover) Step(name StepName) *Step {
	for i := range w.Steps {
		if w.Steps[i].Name == name {
			return &w.Steps[i]
		}
	}
	return nil
}

// PastNoReturn reports whether the point of no return is committed: the promotion was started or, in a group without a
// database, the opening of the target; where those steps do not exist, the record was switched.
func (w *Switchover) PastNoReturn() bool {
	if s := w.Step(StepSwitchDNS); s.State == StepDone {
		return true
	}
	s := w.pointOfNoReturn()
	return s.Acted
}

// Untouched reports whether no step has been begun.
func (w *Switchover) Untouched() bool {
	for i := range w.Steps {
		if w.Steps[i].Acted || w.Steps[i].Attempts > 0 {
			return false
		}
	}
	return true
}

// pointOfNoReturn is the step whose start cannot be taken back.
func (w *Switchover) pointOfNoReturn() *Step {
	for _, name := range []StepName{StepPromote, StepMaintenanceOff} {
		if s := w.Step(name); s != nil && (s.State != StepSkipped || s.Acted) {
			return s
		}
	}
	return w.Step(StepSwitchDNS)
}
