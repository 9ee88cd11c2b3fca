package database

import (
	"context"
	"errors"
	"fmt"
	"strconv"
)

// act does things that change the server, all or none, and not after the deadline by the server's own clock.
//
// Redis has no time limit for an act, and no script may change the replication or a setting. So a key that expires at the
// deadline is made and watched: once it has expired, the server refuses the transaction. A frozen replica or primary takes
// no key, so it is opened and closed again in the same transaction as the key is made; nobody else's command comes between.
func (r *redis) act(ctx context.Context, s *redisState, commands ...[]string) error {
	switch {
	case r.token == 0:
		return errNotBegun
	case r.late == 0 || r.left() <= 0:
		return errTooLate
	}
	if err := r.watchClock(ctx, s); err != nil {
		return err
	}
	return r.transaction(ctx, commands)
}

// keyUntil makes a key that lives until a time in milliseconds since 1970. It answers 0 if that is over.
const keyUntil = `local now = redis.call('TIME')
local left = tonumber(ARGV[1]) - now[1] * 1000 - math.floor(now[2] / 1000)
if left < 1 then return 0 end
redis.call('SET', KEYS[1], '1', 'PX', left)
return 1`

func (r *redis) watchClock(ctx context.Context, s *redisState) error {
	if err := r.open(ctx); err != nil {
		return err
	}
	key := "watchover:" + strconv.FormatUint(r.token, 10)
	setting, open, closed := "min-replicas-to-write", "0", s.minReplicas
	if !s.primary {
		setting, open, closed = "replica-read-only", "no", "yes"
		if s.writable {
			closed = "no"
		}
	}
	replies, err := r.conn.ask(ctx,
		[]string{"MULTI"},
		[]string{"CONFIG", "SET", setting, open},
		[]string{"EVAL", keyUntil, "1", key, strconv.FormatInt(r.late, 10)},
		[]string{"CONFIG", "SET", setting, closed},
		[]string{"EXEC"},
		[]string{"WATCH", key}, []string{"EXISTS", key})
	if err != nil {
		return err
	}
	done, err := results(replies[:5], 3)
	if err != nil {
		return err
	}
	if err := errors.Join(done[0].err, done[2].err); err != nil {
		return fmt.Errorf("cannot set %s: %w", setting, err)
	}
	switch {
	case done[1].err != nil:
		return nil // a full memory or disk takes no key; then this watcher's own clock has to do
	case done[1].text != "1" || replies[6].text != "1":
		return errTooLate
	}
	return errors.Join(replies[5].err, replies[6].err)
}

// transaction does commands together.
func (r *redis) transaction(ctx context.Context, commands [][]string) error {
	if r.left() <= 0 {
		return errTooLate
	}
	all := append(append([][]string{{"MULTI"}}, commands...), []string{"EXEC"})
	replies, err := r.conn.ask(ctx, all...)
	if err != nil {
		return err
	}
	if replies[len(replies)-1].null {
		return errTooLate // the watched key is gone
	}
	done, err := results(replies, len(commands))
	if err != nil {
		return err
	}
	for i, answer := range done {
		if answer.err != nil {
			return fmt.Errorf("%s: %w", commands[i][0], answer.err)
		}
	}
	return nil
}

// results are what the commands of a transaction came to; an error if it was refused as a whole.
func results(replies []reply, n int) ([]reply, error) {
	for _, answer := range replies {
		if answer.err != nil {
			return nil, answer.err // the first is why; EXEC only says that there was one
		}
	}
	last := replies[len(replies)-1]
	if len(last.list) != n {
		return nil, fmt.Errorf("the transaction was answered with %d results instead of %d", len(last.list), n)
	}
	return last.list, nil
}
