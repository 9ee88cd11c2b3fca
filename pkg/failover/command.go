package failover

import (
	"encoding/json"
	"fmt"
	"time"
)

// MaxCommand bounds an encoded command, in bytes.
const MaxCommand = 4 << 20

// Command is one proposal to the log. The leader fills in Term, Time and Fresh; exactly one of the rest is set.
type Command struct {
	ID    string    `json:"id,omitempty"` // applied once; empty: repeating it is harmless
	Term  uint64    `json:"term"`         // refused if it lands in another
	Time  time.Time `json:"time"`         // the leader's clock, for display and the serial
	Fresh []string  `json:"fresh"`        // watchers that the leader has heard fresh in this term
	By    string    `json:"by,omitempty"` // uid:N, signal:WATCHER, watcher:NAME

	Init      *Init           `json:"init,omitempty"`
	Tick      *Tick           `json:"tick,omitempty"`
	Reports   *Reports        `json:"reports,omitempty"`
	Due       *Due            `json:"due,omitempty"`
	SetPolicy *SetPolicy      `json:"set_policy,omitempty"`
	Request   *Request        `json:"request,omitempty"`
	Abort     *GroupOrder     `json:"abort,omitempty"`
	Retry     *RetryOrder     `json:"retry,omitempty"`
	Ack       *GroupOrder     `json:"ack,omitempty"`
	Pause     *PauseOrder     `json:"pause,omitempty"`
	Resume    *GroupOrder     `json:"resume,omitempty"`
	Journal   *Journal        `json:"journal,omitempty"`
	Reprotect *ReprotectOrder `json:"reprotect,omitempty"`
	Told      *Told           `json:"told,omitempty"`
	Restore   *Restore        `json:"restore,omitempty"`

	AddMember     *AddMember   `json:"add_member,omitempty"`
	JoinMember    *JoinMember  `json:"join_member,omitempty"`
	AdmitMember   *MemberOrder `json:"admit_member,omitempty"`
	RemoveMember  *MemberOrder `json:"remove_member,omitempty"`
	SettleMembers *Settle      `json:"settle_members,omitempty"`
	Transfer      *MemberOrder `json:"transfer,omitempty"`
}

// Init is the first entry of an empty cluster.
type Init struct {
	Cluster   string   `json:"cluster"`
	ClusterID string   `json:"cluster_id"`
	Members   []Member `json:"members"`
	Policy    Policy   `json:"policy"`
}

// Tick says nothing but whom the leader hears: the first entry of a term, and whenever that list changes.
type Tick struct{}

// Reports carries changed verdicts and other news from watchers.
type Reports struct {
	Reports []Report         `json:"reports,omitempty"`
	About   map[string]About `json:"about,omitempty"` // by watcher
}

// Report is what one watcher says of one app. Boot and Seq number a watcher's reports; older ones are ignored.
type Report struct {
	Group       string       `json:"group"`
	App         string       `json:"app"`
	Watcher     string       `json:"watcher"`
	Boot        uint64       `json:"boot"`
	Seq         uint64       `json:"seq"`
	Revision    uint64       `json:"revision"` // of the app's probes and role that were asked
	Verdict     Verdict      `json:"verdict"`
	Reason      string       `json:"reason,omitempty"`
	Untrusted   bool         `json:"untrusted,omitempty"` // the reason is that its certificate was refused
	Since       time.Time    `json:"since"`
	Undone      uint64       `json:"undone,omitempty"` // the app's, as this watcher's state had it when it began to look
	Maintenance Switch       `json:"maintenance,omitempty"`
	Database    *Observation `json:"database,omitempty"`
	Expires     *time.Time   `json:"expires,omitempty"` // its certificate
}

// Due says that a timer of State.Timers has run out.
type Due struct {
	Key string `json:"key"`
}

// SetPolicy proposes a policy to whoever has seen the one in force: Revision must be that one's.
type SetPolicy struct {
	Revision uint64 `json:"revision"`
	Policy   Policy `json:"policy"`
}

// Request asks for a switchover. Signal: by a signal, for which stricter rules hold.
type Request struct {
	Group  string `json:"group"`
	To     string `json:"to,omitempty"`
	Force  bool   `json:"force,omitempty"`
	Signal bool   `json:"signal,omitempty"`
}

// GroupOrder is an order to a group; empty: to all where that makes sense.
type GroupOrder struct {
	Group string `json:"group,omitempty"`
}

// RetryOrder tries a halted step now, or leaves it out.
type RetryOrder struct {
	Group string `json:"group"`
	Skip  bool   `json:"skip,omitempty"`
}

