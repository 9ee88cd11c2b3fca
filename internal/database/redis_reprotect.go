package database

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// Lost names what this server has written and the primary has not, as far as it can be known: a replica is sent everything
// anew, and what it had of its own is gone. A history can be compared as long as the server was not restarted.
func (r *redis) Lost(ctx context.Context, primary *failover.Database) (string, error) {
	mine, err := r.state(ctx)
	if err != nil {
		return "", err
	}
	theirs, err := r.primary(ctx, primary)
	if err != nil {
		return "", err
	}
	switch {
	case !mine.primary || mine.history == theirs.history:
		return "", nil // it takes no writes of its own
	case mine.history != theirs.past:
		return fmt.Sprintf("its history %s is none that the new primary has had: it was restarted, or is another database, so whatever it wrote since the switchover", mine.history), nil
	}
	if beyond := mine.offset - theirs.pastEnd + 1; beyond > 0 {
		return fmt.Sprintf("%d bytes of its log, from %d on, keys that expired included", beyond, theirs.pastEnd), nil
	}
	return "", nil
}

// primary looks at the server that is to be followed, and makes sure that it is one to follow.
func (r *redis) primary(ctx context.Context, d *failover.Database) (*redisState, error) {
	to, err := parseRedis(d.DSN)
	if err != nil {
		return nil, err
	}
	other := &redis{o: r.o.of(d), to: to}
	defer other.Close()
	s, err := other.state(ctx)
	if err == nil && (!s.primary || s.frozen()) {
		err = errors.New("it is no primary that takes writes")
	}
	if err != nil {
		return nil, fmt.Errorf("cannot use the new primary: %w", err)
	}
	return s, nil
}

// Follow makes the server a replica of the primary. What it logs in there with, masteruser and masterauth, is in its own
// configuration, which is then written: after a restart it must not be a primary again.
func (r *redis) Follow(ctx context.Context, primary *failover.Database) (string, error) {
	if _, err := r.primary(ctx, primary); err != nil {
		return "", err
	}
	to, err := parseRedis(primary.DSN)
	if err != nil {
		return "", err
	}
	s, err := r.state(ctx)
	if err != nil {
		return "", err
	}
	host, port, err := net.SplitHostPort(to.address)
	if err != nil {
		return "", errors.New("the new primary's dsn names no host and port")
	}
	if err := r.act(ctx, s, []string{"REPLICAOF", host, port}); err != nil {
		return "", err
	}
	if s, err = r.following(ctx); err == nil && s.source != to.address {
		err = fmt.Errorf("it follows %s after it was told to follow %s", s.source, to.address)
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("it follows %s; %s", to.address, r.rewrite(ctx)), nil
}
