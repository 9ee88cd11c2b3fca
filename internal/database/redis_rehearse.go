package database

import (
	"context"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// mayRedis are acts of the plan in a form that Redis refuses for what is asked, after it has judged who asks: nothing changes,
// and nothing that a freeze does at this moment is undone by setting back what was there.
var mayRedis = [][]string{
	{"CONFIG", "SET", "watchover-rehearsal", "1"}, // there is no such setting
	{"REPLICAOF", "watchover-rehearsal", "-1"},    // and no such port
	{"EVAL", "return 1", "0"},
}

// Rehearse looks at privileges, and at settings that would make a step fail.
func (r *redis) Rehearse(ctx context.Context, writer bool) []failover.Finding {
	s, err := r.state(ctx)
	if err != nil {
		return []failover.Finding{finding(checkPrivileges, "", nil, err)}
	}
	return []failover.Finding{r.rehearsePrivileges(ctx), s.rehearseSettings(writer)}
}

func (r *redis) rehearsePrivileges(ctx context.Context) failover.Finding {
	replies, err := r.conn.ask(ctx, mayRedis...)
	var faults []string
	for _, answer := range replies {
		if saidRedis(answer.err, "NOPERM") {
			faults = append(faults, answer.err.Error())
		}
	}
	return finding(checkPrivileges, "all that the plan needs", faults, err)
}

func (s *redisState) rehearseSettings(writer bool) failover.Finding {
	var faults []string
	if !writer && !s.primary && s.writable {
		faults = append(faults, "the replica takes writes of its own; set replica-read-only yes")
	}
	if !writer && !s.primary && s.source == nowhere {
		faults = append(faults, "its replication was stopped by an earlier switchover; tell it whom to follow with REPLICAOF")
	}
	return finding(checkSettings, orNone(""), faults, nil)
}
