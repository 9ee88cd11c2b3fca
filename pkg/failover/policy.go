package failover

import "time"

// Policy is what the cluster protects and by which rules: the zone and the groups. It lives in the replicated log; a
// file is only a proposal for it. Paths in it are kept as written and resolved by each watcher beside its own file.
type Policy struct {
	Zone   Zone    `json:"zone"`
	Groups []Group `json:"groups"` // sorted by name
}

// Zone is the DNS zone that the watchers serve.
type Zone struct {
	Name      string        `json:"name"` // absolute, lower case, with the final dot
	TTL       time.Duration `json:"ttl"`  // of the groups' records
	Records   string        `json:"records,omitempty"`
	Isolation Isolation     `json:"isolation"`
}

// Isolation is how a watcher answers that has had no contact with a quorum. Zero ServfailAfter means never.
type Isolation struct {
	After         time.Duration `json:"after"`
	TTL           time.Duration `json:"ttl"`
	ServfailAfter time.Duration `json:"servfail_after"`
}

// Group is one failover group: apps in order of preference, one DNS record, and the rules for moving it.
type Group struct {
	Name     string       `json:"name"`
	Record   string       `json:"record"` // relative to the zone; "@" is the zone's own name
	Apps     []App        `json:"apps"`
	Probing  Probing      `json:"probe"`
	Failover Rules        `json:"failover"`
	Steps    StepSettings `json:"steps,omitempty"`
	Notify   []Action     `json:"notify,omitempty"`
}

// StepSettings maps a step to its settings; every step of the plan has an entry once defaults are filled in.
type StepSettings map[StepName]StepSetting

// App is one site of a group.
type App struct {
	Name          string       `json:"name"`
	Address       []string     `json:"address"` // IP addresses, or exactly one absolute host name
	Probes        []Probe      `json:"probes"`
	StandbyProbes []Probe      `json:"standby_probes,omitempty"`
	Maintenance   *Maintenance `json:"maintenance,omitempty"`
	Database      *Database    `json:"database,omitempty"`
}

// Probe is one question to an app. Which fields apply depends on Kind; config refuses the others.
type Probe struct {
	Kind         string   `json:"kind"`
	Name         string   `json:"name"` // label in status and metrics; unique within the app
	HTTP                  // http: url, method, host, headers, body, expectations
	ExpectBody   string   `json:"expect_body,omitempty"`
	Address      string   `json:"address,omitempty"`       // tcp, tls, dns, grpc: host:port; icmp: host
	ServerName   string   `json:"server_name,omitempty"`   // tls, grpc: name to verify; default the address's host
	Query        string   `json:"query,omitempty"`         // dns: name asked
	QueryType    string   `json:"query_type,omitempty"`    // dns: default A
	ExpectAnswer []string `json:"expect_answer,omitempty"` // dns: every one must be among the answers' data
	Exec         []string `json:"exec,omitempty"`          // exec: argv, exit 0 is up
	Service      string   `json:"service,omitempty"`       // grpc: service asked about; empty: the server as a whole
	TLS          bool     `json:"tls,omitempty"`           // grpc: over TLS
	DSN          string   `json:"dsn,omitempty"`           // postgres, mysql, redis: as of a database; with ca_file
	PasswordFile string   `json:"password_file,omitempty"`
	PasswordEnv  Variable `json:"password_env,omitempty"` // instead of PasswordFile
}

// HTTP is an http request of a probe or an action.
type HTTP struct {
	Method       string   `json:"method,omitempty"`
	URL          string   `json:"url,omitempty"`
	Host         string   `json:"host,omitempty"` // Host header and TLS name
	CAFile       string   `json:"ca_file,omitempty"`
	HeaderFile   string   `json:"header_file,omitempty"` // "Name: value" lines; the only place for credentials
	HeaderEnv    Variable `json:"header_env,omitempty"`  // holds such lines, instead of HeaderFile
	Body         string   `json:"body,omitempty"`
	ExpectStatus []int    `json:"expect_status,omitempty"` // empty: any 2xx
}

