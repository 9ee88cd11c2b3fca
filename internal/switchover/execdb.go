package switchover

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// execDatabase is a database behind programs, one for each thing it is asked or told.
type execDatabase struct {
	out  *outside
	argv *failover.DatabaseExec
	id   identity
}

func newExecDatabase(o *outside, d *failover.Database, id identity) *execDatabase {
	return &execDatabase{out: o, argv: d.Exec, id: id}
}

// Observe runs role and reads its words.
func (d *execDatabase) Observe(ctx context.Context) (failover.Observation, error) {
	unknown := failover.Observation{Role: failover.RoleUnknown}
	r, err := d.out.exec(ctx, d.argv.Role, d.id)
	if err != nil {
		return unknown, err
	}
	if r.code != 0 {
		return unknown, fmt.Errorf("%s exited %d%s", d.argv.Role[0], r.code, firstLine(r.output))
	}
	o, err := parseRole(r.output)
	if err != nil {
		return unknown, err
	}
	return o, nil
}

// parseRole reads "primary" or "replica" and the optional words after it. Anything else is an error, so that a typo in a
// script is never taken for good news.
func parseRole(output string) (failover.Observation, error) {
	words := strings.Fields(output)
	if len(words) == 0 {
		return failover.Observation{}, errors.New("the role program printed nothing; it is to print primary or replica")
	}
	o := failover.Observation{Role: failover.Role(words[0])}
	if o.Role != failover.RolePrimary && o.Role != failover.RoleReplica {
		return failover.Observation{}, fmt.Errorf("the role program printed %.40q; it is to print primary or replica", words[0])
	}
	for _, word := range words[1:] {
		if err := readWord(&o, word); err != nil {
			return failover.Observation{}, err
		}
	}
	return o, nil
}

func readWord(o *failover.Observation, word string) error {
	name, value, _ := strings.Cut(word, "=")
	switch name {
	case "frozen":
		o.Frozen = true
	case "streaming":
		o.Streaming = true
	case "id":
		o.ID = value
	case "timeline":
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil || n == 0 {
			return fmt.Errorf("the role program printed %.40q; timeline is a whole number above 0", word)
		}
		o.Timeline = n
	case "lag_bytes":
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || n < 0 {
			return fmt.Errorf("the role program printed %.40q; lag_bytes is a whole number", word)
		}
		o.LagBytes = &n
	case "lag_seconds":
		x, err := strconv.ParseFloat(value, 64)
		if err != nil || x < 0 || math.IsNaN(x) || math.IsInf(x, 0) {
			return fmt.Errorf("the role program printed %.40q; lag_seconds is a number", word)
		}
		o.LagSeconds = &x
	default:
		return fmt.Errorf("the role program printed %.40q; the words are frozen, streaming, lag_bytes=N, lag_seconds=X, id=TEXT, timeline=N", word)
	}
	return nil
}

func (d *execDatabase) act(ctx context.Context, argv []string) (string, error) {
	return d.out.do(ctx, failover.Action{Exec: argv}, d.id)
}

// Begin gives the programs their token; those that only looked had none.
func (d *execDatabase) Begin(token uint64) { d.id.token = token }

// Found and Position: programs keep to themselves what was there before, and where a log ends.
func (d *execDatabase) Found(context.Context, failover.StepName) (string, error) { return "", nil }
func (d *execDatabase) Position(context.Context) (string, error)                 { return "", nil }

func (d *execDatabase) Freeze(ctx context.Context) (string, error) { return d.act(ctx, d.argv.Freeze) }
func (d *execDatabase) Unfreeze(ctx context.Context, _ string) (string, error) {
	return d.act(ctx, d.argv.Unfreeze)
}
func (d *execDatabase) CatchUp(ctx context.Context, _ string) (string, error) {
	return d.act(ctx, d.argv.CatchUp)
}
func (d *execDatabase) Promote(ctx context.Context) (string, error) {
	return d.act(ctx, d.argv.Promote)
}
func (d *execDatabase) TellsFrozen() bool { return false }
func (d *execDatabase) Close()            {}

func (d *execDatabase) StopReplication(ctx context.Context) (string, error) {
	return d.act(ctx, d.argv.StopReplication)
}

func (d *execDatabase) ResumeReplication(ctx context.Context, _ string) (string, error) {
	return d.act(ctx, d.argv.ResumeReplication)
}
