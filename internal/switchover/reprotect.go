package switchover

import (
	"context"
	"errors"
	"fmt"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// stepReprotect is what programs are told as the step; it is none of the plan's.
const stepReprotect failover.StepName = "reprotect"

// historian is a database that can be compared with another one of its kind.
type historian interface {
	// History is what this database, the writer's, has of the past, for Lost of another one.
	History(context.Context) (string, error)
	// Lost names the writes on this database that are not in the writer's history and would vanish; empty: there are none.
	Lost(ctx context.Context, history string) (string, error)
}

// follower is a database that statements alone can make a replica.
type follower interface {
	// Follow makes it a replica of another one, whose files are absolute paths.
	Follow(ctx context.Context, primary failover.Database) (output string, err error)
}

// errNoWay is why statements alone are not enough.
var errNoWay = errors.New("this kind of database is made a replica by a program only: name one as database.reprotect")

// reprotect makes a marked app's database a replica of the writer's: by its configured program, else by statements where
// they can do it. What would vanish is named and refused unless the person forced it. It succeeds when the stream is seen.
func (r *Runner) reprotect(ctx context.Context, state *failover.State, task failover.Task, id identity) (d deed) {
	p, g := state.Policy.Group(task.Group), state.Groups[task.Group]
	mark := g.Apps[task.App].Mark
	if mark == nil || !mark.Reprotect.Open() {
		return deed{err: errors.New("nobody asks for it any more")}
	}
	app, primary := p.App(task.App), p.App(g.Writer).Database
	id.to = g.Writer // programs are told whom to follow
	db, err := r.out.database(app.Database, id)
	if err != nil {
		return deed{err: err}
	}
	defer db.Close()
	seen, err := db.Observe(ctx)
	if err == nil && seen.Role == failover.RoleReplica && seen.Streaming {
		return deed{output: "it is a replica and receives already"}
	}
	id.kind = failover.KindForced // which is how a program is told of --force
	if !mark.Reprotect.Force {
		id.kind = failover.KindPlanned
		tells := g.Apps[task.App].TellsFrozen || db.TellsFrozen()
		if err == nil && seen.Role == failover.RolePrimary && !seen.Frozen && (mark.Refreeze || tells) {
			return deed{err: errors.New("its database takes writes: it has to be fenced first, and its freeze fails or has not been tried yet")}
		}
		if err := r.nothingLost(ctx, db, primary, id, err); err != nil {
			return deed{err: err}
		}
	}
	db.Begin(id.token)
	d.loose = true
	switch f, ok := db.(follower); {
	case len(app.Database.Reprotect) > 0:
		d.output, d.err = r.out.do(ctx, failover.Action{Exec: app.Database.Reprotect}, id)
	case ok:
		to := *primary
		to.PasswordFile, to.CAFile = r.out.resolve(to.PasswordFile), r.out.resolve(to.CAFile)
		d.output, d.err = f.Follow(ctx, to)
	default:
		d.err = errNoWay
	}
	if d.err == nil {
		d.err = r.receives(ctx, app.Database, id)
	}
	return d
}

// nothingLost refuses when writes on the old primary would vanish, or when nobody can tell. Where the driver cannot compare two
// databases, the program that makes one a replica has to, also of one that does not answer; it is told when it was forced.
func (r *Runner) nothingLost(ctx context.Context, db Database, primary *failover.Database, id identity, unseen error) error {
	h, ok := db.(historian)
	if !ok {
		return nil
	}
	lost, err := "", unseen
	if err == nil {
		lost, err = r.lost(ctx, h, primary, id)
	}
	if err != nil {
		return fmt.Errorf("cannot tell which writes on it would vanish: %w; --force goes on all the same", err)
	}
	if lost != "" {
		return fmt.Errorf("writes on it would vanish: %s; --force lets them", lost)
	}
	return nil
}

func (r *Runner) lost(ctx context.Context, old historian, primary *failover.Database, id identity) (string, error) {
	db, err := r.out.database(primary, id)
	if err != nil {
		return "", err
	}
	defer db.Close()
	writer, ok := db.(historian)
	if !ok {
		return "", fmt.Errorf("the writer's database is of another kind, %s", primary.Kind)
	}
	history, err := writer.History(ctx)
	if err != nil {
		return "", fmt.Errorf("the writer's database does not tell its history: %w", err)
	}
	return old.Lost(ctx, history)
}

// receives waits until the database is seen as a replica that receives. Its own connection may have ended with a restart.
func (r *Runner) receives(ctx context.Context, d *failover.Database, id identity) error {
	last := "it did not answer"
	for {
		seen, err := r.out.look(ctx, d, id)
		switch {
		case err == nil && seen.Role == failover.RoleReplica && seen.Streaming:
			return nil
		case ctx.Err() != nil: // this look was cut off and says nothing
		case err != nil:
			last = err.Error()
		default:
			last = "it is " + string(seen.Role)
		}
		if ctx.Err() != nil || !waitFor(ctx, streamPoll) {
			return errors.New("it was not seen to receive: " + last)
		}
	}
}