// Action is one thing done to the outside: an http request, a program, or (notify only) a webhook. Exactly one is set.
type Action struct {
	HTTP    *HTTP    `json:"http,omitempty"`
	Exec    []string `json:"exec,omitempty"`
	Webhook *Webhook `json:"webhook,omitempty"`
}

// Webhook is where an event is posted; its URL is a secret, so only the file's path or the variable's name is known here.
type Webhook struct {
	URLFile string   `json:"url_file,omitempty"`
	URLEnv  Variable `json:"url_env,omitempty"` // instead of URLFile
}

// Maintenance is how an app is put into maintenance and out of it. Without Check, On and Off must be safe to repeat.
type Maintenance struct {
	On    Action  `json:"on"`
	Off   Action  `json:"off"`
	Check *Action `json:"check,omitempty"`
}

// Database says how to reach an app's database. Kind exec uses Exec; the others DSN, which holds no secret, and files.
type Database struct {
	Kind         string        `json:"kind"`
	DSN          string        `json:"dsn,omitempty"`
	PasswordFile string        `json:"password_file,omitempty"`
	PasswordEnv  Variable      `json:"password_env,omitempty"` // instead of PasswordFile
	CAFile       string        `json:"ca_file,omitempty"`      // authorities for its certificate, in PEM form
	Exec         *DatabaseExec `json:"exec,omitempty"`
	Reprotect    []string      `json:"reprotect,omitempty"` // argv that makes it a replica of the writer's, where statements cannot
}

// DatabaseExec is one argv for each thing a database is asked or told (kind exec).
type DatabaseExec struct {
	Role              []string `json:"role"`
	Freeze            []string `json:"freeze"`
	Unfreeze          []string `json:"unfreeze"`
	CatchUp           []string `json:"catch_up"`
	StopReplication   []string `json:"stop_replication"`
	ResumeReplication []string `json:"resume_replication"`
	Promote           []string `json:"promote"`
}

// Probing is the rhythm of a group's probes and the detector's thresholds.
type Probing struct {
	Interval      time.Duration `json:"interval"`
	RetryInterval time.Duration `json:"retry_interval"` // between probes once one has failed
	Timeout       time.Duration `json:"timeout"`
	Fall          int           `json:"fall"` // failures in a row until the verdict is down
	Rise          int           `json:"rise"` // successes in a row until it is up again
}

// Mode says what the quorum's decision leads to.
type Mode string

// The modes of a group.
const (
	ModeAutomatic Mode = "automatic" // the quorum opens switchovers
	ModeObserve   Mode = "observe"   // it only says that it would have
	ModeManual    Mode = "manual"    // it does nothing
)

// Fence says whether a live database that cannot be frozen holds back a promotion.
type Fence string

// The values of require_fence.
const (
	FenceAuto  Fence = "auto"
	FenceNever Fence = "never"
)

// Rules are the conditions under which a group is moved.
type Rules struct {
	Mode          Mode          `json:"mode"`
	Quorum        int           `json:"quorum"` // 0: a strict majority of all watchers; larger asks for more
	ConfirmFor    time.Duration `json:"confirm_for"`
	Cooldown      time.Duration `json:"cooldown"`
	MaxLag        MaxLag        `json:"max_lag"`
	RequireFence  Fence         `json:"require_fence"`
	Witnesses     []string      `json:"witnesses,omitempty"` // host:port
	RehearseEvery time.Duration `json:"rehearse_every"`
}

// MaxLag is how far a replica may be behind and still be promoted without a person.
type MaxLag struct {
	Bytes int64         `json:"bytes"`
	Time  time.Duration `json:"time"`
}

// StepSetting is how one step of the plan is tried.
type StepSetting struct {
	Timeout time.Duration `json:"timeout"`
	Tries   int           `json:"tries"`
	Backoff time.Duration `json:"backoff"`
	Before  []Action      `json:"before,omitempty"`
	After   []Action      `json:"after,omitempty"`
}
