package database

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

var errNoReplica = errors.New("the server is no replica: it has no source configured")

// following asks for the state of a server that must be a replica.
func (m *mysql) following(ctx context.Context) (*receiving, error) {
	from, err := m.replica(ctx)
	if err == nil && from == nil {
		err = errNoReplica
	}
	return from, err
}

// CatchUp waits until a history is received and applied. Without one it waits for what is received by now.
func (m *mysql) CatchUp(ctx context.Context, position string) (string, error) {
	from, err := m.following(ctx)
	if err != nil {
		return "", err
	}
	if position == "" {
		return m.drain(ctx, from)
	}
	history, ok := strings.CutPrefix(position, historyWord)
	if !ok {
		return "", fmt.Errorf("cannot catch up with %q: not a position of this kind of database", position)
	}
	return m.awaitApplied(ctx, history)
}

const (
	// slice is how long the server is left waiting before it is looked at whether it still can get there.
	slice = time.Second
	// reserve is kept of an attempt's time for saying what was missing.
	reserve = 200 * time.Millisecond
)

// awaitApplied leaves the waiting to the server: it knows when a transaction is applied.
func (m *mysql) awaitApplied(ctx context.Context, history string) (string, error) {
	if history == "" {
		return "nothing was ever written", nil
	}
	for {
		wait := min(slice, timeLeft(ctx)-reserve)
		r, err := m.row(ctx, m.dialect.applied(history, max(0, wait).Seconds()))
		if err != nil {
			return "", err
		}
		if r["done"] == "1" {
			return "applied up to " + history, nil
		}
		from, err := m.following(ctx)
		if err != nil {
			return "", err
		}
		if !from.applies() {
			return "", from.stuck()
		}
		if wait <= 0 {
			return "", fmt.Errorf("received up to %s of %s, and not all of that is applied", from.received, history)
		}
	}
}

func timeLeft(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return time.Until(deadline)
	}
	return time.Hour
}

// stuck says why a replica does not apply. It is not started here: with GTIDs, MariaDB throws received transactions away when
// the applier is started while the receiver is off, for it expects to be sent them again.
func (r *receiving) stuck() error {
	why := "it was stopped"
	if r.applierError != "" {
		why = cutText(r.applierError, maxMySQLErrorLength)
	}
	return fmt.Errorf("the replica does not apply what it has received: %s", why)
}

// drain waits until all that is received is applied.
func (m *mysql) drain(ctx context.Context, from *receiving) (string, error) {
	if from.gtid {
		return m.awaitApplied(ctx, from.received)
	}
	if m.dialect.mariadb {
		return m.drainFile(ctx)
	}
	return "", errors.New("the replica does not use GTIDs: set gtid_mode=ON and SOURCE_AUTO_POSITION=1")
}

// drainFile is for a MariaDB that follows by file and position. The server waits for no position while its applier is off, as
// it is when a promotion is tried again.
func (m *mysql) drainFile(ctx context.Context) (string, error) {
	for {
		from, err := m.following(ctx)
		if err != nil {
			return "", err
		}
		if !from.applies() {
			if !from.drained() {
				return "", from.stuck()
			}
			return "applied up to " + from.file + ":" + from.position, nil
		}
		wait := min(slice, timeLeft(ctx)-reserve)
		r, err := m.row(ctx, fmt.Sprintf("SELECT MASTER_POS_WAIT(%s, %s, %f) >= 0 AS done", quoteSQL(from.file), quoteSQL(from.position), max(0, wait).Seconds()))
		switch {
		case err != nil:
			return "", err
		case r["done"] == "1":
			return "applied up to " + from.file + ":" + from.position, nil
		case wait <= 0:
			return "", fmt.Errorf("not all that is received is applied: %s:%s", from.file, from.position)
		}
	}
}

const (
	foundOn  = "receiver=on"
	foundOff = "receiver=off"
)

func (m *mysql) foundReceiver(ctx context.Context) (string, error) {
	from, err := m.following(ctx)
	if err != nil {
		return "", err
	}
	if from.receiver == "No" {
		return foundOff, nil
	}
	return foundOn, nil
}

// StopReplication stops the receiver and waits until everything received is applied, so that a promotion loses nothing of it.
// The applier goes on: see stuck.
func (m *mysql) StopReplication(ctx context.Context) (string, error) {
	from, err := m.following(ctx)
	if err != nil {
		return "", err
	}
	if !from.applies() { // nothing is stopped for a target that could not be promoted after it
		if _, err := m.drain(ctx, from); err != nil {
			return "", err
		}
	}
	if from.receiver != "No" {
		if err := m.act(ctx, m.dialect.stopReceiver); err != nil {
			return "", fmt.Errorf("cannot stop the receiver: %w", err)
		}
		if from, err = m.following(ctx); err != nil {
			return "", err
		}
		if from.receiver != "No" {
			return "", fmt.Errorf("the receiver says %q after it was stopped", from.receiver)
		}
	}
	return m.drain(ctx, from)
}

// ResumeReplication starts the receiver, unless it was found off.
func (m *mysql) ResumeReplication(ctx context.Context, found string) (string, error) {
	from, err := m.following(ctx)
	switch {
	case err != nil:
		return "", err
	case found == foundOff:
		return "the receiver was off before", nil
	case from.receiver != "No":
		return "the receiver is on", nil
	}
	if err := m.act(ctx, m.dialect.startReceiver); err != nil {
		return "", fmt.Errorf("cannot start the receiver: %w", err)
	}
	if from, err = m.following(ctx); err != nil {
		return "", err
	}
	if from.receiver == "No" {
		return "", fmt.Errorf("the receiver is off after it was started: %s", cutText(from.sourceError, maxMySQLErrorLength))
	}
	return "the receiver is on", nil
}

// Promote ends the replication, lets the server take writes, and forgets the source when all that has worked: forgetting
// cannot be undone, and it destroys what is received and not applied.
func (m *mysql) Promote(ctx context.Context) (string, error) {
	from, err := m.replica(ctx)
	if err != nil {
		return "", err
	}
	output := "it follows nobody"
	if from != nil {
		if output, err = m.leaveSource(ctx); err != nil {
			return "", err
		}
	}
	if _, err := m.Unfreeze(ctx, ""); err != nil {
		return "", err
	}
	if frozen, err := m.frozen(ctx); err != nil || frozen {
		return "", orElse(err, "the server says that it is read_only after that was turned off")
	}
	if from != nil {
		if err := m.act(ctx, m.dialect.forget); err != nil {
			return "", fmt.Errorf("takes writes, but cannot forget its source: %w", err)
		}
	}
	return output, nil
}

// leaveSource stops the replication of a server that has applied all that it received. Its receiver may be on again: servers
// that are started anew start it by themselves.
func (m *mysql) leaveSource(ctx context.Context) (string, error) {
	output, err := m.StopReplication(ctx)
	if err != nil {
		return "", err
	}
	if err := m.act(ctx, m.dialect.stop); err != nil {
		return "", fmt.Errorf("cannot stop the replication: %w", err)
	}
	now, err := m.following(ctx)
	if err == nil && (now.receiver != "No" || now.applies()) {
		err = fmt.Errorf("the replication goes on after it was stopped: receiver %s, applier %s", now.receiver, now.applier)
	}
	return output, err
}