// PauseOrder stops the automation of a group, or of all.
type PauseOrder struct {
	Group  string        `json:"group,omitempty"`
	For    time.Duration `json:"for,omitempty"` // 0: until resume
	Reason string        `json:"reason,omitempty"`
	Signal bool          `json:"signal,omitempty"` // a group that is paused until resume already stays as it is
}

// Journal holds what a runner did and is about to do, applied in this order: the ends of attempts, then the start of at
// most one. Each record is accepted or refused on its own.
type Journal struct {
	Ended []Ended `json:"ended,omitempty"`
	Start *Start  `json:"start,omitempty"`
}

// Task names one thing that the runner is to do.
type Task struct {
	Group      string   `json:"group"`
	App        string   `json:"app"`                  // whom it acts on
	Switchover uint64   `json:"switchover,omitempty"` // 0: a mark's keeping
	Step       StepName `json:"step,omitempty"`
	Work       Work     `json:"work,omitempty"`
	Part       Part     `json:"part,omitempty"`    // of a mark's keeping
	Release    bool     `json:"release,omitempty"` // a mark's keeping: open instead of fence
}

// Start begins an attempt. Its token is State.Token of the entry's index.
type Start struct {
	Task
	Prior string       `json:"prior,omitempty"`
	Found string       `json:"found,omitempty"` // what undoing the step needs to put the database back as it was; not secret
	From  *Observation `json:"from,omitempty"`  // the old writer's database, seen just now
	To    *Observation `json:"to,omitempty"`    // the target's
	// Unseen says that the target was asked how it stands, its database or its maintenance check, and did not tell.
	Unseen bool `json:"unseen,omitempty"`
	// FromOpen says that the old app answers and is out of maintenance, seen just before the target is opened.
	FromOpen bool `json:"from_open,omitempty"`
}

// Outcome is how an attempt ended.
type Outcome string

// The outcomes of an attempt.
const (
	OutcomeDone        Outcome = "done"        // verified by reading back
	OutcomeFailed      Outcome = "failed"      // and its hands are still
	OutcomeInterrupted Outcome = "interrupted" // given up unfinished; its hands are still
)

// Ended is the outcome of one attempt.
type Ended struct {
	Task
	Token   uint64  `json:"token"`
	Outcome Outcome `json:"outcome"`
	Error   string  `json:"error,omitempty"`
	Output  string  `json:"output,omitempty"`
	// Position is where the log of the database ends that was frozen, in the kind's own words.
	Position string `json:"position,omitempty"`
	// Untold says that a database was frozen by its own word but does not tell so when it is asked.
	Untold bool `json:"untold,omitempty"`
	// Exception is what a person has to know of an act that is done all the same.
	Exception string `json:"exception,omitempty"`
}

// Entry is a command with its place in the log.
type Entry struct {
	Index   uint64
	Term    uint64 // of the leader that appended it
	Command Command
}

// Result is what Apply answers to the proposer.
type Result struct {
	Accepted   bool   `json:"accepted"`
	Code       string `json:"code,omitempty"` // of a refusal: a Code constant
	Rule       string `json:"rule,omitempty"` // the blocker or rule that refused
	Detail     string `json:"detail,omitempty"`
	Hint       string `json:"hint,omitempty"`
	Index      uint64 `json:"index"`
	Switchover uint64 `json:"switchover,omitempty"` // opened or meant
	Token      uint64 `json:"token,omitempty"`      // of the attempt that Journal.Start began; 0: not begun
	Note       string `json:"note,omitempty"`       // for instance "already active"
}

// Codes of refusals.
const (
	CodeRefused  = "refused"
	CodeNotFound = "not_found"
	CodeInvalid  = "invalid"
	CodeStale    = "stale" // another term, an old attempt, an id seen before
)

// EncodeCommand writes a command for the log.
func EncodeCommand(c Command) ([]byte, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("cannot encode command: %w", err)
	}
	if len(text) > MaxCommand {
		return nil, fmt.Errorf("cannot encode command: it is %d bytes, the limit is %d", len(text), MaxCommand)
	}
	return text, nil
}

// DecodeCommand reads what EncodeCommand wrote.
func DecodeCommand(text []byte) (Command, error) {
	var c Command
	if len(text) > MaxCommand {
		return c, fmt.Errorf("cannot decode command: it is %d bytes, the limit is %d", len(text), MaxCommand)
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return c, fmt.Errorf("cannot decode command: %w", err)
	}
	return c, nil
}
