package database

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// redisState is what a server says of itself.
type redisState struct {
	primary     bool
	history     string // master_replid
	past        string // master_replid2: the history before a promotion
	pastEnd     int64  // up to this offset, exclusive; -1: there is none
	offset      int64  // written (primary) or applied (replica), in bytes of the history
	backlog     bool   // a primary without one does not count its offset
	linked      bool
	syncing     bool // a replica that is sent everything anew
	source      string
	writable    bool  // a replica that takes writes
	replicas    int64 // connected
	minReplicas string
	maxLag      string
}

// needReplicas is the number of replicas that a frozen primary asks for: more than any has.
const needReplicas = 1_000_000

// frozen: min-replicas-to-write has an effect only if min-replicas-max-lag is not 0.
func (s *redisState) frozen() bool {
	n, err := strconv.Atoi(s.minReplicas)
	return err == nil && n >= needReplicas && s.maxLag != "0"
}

var (
	askServer      = []string{"INFO", "server"}
	askReplication = []string{"INFO", "replication"}
	askPersistence = []string{"INFO", "persistence"}
	askMinReplicas = []string{"CONFIG", "GET", "min-replicas-*"}
)

func (r *redis) state(ctx context.Context) (*redisState, error) {
	replies, err := r.ask(ctx, askServer, askReplication, askPersistence, askMinReplicas)
	if err != nil {
		return nil, err
	}
	if mode := infoOf(replies[0])["redis_mode"]; mode != "standalone" {
		return nil, fmt.Errorf("the server's mode is %q; only standalone servers can be switched: cluster and sentinel do it themselves", mode)
	}
	if about := infoOf(replies[2]); about["loading"] == "1" || about["async_loading"] == "1" {
		return nil, errors.New("the server is loading its data")
	}
	return stateOf(infoOf(replies[1]), pairsOf(replies[3]))
}

func stateOf(info, settings map[string]string) (*redisState, error) {
	s := &redisState{
		history: info["master_replid"], past: info["master_replid2"], pastEnd: number(info["second_repl_offset"]),
		backlog: info["repl_backlog_active"] == "1", linked: info["master_link_status"] == "up", syncing: info["master_sync_in_progress"] == "1",
		replicas: number(info["connected_slaves"]), writable: info["slave_read_only"] == "0", minReplicas: settings["min-replicas-to-write"], maxLag: settings["min-replicas-max-lag"],
	}
	switch role := info["role"]; role {
	case "master":
		s.primary, s.offset = true, number(info["master_repl_offset"])
	case "slave":
		s.offset, s.source = number(info["slave_repl_offset"]), net.JoinHostPort(info["master_host"], info["master_port"])
	default:
		return nil, fmt.Errorf("the server says that its role is %q", role)
	}
	if s.history == "" || s.minReplicas == "" || s.maxLag == "" {
		return nil, errors.New("the server does not tell master_replid and min-replicas-to-write; want Redis 6.2 or later and the privileges INFO and CONFIG GET")
	}
	return s, nil
}

// number is -1 for what is not there.
func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// infoOf reads the lines "name:value" of INFO.
func infoOf(answer reply) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(answer.text) {
		if name, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":"); ok {
			out[name] = value
		}
	}
	return out
}

// pairsOf reads the list of names and values of CONFIG GET.
func pairsOf(answer reply) map[string]string {
	out := map[string]string{}
	for i := 0; i+1 < len(answer.list); i += 2 {
		out[answer.list[i].text] = answer.list[i+1].text
	}
	return out
}

// Observe looks at role, freeze, stream, identity and position.
func (r *redis) Observe(ctx context.Context) (failover.Observation, error) {
	seen := failover.Observation{Role: failover.RoleUnknown}
	s, err := r.state(ctx)
	if err != nil {
		return seen, err
	}
	seen.Role, seen.Frozen, seen.ID = failover.RoleReplica, s.frozen(), s.history
	if s.primary {
		seen.Role = failover.RolePrimary
	}
	seen.Streaming = !s.primary && s.linked && !s.syncing
	// What a primary without a backlog, or a replica that is sent everything anew, tells does not count in the history.
	if s.offset >= 0 && (s.primary && s.backlog || !s.primary && !s.syncing) {
		at := uint64(s.offset)
		seen.Position = &at
	}
	return seen, nil
}

// Position is the history and how much of it there is.
func (r *redis) Position(ctx context.Context) (string, error) {
	s, err := r.state(ctx)
	if err != nil {
		return "", err
	}
	return s.history + ":" + strconv.FormatInt(s.offset, 10), nil
}
