package database

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// plan is one command of each kind that the plan needs. They are queued in a transaction that is given up: the server tells
// at once which of them the user may not give, and does none.
var plan = [][]string{
	{"TIME"}, {"CONFIG", "GET", "min-replicas-*"}, {"CONFIG", "SET", "min-replicas-to-write", "0"}, {"CONFIG", "REWRITE"}, {"CLIENT", "LIST"}, {"CLIENT", "KILL", "ID", "0"},
	{"REPLICAOF", "NO", "ONE"}, {"EVAL", "return 1", "1", "watchover:0"}, {"SET", "watchover:0", "0"}, {"DEL", "watchover:0"}, {"EXISTS", "watchover:0"}, {"WATCH", "watchover:0"},
}

// Rehearse looks at privileges and settings.
func (r *redis) Rehearse(ctx context.Context, writer bool) []failover.Finding {
	s, err := r.state(ctx)
	if err != nil {
		return []failover.Finding{finding(checkPrivileges, "", nil, err)}
	}
	return append(r.rehearseSettings(ctx, s, writer), r.rehearsePrivileges(ctx))
}

// rehearsePrivileges gives the plan only to a server that has said that it queues: one that refuses MULTI would do it for real.
// The session is not kept, so that nothing of the plan is left in it, whatever DISCARD came to.
func (r *redis) rehearsePrivileges(ctx context.Context) failover.Finding {
	f := failover.Finding{Check: "privileges"}
	r.soured = true
	alone, err := r.conn.ask(ctx, []string{"EXEC"}) // without a transaction it does nothing, and within this one it must not be given
	if err != nil {
		f.Detail = err.Error()
		return f
	}
	if err := r.multi(ctx); err != nil {
		f.Detail, f.Certain = err.Error(), errors.Is(err, errNoTransaction)
		return f
	}
	commands := append(slices.Clone(plan), []string{"DISCARD"})
	replies, err := r.conn.ask(ctx, commands...)
	if err != nil {
		f.Detail = err.Error()
		return f
	}
	commands = append(commands, []string{"EXEC"})
	var lacks []string
	for i, answer := range append(replies, alone...) {
		if saidRedis(answer.err, "NOPERM", "ERR unknown", "EXECABORT") { // unknown: somebody has renamed it; EXECABORT: EXEC's own NOPERM
			lacks = append(lacks, strings.Join(commands[i][:min(2, len(commands[i]))], " "))
		}
	}
	f.OK, f.Detail = len(lacks) == 0, "may do what the plan needs"
	if !f.OK {
		f.Detail, f.Certain = "may not "+strings.Join(lacks, ", "), true
	}
	return f
}

func (r *redis) rehearseSettings(ctx context.Context, s *redisState, writer bool) []failover.Finding {
	var found []failover.Finding
	fault := func(certain bool, format string, args ...any) {
		found = append(found, failover.Finding{Check: "settings", Detail: fmt.Sprintf(format, args...), Certain: certain})
	}
	replies, err := r.ask(ctx, askServer, []string{"CONFIG", "GET", "repl-timeout"})
	if err != nil {
		fault(false, "%v", err)
		return found
	}
	if infoOf(replies[0])["config_file"] == "" {
		fault(false, "it runs without a configuration file: what it was made by a switchover does not outlive a restart")
	}
	if n, err := strconv.Atoi(s.minReplicas); !writer && err == nil && !s.frozen() && int64(n) > s.replicas {
		fault(true, "min-replicas-to-write is %d: as a primary with %d replicas it would take no writes", n, s.replicas)
	}
	if seconds := number(pairsOf(replies[1])["repl-timeout"]); !writer && seconds > slowSeconds {
		fault(false, "repl-timeout is %d: it holds up a failover for as long when the primary's host is lost; set it to 5, and the primary's repl-ping-replica-period to 1", seconds)
	}
	if !writer && s.writable {
		fault(false, "replica-read-only is off: what somebody writes there is gone with the next copy")
	}
	if len(found) == 0 {
		found = append(found, failover.Finding{Check: "settings", OK: true, Detail: "as the plan needs them"})
	}
	return found
}
