package database

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// History is a primary's history, the one that it had before its promotion, and where that ended.
func (r *redis) History(ctx context.Context) (string, error) {
	s, err := r.state(ctx)
	if err == nil && (!s.primary || s.frozen()) {
		err = errNoPrimary
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s %s %d", s.history, s.past, s.pastEnd), nil
}

// Lost names what this server has written and the primary has not, as far as it can be known: a replica is sent everything
// anew, and what it had of its own is gone. A history can be compared as long as the server was not restarted.
func (r *redis) Lost(ctx context.Context, history string) (string, error) {
	s, err := r.state(ctx)
	if err != nil {
		return "", err
	}
	return s.lost(history)
}

func (s *redisState) lost(history string) (string, error) {
	words := strings.Fields(history)
	if len(words) != 3 {
		return "", fmt.Errorf("cannot read %.40q as a history of Redis", history)
	}
	now, past, end := words[0], words[1], number(words[2])
	switch {
	case !s.primary || s.history == now:
		return "", nil // it has written nothing of its own
	case s.history != past:
		return fmt.Sprintf("its history %s is none that the new primary has had, since it was restarted or is another database: whatever it wrote since the switchover", s.history), nil
	}
	if beyond := s.offset - end + 1; beyond > 0 {
		return fmt.Sprintf("%d bytes of its log, from %d on, keys that expired included", beyond, end), nil
	}
	return "", nil
}

// Follow makes the server a replica of the primary that the DSN names. What it logs in there with, masteruser and masterauth,
// is in its own configuration, which is then written: after a restart it must not be a primary again.
func (r *redis) Follow(ctx context.Context, other failover.Database) (string, error) {
	to, err := parseRedis(other.DSN)
	if err != nil {
		return "", err
	}
	host, port, err := net.SplitHostPort(to.address)
	if err != nil {
		return "", errors.New("the new primary's dsn names no host and port")
	}
	primary := &redis{o: Options{DSN: other.DSN, PasswordFile: other.PasswordFile, PasswordEnv: other.PasswordEnv, CAFile: other.CAFile}, to: to}
	defer primary.Close()
	if _, err := primary.History(ctx); err != nil {
		return "", fmt.Errorf("cannot ask the new primary: %w", err)
	}
	s, err := r.state(ctx)
	if err != nil {
		return "", err
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
