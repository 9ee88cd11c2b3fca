// Package database is the hands and eyes of Watchover on real database servers: what each step of the plan means for a
// PostgreSQL, a MySQL or MariaDB, a Redis, and how to see whether it is done.
//
// It decides nothing: pkg/failover does, and internal/switchover calls. What it takes care of is that an act is what it
// says. A driver uses one connection, opened when it is first needed and never replaced within an attempt: hands whose
// connection is lost are cut off, and a server ends by itself a session whose watcher was frozen past its deadline. It acts
// only on what it has seen on that same connection, and its word is read back from the server. It does not believe columns
// that lie: a replica that has heard nothing for a minute says streaming.
//
// Every kind is one row in the table below and a file of its own beside this one.
package database

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// Driver is one database during one attempt or one look. What each method is for stands with the interface of the same
// methods in internal/switchover.
type Driver interface {
	Observe(context.Context) (failover.Observation, error)
	Begin(token uint64)
	Found(context.Context, failover.StepName) (string, error)
	Freeze(context.Context) (output string, err error)
	Unfreeze(ctx context.Context, found string) (output string, err error)
	Position(context.Context) (string, error)
	CatchUp(ctx context.Context, position string) (output string, err error)
	StopReplication(context.Context) (output string, err error)
	ResumeReplication(ctx context.Context, found string) (output string, err error)
	Promote(context.Context) (output string, err error)
	// Rehearse looks, changing nothing, whether we may do what the plan needs of this server, and at settings that would make a
	// step fail. writer: it is the one to be frozen, else the one to be promoted. A finding that is Certain is the server's word.
	Rehearse(ctx context.Context, writer bool) []failover.Finding
	TellsFrozen() bool
	Close()
}

// Options say how a server is reached.
type Options struct {
	DSN          string            // in the kind's own form, without a password
	PasswordFile string            // absolute; empty: no password, unless PasswordEnv holds it
	PasswordEnv  failover.Variable // instead of PasswordFile
	CAFile       string            // absolute; authorities for the server's certificate, in PEM form; empty: those of the system
	Deadline     time.Time         // of the attempt: the server is told to end the session then; zero: a mere look
	Warm         *Warm             // where sessions are kept between attempts and looks; nil: they are ended
}

// server names the server and whom we are there, for sessions that are kept.
func (o Options) server() string {
	return o.DSN + "\n" + o.PasswordFile + "\n" + string(o.PasswordEnv) + "\n" + o.CAFile
}

// joinSorted words a list in an order that does not depend on chance.
func joinSorted(words []string) string {
	slices.Sort(words)
	return strings.Join(words, ", ")
}

// kind is what this package knows of one kind of server.
type kind struct {
	check func(dsn string) error                             // why a DSN cannot be used; never repeats a secret
	open  func(Options) (Driver, error)                      // connects to nothing yet
	ping  func(ctx context.Context, o Options) (alive error) // asks on a connection of its own; nil: it lives
}

// kinds is the one table of kinds.
var kinds = map[string]kind{
	"mysql":    {check: checkMySQL, open: openMySQL, ping: pingMySQL},
	"postgres": {check: checkPostgres, open: openPostgres, ping: pingPostgres},
	"redis":    {check: checkRedis, open: openRedis, ping: pingRedis},
}

// Check says why a DSN of a kind cannot be used, without repeating it.
func Check(name, dsn string) error {
	k, err := find(name)
	if err != nil {
		return err
	}
	return k.check(dsn)
}

// Open makes a driver. It connects when it is first asked something.
func Open(name string, o Options) (Driver, error) {
	k, err := find(name)
	if err != nil {
		return nil, err
	}
	return k.open(o)
}

// Ping asks a server whether it lives. One that has no connection left for us does.
func Ping(ctx context.Context, name string, o Options) error {
	k, err := find(name)
	if err != nil {
		return err
	}
	return k.ping(ctx, o)
}

func find(name string) (kind, error) {
	k, ok := kinds[name]
	if !ok {
		return k, fmt.Errorf("database kind %q is unknown; want one of %s", name, strings.Join(slices.Sorted(maps.Keys(kinds)), ", "))
	}
	return k, nil
}

var (
	// ErrFile is wrapped by errors about this watcher's own files and variables: nothing was asked of the server.
	ErrFile = errors.New("a file of this watcher's")
	// errNotBegun refuses hands that have no token, errTooLate those whose time is over.
	errNotBegun = errors.New("not begun: nothing acts without an attempt's token")
	errTooLate  = errors.New("the attempt's time is over")
)
