package switchover

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// Database is one app's database during one attempt or one look. Every method is bounded by the context and safe to repeat.
// A driver opens its one connection when it is first used and never another one: hands whose connection is lost are cut off.
type Database interface {
	// Observe tells role, freeze, stream, position and lag. A database that does not answer is an error and role unknown.
	Observe(context.Context) (failover.Observation, error)
	// Begin tells the attempt's token, before the first act and after the log has accepted it.
	Begin(token uint64)
	// Found is what undoing a step (freeze, stop-replication) needs to put things back exactly as they are now: not secret, at
	// most failover.MaxFound bytes, journaled with the start. A database that cannot tell it is an error: it is not touched.
	Found(context.Context, failover.StepName) (string, error)
	Freeze(context.Context) (output string, err error)
	// Unfreeze lifts a freeze. An empty found means that it is not known what was there before: only our own freeze is lifted.
	Unfreeze(ctx context.Context, found string) (output string, err error)
	// Position is where the log of a frozen database ends, after a flush of its own and with no writer left. It is journaled
	// with the freeze's outcome, and asked again by catch-up while the database answers. Empty: this kind has none.
	Position(context.Context) (string, error)
	// CatchUp, on the target: waits until everything up to a position is received and applied.
	CatchUp(ctx context.Context, position string) (output string, err error)
	StopReplication(context.Context) (output string, err error)
	// ResumeReplication puts back what StopReplication changed. An empty found means that it is not known.
	ResumeReplication(ctx context.Context, found string) (output string, err error)
	Promote(context.Context) (output string, err error)
	// TellsFrozen reports whether the database itself can be asked if it is frozen, whatever it told so far. If not, and if
	// it has never told, a freeze that reported success is believed.
	TellsFrozen() bool
	Close()
}

// Opening is what a driver is opened with.
type Opening struct {
	Policy   *failover.Database // of a kind other than exec; its files are paths, as the policy has them
	Dir      string             // where relative ones begin
	Deadline time.Time          // of the attempt: nothing may act after it, the server included; zero: a mere look
	Fresh    bool               // with a login of its own: one that is kept would not notice that the password has changed
}

// Databases opens the databases of all kinds but exec, which is this package's own. It connects to nothing yet.
type Databases func(Opening) (Database, error)

const execKind = "exec"

func (o *outside) database(d *failover.Database, id identity) (Database, error) {
	switch {
	case d.Kind == execKind:
		return newExecDatabase(o, d, id), nil
	case o.databases == nil:
		return nil, fmt.Errorf("cannot open a database of kind %q: this runner was built with kind exec alone", d.Kind)
	}
	return o.databases(Opening{Policy: d, Dir: o.dir, Deadline: id.deadline, Fresh: id.fresh})
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
func freeze(ctx context.Context, db Database, tells bool) (d deed) {
	if d.output, d.err = db.Freeze(ctx); d.err != nil {
		return d
	}
	seen, err := db.Observe(ctx)
	switch {
	case err != nil:
		d.err = fmt.Errorf("cannot read the freeze back: %w", err)
	case seen.Frozen || seen.Role == failover.RoleReplica:
	case tells || db.TellsFrozen():
		d.err = errors.New("the database still takes writes after it was frozen")
	default:
		d.untold = true
	}
	return d
}

// position asks a frozen database where its log ends. A replica is not asked: it takes no writes of its own.
func position(ctx context.Context, db Database, d deed) deed {
	if d.err != nil {
		return d
	}
	if d.position, d.err = db.Position(ctx); d.err != nil {
		d.err = fmt.Errorf("cannot tell where the frozen database's log ends: %w", d.err)
	} else if len(d.position) > failover.MaxFound {
		d.err = fmt.Errorf("the frozen database's position has %d bytes, the limit is %d", len(d.position), failover.MaxFound)
	}
	return d
}

func unfreeze(ctx context.Context, db Database, found string) (string, error) {
	output, err := db.Unfreeze(ctx, found)
	if err != nil {
		return output, err
	}
	seen, err := db.Observe(ctx)
	if err == nil && seen.Frozen {
		err = errors.New("the database still refuses writes after it was unfrozen")
	}
	return output, err
}

func stopReplication(ctx context.Context, db Database) (string, error) {
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

// promote makes a database the primary that takes writes. lift: one that does not tell may still be frozen by an earlier switchover.
// What fails then is an exception and no failure: there may have been nothing to lift.
func promote(ctx context.Context, db Database, lift bool) (d deed) {
	seen, promoted := failover.Observation{}, false
	if lift { // an attempt whose end nobody heard may have promoted it: not every program can do that twice
		seen, d.err = db.Observe(ctx)
		promoted = d.err == nil && seen.Role == failover.RolePrimary
	}
	if !promoted {
		if d.output, d.err = db.Promote(ctx); d.err == nil {
			seen, d.err = db.Observe(ctx)
		}
	}
	switch {
	case d.err != nil:
	case seen.Role != failover.RolePrimary:
		d.err = fmt.Errorf("the database says it is %s after it was promoted", seen.Role)
	case seen.Frozen:
		// A rebuilt old main may have kept the freeze of an earlier switchover; the target must take writes.
		d.output, d.err = unfreeze(ctx, db, "")
	case lift:
		output, err := db.Unfreeze(ctx, "")
		if ctx.Err() != nil {
			d.err = err // there was no time to see
		} else if err != nil {
			d.exception = fmt.Sprintf("an earlier freeze, if it is still there, could not be lifted: %v", err)
		}
		d.output += output
	}
	return d
}
