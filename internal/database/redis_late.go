package database

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// act does things that change the server, all or none, and not after the deadline by the server's own clock.
//
// Redis has no time limit for an act, and no script may change the replication or a setting. So a key that expires at the
// deadline is made and watched: once it has expired, the server refuses the transaction. A frozen primary or a replica takes
// no key, so it is opened and closed again in the same transaction as the key is touched; nobody else's command comes between.
// The key is written into no log: a frozen primary's ends where its replica has caught up.
func (r *redis) act(ctx context.Context, s *redisState, commands ...[]string) error {
	done, err := r.actEach(ctx, s, commands)
	if err != nil {
		return err
	}
	return firstError(done)
}

// actEach is act for who tells apart what failed: the error is about all of the commands, none of which was done.
func (r *redis) actEach(ctx context.Context, s *redisState, commands [][]string) (done []error, err error) {
	defer func() { r.soured = r.soured || errors.Join(err, firstError(done)) != nil }() // a key may still be watched
	switch {
	case r.token == 0:
		return nil, errNotBegun
	case r.late == 0 || r.left() <= 0:
		return nil, errTooLate
	}
	if err := r.open(ctx); err != nil {
		return nil, err
	}
	made, err := r.watchClock(ctx, s)
	if err != nil {
		return nil, err
	}
	var before [][]string
	if made {
		before = r.inGap(s, "EVAL", dropKey, "1", r.clockKey())
	}
	done, err = r.transaction(ctx, append(before, commands...))
	if err == nil {
		err = firstError(done[:len(before)])
		done = done[len(before):]
	}
	return done, err
}

func firstError(done []error) error {
	for _, err := range done {
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *redis) clockKey() string { return "watchover:" + strconv.FormatUint(r.token, 10) }

// inGap is a command for which a server that takes no writes is opened, and closed again as it was.
func (r *redis) inGap(s *redisState, command ...string) [][]string {
	setting, open, closed := "min-replicas-to-write", "0", s.minReplicas
	if !s.primary {
		setting, open, closed = "replica-read-only", "no", "yes"
		if s.writable {
			closed = "no"
		}
	}
	return [][]string{{"CONFIG", "SET", setting, open}, command, {"CONFIG", "SET", setting, closed}}
}

const (
	unlogged = "redis.replicate_commands() redis.set_repl(redis.REPL_NONE)\n"
	// keyUntil makes a key that lives until a time in milliseconds since 1970. It answers 0 if that is over.
	keyUntil = unlogged + `local now = redis.call('TIME')
local left = tonumber(ARGV[1]) - now[1] * 1000 - math.floor(now[2] / 1000)
if left < 1 then return 0 end
redis.call('SET', KEYS[1], '1', 'PX', left)
return 1`
	dropKey = unlogged + "return redis.call('DEL', KEYS[1])"
)

// watchClock makes the key and watches it. made is false where there is none: a full memory or disk takes no key, nor does a
// replica with replica-serve-stale-data off whose primary is lost, and then this watcher's own clock has to do.
func (r *redis) watchClock(ctx context.Context, s *redisState) (made bool, err error) {
	key := r.clockKey()
	steps := r.inGap(s, "EVAL", keyUntil, "1", key, strconv.FormatInt(r.late, 10))
	if err := r.multi(ctx); err != nil {
		return false, err
	}
	commands := append(slices.Clone(steps), []string{"EXEC"}, []string{"WATCH", key}, []string{"EXISTS", key})
	replies, err := r.conn.ask(ctx, commands...)
	if err != nil {
		return false, err
	}
	end := len(steps) + 1
	done, err := results(replies[:end], len(steps))
	if saidRedis(err, noStaleData) { // already when it was queued: nothing was done
		return false, nil
	}
	if err != nil {
		return false, err
	}
	watched, there := replies[end], replies[end+1]
	switch err := errors.Join(done[0].err, done[2].err, watched.err); {
	case err != nil:
		return false, fmt.Errorf("cannot watch the clock: %w", err)
	case done[1].err != nil || saidRedis(there.err, noStaleData):
		return false, nil
	case there.err != nil:
		return false, fmt.Errorf("cannot watch the clock: %w", there.err)
	case done[1].text != "1" || there.text != "1":
		return false, errTooLate
	}
	return true, nil
}

// noStaleData begins the answers of a replica that has lost its primary and does not show what it has.
const noStaleData = "MASTERDOWN"

// errNoTransaction is what a server said that begins none, if the user may not or the command was renamed.
var errNoTransaction = errors.New("cannot begin a transaction")

// multi begins a transaction. It goes alone: if the server refused it, whatever went along would be done one by one, at once
// and for real.
func (r *redis) multi(ctx context.Context) error {
	replies, err := r.conn.ask(ctx, []string{"MULTI"})
	switch {
	case err != nil:
		return err
	case replies[0].err != nil:
		return fmt.Errorf("%w: MULTI: %w", errNoTransaction, replies[0].err)
	case replies[0].text != "OK":
		return fmt.Errorf("%w: MULTI was answered with %q", errNoTransaction, cutText(replies[0].text, 20))
	}
	return nil
}

// transaction does commands together, and tells what went wrong with each; an error if it was refused as a whole.
func (r *redis) transaction(ctx context.Context, commands [][]string) ([]error, error) {
	if err := r.multi(ctx); err != nil {
		return nil, err
	}
	if r.left() <= 0 {
		return nil, errTooLate
	}
	replies, err := r.conn.ask(ctx, append(slices.Clone(commands), []string{"EXEC"})...)
	if err != nil {
		return nil, err
	}
	if replies[len(replies)-1].null {
		return nil, errTooLate // the watched key is gone
	}
	answers, err := results(replies, len(commands))
	if err != nil {
		return nil, err
	}
	done := make([]error, len(answers))
	for i, answer := range answers {
		if answer.err != nil {
			done[i] = fmt.Errorf("%s: %w", commands[i][0], answer.err)
		}
	}
	return done, nil
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
