package switchover

import (
	"context"
	"errors"
	"fmt"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// database is one app's database during one attempt. Every method is bounded by the context and safe to repeat.
type database interface {
	// Observe tells role, freeze, stream and lag. A database that does not answer is an error and role unknown.
	Observe(context.Context) (failover.Observation, error)
	Freeze(context.Context) (output string, err error)
	Unfreeze(context.Context) (output string, err error)
	CatchUp(context.Context) (output string, err error)
	StopReplication(context.Context) (output string, err error)
	ResumeReplication(context.Context) (output string, err error)
	Promote(context.Context) (output string, err error)
	// TellsFrozen reports whether the database itself can be asked if it is frozen, whatever it told so far. If not, and if
	// it has never told, a freeze that reported success is believed.
	TellsFrozen() bool
	Close()
}

// databaseKinds is the one table of database kinds.
var databaseKinds = map[string]func(*outside, *failover.Database, identity) database{
	"exec": newExecDatabase,
}

func (o *outside) database(d *failover.Database, id identity) (database, error) {
	open := databaseKinds[d.Kind]
	if open == nil {
		return nil, fmt.Errorf("database kind %q is not built yet", d.Kind)
	}
	return open(o, d, id), nil
}

// look observes a database once on a connection of its own.
func (o *outside) look(ctx context.Context, d *failover.Database, id identity) (failover.Observation, error) {
	db, err := o.database(d, id)
	if err != nil {
		return failover.Observation{Role: failover.RoleUnknown}, err
	}
	defer db.Close()
	return db.Observe(ctx)
}

// freeze freezes and reads back. untold: the database says nothing about being frozen, so its word is taken; but not of
// one that is known to tell.
func freeze(ctx context.Context, db database, tells bool) (output string, untold bool, err error) {
	if output, err = db.Freeze(ctx); err != nil {
		return output, false, err
	}
	seen, err := db.Observe(ctx)
	switch {
	case err != nil:
		return output, false, fmt.Errorf("cannot read the freeze back: %w", err)
	case seen.Frozen || seen.Role == failover.RoleReplica:
		return output, false, nil
	case tells || db.TellsFrozen():
		return output, false, errors.New("the database still takes writes after it was frozen")
	}
	return output, true, nil
}

func unfreeze(ctx context.Context, db database) (string, error) {
	output, err := db.Unfreeze(ctx)
	if err != nil {
		return output, err
	}
	seen, err := db.Observe(ctx)
	if err == nil && seen.Frozen {
		err = errors.New("the database still refuses writes after it was unfrozen")
	}
	return output, err
}

func stopReplication(ctx context.Context, db database) (string, error) {
	output, err := db.StopReplication(ctx)
	if err != nil {
		return output, err
	}
	seen, err := db.Observe(ctx)
	if err == nil && seen.Role == failover.RoleReplica && seen.Streaming {
		err = errors.New("the database still receives after its replication was stopped")
	}
	return output, err
}

func promote(ctx context.Context, db database) (string, error) {
	output, err := db.Promote(ctx)
	if err != nil {
		return output, err
	}
	seen, err := db.Observe(ctx)
	if err == nil && seen.Role != failover.RolePrimary {
		err = fmt.Errorf("the database says it is %s after it was promoted", seen.Role)
	}
	if err == nil && seen.Frozen {
		// A rebuilt old main may have kept the freeze of an earlier switchover; the target must take writes.
		return unfreeze(ctx, db)
	}
	return output, err
}
