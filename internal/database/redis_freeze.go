package database

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/watchover-ha/watchover/pkg/failover"
)

const (
	// unknownSource is found where an earlier stop is still in force and only its own undo knows the source.
	unknownSource = "source=unknown"
	sourceWord    = "source="
)

// Found is the settings that a freeze changes, or the source.
func (r *redis) Found(ctx context.Context, step failover.StepName) (string, error) {
	s, err := r.state(ctx)
	switch {
	case err != nil:
		return "", err
	case step == failover.StepFreeze:
		return s.settings(), nil
	case step != failover.StepStopReplication:
		return "", fmt.Errorf("cannot tell what %s would change: it changes nothing", step)
	case s.primary:
		return "", errNoSource
	case s.source == nowhere:
		return unknownSource, nil
	}
	return sourceWord + s.source, nil
}

func (s *redisState) settings() string {
	return "min-replicas-to-write=" + s.minReplicas + " min-replicas-max-lag=" + s.maxLag
}

// defaultMaxLag is Redis's own, in seconds.
const defaultMaxLag = "10"

// Freeze makes the server refuse writes, then ends the clients' connections, so that they look for the new address.
func (r *redis) Freeze(ctx context.Context) (string, error) {
	s, err := r.state(ctx)
	if err != nil {
		return "", err
	}
	var set [][]string
	if s.maxLag == "0" { // min-replicas-to-write would have no effect
		set = append(set, []string{"CONFIG", "SET", "min-replicas-max-lag", defaultMaxLag})
	}
	set = append(set, []string{"CONFIG", "SET", "min-replicas-to-write", strconv.Itoa(needReplicas)})
	if err := r.act(ctx, s, set...); err != nil {
		return "", fmt.Errorf("cannot set min-replicas-to-write: %w", err)
	}
	if s, err = r.state(ctx); err != nil || !s.frozen() {
		return "", orElse(err, "the server does not show min-replicas-to-write as it was set")
	}
	ended, err := r.endClients(ctx, s)
	if err != nil {
		return "", fmt.Errorf("takes no writes, but cannot end the clients' connections: %w", err)
	}
	return fmt.Sprintf("min-replicas-to-write is %s, %d clients ended", s.minReplicas, ended), nil
}

// endClients ends the connections of clients that are not replicas, not subscribers, and not ours.
func (r *redis) endClients(ctx context.Context, s *redisState) (int, error) {
	answers, err := r.ask(ctx, []string{"CLIENT", "LIST", "TYPE", "normal"})
	if err != nil {
		return 0, err
	}
	var kills [][]string
	for line := range strings.Lines(answers[0].text) {
		if id := r.foreignClient(line); id != "" {
			kills = append(kills, []string{"CLIENT", "KILL", "ID", id})
		}
	}
	if len(kills) == 0 {
		return 0, nil
	}
	return len(kills), r.act(ctx, s, kills...)
}

// foreignClient is the id in a line of CLIENT LIST, unless the client is ours.
func (r *redis) foreignClient(line string) (id string) {
	about := map[string]string{}
	for _, word := range strings.Fields(line) {
		name, value, _ := strings.Cut(word, "=")
		about[name] = value
	}
	user := r.to.user
	if user == "" {
		user = "default"
	}
	if about["name"] == clientName && about["user"] == user {
		return ""
	}
	return about["id"]
}

// Unfreeze puts the settings back as they were found. If that is not known, only a freeze of ours is lifted.
func (r *redis) Unfreeze(ctx context.Context, found string) (string, error) {
	s, err := r.state(ctx)
	if err != nil {
		return "", err
	}
	set, err := s.thaw(found)
	if err != nil {
		return "", err
	}
	if len(set) > 0 {
		if err := r.act(ctx, s, set...); err != nil {
			return "", fmt.Errorf("cannot put the settings back: %w", err)
		}
	}
	if s, err = r.state(ctx); err != nil {
		return "", err
	}
	if found != "" && s.settings() != found {
		return "", fmt.Errorf("the server says %s after it was set to %s", s.settings(), found)
	}
	return s.settings(), nil
}

// thaw reads what Found has told. It comes from the journal, so nothing but numbers of two settings is taken from it.
func (s *redisState) thaw(found string) (set [][]string, err error) {
	if found == "" {
		if s.frozen() {
			set = append(set, []string{"CONFIG", "SET", "min-replicas-to-write", "0"})
		}
		return set, nil
	}
	for _, word := range strings.Fields(found) {
		name, value, _ := strings.Cut(word, "=")
		_, err := strconv.ParseUint(value, 10, 31)
		if err != nil || name != "min-replicas-to-write" && name != "min-replicas-max-lag" {
			return nil, fmt.Errorf("cannot put back %q: not a setting that a freeze changes", found)
		}
		set = append(set, []string{"CONFIG", "SET", name, value})
	}
	return set, nil
}

var errNoSource = errors.New("the server is no replica")
