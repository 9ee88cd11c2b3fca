// Package config reads a watcher's YAML file: this machine's part, the cluster's members, and the policy (zone and
// groups) that the file proposes to the cluster.
//
// It reads the YAML tree itself instead of decoding into tagged structs, for one reason: a file that a person wrote is
// answered with all of its faults at once, each with its line and the path of its key. A checker that stops at the
// first fault, or that ignores the key it does not know, is how a misspelled "require_fence" is found out during an
// outage. So nothing is guessed and nothing is ignored: unknown and duplicate keys, numbers without a unit, kinds that
// this version cannot run and YAML's own surprises (anchors, several documents) are all refused.
//
// The package judges only what the file says. It opens no connection, and of the local files named in the policy it
// only tells which are missing, since those of another watcher need not be on this machine.
package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/watchover-ha/watchover/internal/localfile"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// Bounds on what is read. A policy is replicated and kept in every snapshot, so its size is bounded at the door.
const (
	maxFileSize    = 1 << 20
	maxRecordsSize = 256 << 10
)

// File is a valid configuration file with its defaults filled in.
type File struct {
	Watcher Watcher
	Cluster Cluster
	Policy  failover.Policy

	Path     string   // as given to Load
	Dir      string   // relative paths in Policy are resolved here, see Resolve; absolute from Load
	Sum      string   // hex SHA-256 of the file's bytes and the inlined records file: changes when either does
	Warnings []string // allowed, but probably not meant; one sentence each, in a fixed order
}

// Watcher is this machine's part of the file. Its paths are resolved in File.Dir.
type Watcher struct {
	Name        string
	DataDir     string
	Socket      string
	SocketGroup string   // "": the daemon's own group
	Operators   []string // users who may change things over the socket
	Listen      string   // host:port for Raft and forwarded requests
	DNSListen   []string // IP:port each
	HTTPListen  string   // host:port; "" is off
	Log         Log
	Signals     Signals
}

// Log says how much is logged and in what shape.
type Log struct {
	Level  string // debug, info, warn, error
	Format string // json, console, auto
}

// Signals says what a signal acts on where it could mean several things.
type Signals struct {
	Switchover string // group that SIGUSR1 switches; "": the only group
}

// Cluster is the members' part of the file, the same on every watcher.
type Cluster struct {
	Name     string
	Watchers map[string]Member // by name
	TLS      *TLS              // nil: the watchers speak in plain, on loopback
	Timing   Timing
}

// Member is one watcher as the others see it.
type Member struct {
	Address string       // host:port that the other watchers dial
	DNS     []netip.Addr // addresses of its NS record
}

// Timing is Raft's rhythm. Election is never shorter than Heartbeat and Lease never longer, which Raft requires.
type Timing struct {
	Heartbeat time.Duration
	Election  time.Duration
	Lease     time.Duration
	Commit    time.Duration // CommitTimeout: followers hear of a commit at the latest after this
	Transport time.Duration // limit for one exchange between two watchers
}

// Options are what a caller adds to the checks.
type Options struct {
	// CheckRecords judges the text of zone.records_file; its error becomes a fault of that key. Nil leaves it unjudged.
	CheckRecords func(zone string, ttl time.Duration, text string) error
	// CheckZone judges what zone, groups and watchers come to together, such as a record in the records file at the name
	// of a group. It is asked only about a file without other faults; members may be empty. Nil leaves it unjudged.
	CheckZone func(p failover.Policy, members map[string]Member) error
	// CheckDSN judges how a database of a kind is reached; its error becomes a fault of that key and must not repeat what may
	// be a secret. Nil leaves it unjudged.
	CheckDSN func(kind, dsn string) error
	// CheckTLS judges the files of cluster.tls for the watcher called name. It is asked only about a file without other
	// faults, by Load and Parse with a directory. Nil leaves them unjudged.
	CheckTLS func(t TLS, name string) []Remark
	// Members are the names of the cluster's watchers: quorum and the groups' records are held against them. Empty leaves
	// those checks out of ParsePolicy; Load and Parse then take the names under cluster.watchers.
	Members []string
	// Watchers are the cluster's watchers with their addresses, for ParsePolicy alone: CheckZone is asked about them. Empty
	// leaves out what needs them.
	Watchers map[string]Member

	keys func(path string, known, refused []string) // told what each mapping may hold; for the schema's test
}

// Load reads and checks the file at path, at most 1 MiB. A file with faults is answered with Errors, all of them.
func Load(path string) (*File, error) { return Options{}.Load(path) }

// Parse is Load for text at hand; name stands for the file in errors, and relative paths are resolved in dir. An empty
// dir means that there is no directory: a records_file is then refused.
func Parse(name string, text []byte, dir string) (*File, error) {
	return Options{}.Parse(name, text, dir)
}

// ParsePolicy reads only zone and groups; the sections watcher and cluster may be there and are not judged.
func ParsePolicy(name string, text []byte, dir string) (failover.Policy, error) {
	return Options{}.ParsePolicy(name, text, dir)
}

// Load is the function Load with these options.
func (o Options) Load(path string) (*File, error) {
	text, err := localfile.ReadSoon(path, maxFileSize)
	if err != nil {
		return nil, fmt.Errorf("cannot read configuration: %w", err)
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("cannot resolve directory of %q: %w", path, err)
	}
	return o.Parse(path, text, dir)
}

// Parse is the function Parse with these options.
func (o Options) Parse(name string, text []byte, dir string) (*File, error) {
	r := newReader(name, dir, o)
	root := r.document(text)
	f := &File{Path: name, Dir: dir}
	top := root.mapping()
	watcher, hasWatcher := top.need("watcher", "the section about this machine")
	cluster, hasCluster := top.need("cluster", "the section that names the watchers")
	if hasCluster {
		f.Cluster = r.cluster(cluster)
		if r.members = o.Members; len(r.members) == 0 {
			r.members = memberNames(f.Cluster)
		}
	}
	f.Policy = r.policy(top)
	if hasWatcher {
		f.Watcher = r.watcher(watcher, f)
	}
	top.done()
	r.checkZone(top, f.Policy, f.Cluster.Watchers)
	r.checkTLS(cluster.child("tls"), f.Cluster.TLS, f.Watcher.Name)
	if err := r.err(); err != nil {
		return nil, err
	}
	f.Sum = sum(text, f.Policy.Zone.Records)
	f.Warnings = append(r.warnings, warnings(f)...)
	return f, nil
}

// ParsePolicy is the function ParsePolicy with these options.
func (o Options) ParsePolicy(name string, text []byte, dir string) (failover.Policy, error) {
	r := newReader(name, dir, o)
	r.members = o.Members
	top := r.document(text).mapping()
	top.get("watcher")
	top.get("cluster")
	p := r.policy(top)
	top.done()
	r.checkZone(top, p, o.Watchers)
	if err := r.err(); err != nil {
		return failover.Policy{}, err
	}
	return p, nil
}

// sum separates the two texts by the first one's length, so that moving bytes between them changes it.
func sum(text []byte, records string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%d\n", len(text))
	h.Write(text)
	io.WriteString(h, records)
	return hex.EncodeToString(h.Sum(nil))
}
