package database

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// nowhere is the source of a replica that was stopped: nobody can listen on port 0. REPLICAOF NO ONE would promote it, and a
// name or a foreign address might one day answer. The data and their history stay, so that it goes on where it was
// when its source comes back.
const nowhere = "127.0.0.1:0"

func (r *redis) following(ctx context.Context) (*redisState, error) {
	s, err := r.state(ctx)
	if err == nil && s.primary {
		err = errNoSource
	}
	return s, err
}

// CatchUp waits until the replica has applied the history up to a position. Redis applies what it receives at once, so
// without a position there is nothing to wait for.
func (r *redis) CatchUp(ctx context.Context, position string) (string, error) {
	history, at, _ := strings.Cut(position, ":")
	offset, err := strconv.ParseInt(at, 10, 64)
	if position != "" && err != nil {
		return "", fmt.Errorf("cannot catch up with %q: not a position of this kind of database", position)
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 10*time.Millisecond) {
		s, err := r.following(ctx)
		switch {
		case err != nil:
			return "", err
		case position == "":
			return fmt.Sprintf("applied up to %s:%d", s.history, s.offset), nil
		case s.history == history && s.offset >= offset && !s.syncing:
			return fmt.Sprintf("applied up to %s:%d", s.history, s.offset), nil
		case s.source == nowhere:
			return "", s.behind(position, "its replication is stopped")
		}
		if waitShortly(ctx, min(pause, max(0, timeLeft(ctx)-reserve))) != nil || timeLeft(ctx) <= reserve {
			return "", s.behind(position, "the time is over")
		}
	}
}

func (s *redisState) behind(position, why string) error {
	return fmt.Errorf("applied up to %s:%d of %s, and %s", s.history, s.offset, position, why)
}

var errSyncing = errors.New("the replica is being sent everything anew and has no data of its own now")

// StopReplication points the replica to nowhere.
func (r *redis) StopReplication(ctx context.Context) (string, error) {
	s, err := r.following(ctx)
	if err != nil {
		return "", err
	}
	if s.syncing {
		return "", errSyncing
	}
	if s.source != nowhere {
		if err := r.follow(ctx, s, nowhere); err != nil {
			return "", fmt.Errorf("cannot stop the replication: %w", err)
		}
	}
	if s, err = r.following(ctx); err == nil && (s.linked || s.source != nowhere) {
		err = fmt.Errorf("the replica follows %s after it was stopped", s.source)
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("stopped at %s:%d", s.history, s.offset), nil
}

func (r *redis) follow(ctx context.Context, s *redisState, source string) error {
	host, port, err := net.SplitHostPort(source)
	if err != nil {
		return fmt.Errorf("cannot follow %q: not host:port", source)
	}
	return r.act(ctx, s, []string{"REPLICAOF", host, port})
}

// ResumeReplication points the replica back to the source that was found.
func (r *redis) ResumeReplication(ctx context.Context, found string) (string, error) {
	s, err := r.following(ctx)
	if err != nil {
		return "", err
	}
	if s.source != nowhere {
		return "it follows " + s.source, nil
	}
	source, ok := strings.CutPrefix(found, sourceWord)
	if !ok || found == unknownSource {
		return "", errors.New("nobody knows any more whom the replica followed: tell it with REPLICAOF")
	}
	if err := r.follow(ctx, s, source); err != nil {
		return "", err
	}
	if s, err = r.following(ctx); err == nil && s.source != source {
		err = fmt.Errorf("the replica follows %s after it was told to follow %s", s.source, source)
	}
	return "it follows " + source, err
}

// Promote makes a replica the primary of a history of its own, lifts a freeze of ours, and sees whether it takes a write.
// With the same breath it has the configuration file written, as Sentinel does: a server that starts again as a replica, from
// an old line in that file, would take over the old primary's data in place of its own.
func (r *redis) Promote(ctx context.Context) (string, error) {
	s, err := r.state(ctx)
	if err != nil {
		return "", err
	}
	if s.syncing {
		return "", errSyncing
	}
	set, err := s.thaw("")
	if err != nil {
		return "", err
	}
	if !s.primary {
		set = append(set, []string{"REPLICAOF", "NO", "ONE"})
	}
	wrote, err := r.andRewrite(ctx, s, set)
	if err != nil {
		return "", err
	}
	if s, err = r.state(ctx); err != nil || !s.primary {
		return "", orElse(err, "the server says that it is a replica after it was promoted")
	}
	if _, err := r.ask(ctx, []string{"SET", "watchover:promoted", strconv.FormatUint(r.token, 10), "PX", "1000"}); err != nil {
		return "", fmt.Errorf("it is the primary, but takes no writes: %w", err)
	}
	return fmt.Sprintf("primary of history %s from %d on; %s", s.history, s.offset, wrote), nil
}

var rewrite = []string{"CONFIG", "REWRITE"}

// andRewrite does commands and has the configuration file written in the same transaction: a watcher that dies after it has
// promoted leaves no old file behind. A file that cannot be written does not fail what is done.
func (r *redis) andRewrite(ctx context.Context, s *redisState, commands [][]string) (wrote string, err error) {
	if len(commands) == 0 {
		return r.rewrite(ctx), nil
	}
	done, err := r.actEach(ctx, s, append(slices.Clone(commands), rewrite))
	if saidRedis(err, "NOPERM", "ERR unknown") { // perhaps of the file alone: then nothing was done for its sake
		if err := r.act(ctx, s, commands...); err != nil {
			return "", err
		}
		return r.rewrite(ctx), nil
	}
	if err == nil {
		err = firstError(done[:len(commands)])
	}
	if err != nil {
		return "", err
	}
	return written(done[len(commands)]), nil
}

// rewrite writes the file alone.
func (r *redis) rewrite(ctx context.Context) string {
	_, err := r.ask(ctx, rewrite)
	return written(err)
}

func written(err error) string {
	if err != nil {
		return "its configuration file could not be written, remove replicaof from it: " + err.Error()
	}
	return "its configuration file is written"
}
