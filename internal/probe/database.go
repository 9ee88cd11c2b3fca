package probe

import (
	"context"
	"errors"
	"fmt"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// ErrNotAsked is wrapped by a PingFunc's error if the fault is this watcher's: a file or a variable is missing here, so that
// the server was not asked.
var ErrNotAsked = errors.New("the server was not asked")

// PingFunc asks a database server (kinds postgres, mysql, redis) for an answer, on a connection of its own. Nil: it lives,
// also if it only says that all its connections are taken.
type PingFunc func(ctx context.Context, spec failover.Probe) error

// databaseCheck: a server that takes the login and answers is up.
type databaseCheck struct {
	spec failover.Probe
	ping PingFunc
}

func newDatabaseCheck(spec failover.Probe, around surroundings) (checker, error) {
	if spec.DSN == "" {
		return nil, errors.New("cannot ask a server without a dsn")
	}
	if around.ping == nil {
		return nil, errors.New("cannot ask database servers: this prober was built without a way to")
	}
	return &databaseCheck{spec: spec, ping: around.ping}, nil
}

func (c *databaseCheck) check(ctx context.Context) (answer, error) {
	err := c.ping(ctx, c.spec)
	switch {
	case err == nil:
		return answer{}, nil
	case errors.Is(err, ErrNotAsked):
		return answer{}, errUnable{fmt.Errorf("cannot ask: %w", err)}
	case ctx.Err() != nil:
		return answer{}, ctx.Err() // what a client says of a connection that it gave up says nothing more
	}
	return answer{}, err
}

func (c *databaseCheck) drop() {}
