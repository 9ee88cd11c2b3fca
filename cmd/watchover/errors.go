package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/watchover-ha/watchover/internal/config"
	"github.com/watchover-ha/watchover/pkg/client"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// Exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2 // wrong usage, unknown group or invalid config
	exitRefused     = 3 // by a rule, which is named, or not allowed
	exitNoLeader    = 4 // or no quorum
	exitUnreachable = 5
)

// exitError is an error with its own exit code and hint. An empty text prints nothing: all has been said.
type exitError struct {
	code int
	text string
	hint string
}

func (e *exitError) Error() string { return e.text }

func usage(text, hint string) error {
	return &exitError{code: exitUsage, text: "cannot read command line: " + text, hint: hint}
}

func failed(format string, args ...any) error {
	return &exitError{code: exitFailed, text: fmt.Sprintf(format, args...)}
}

// codes are the exit codes of the API's error codes; any other is a failure.
var codes = map[string]int{
	client.CodeRefused:    exitRefused,
	client.CodeNotAllowed: exitRefused,
	client.CodeNotFound:   exitUsage,
	client.CodeInvalid:    exitUsage,
	client.CodeNoLeader:   exitNoLeader,
}

// report prints an error with its hint and returns the exit code.
func report(u *ui, err error) int {
	if err == nil {
		return exitDone
	}
	code, hint := verdict(err)
	text := err.Error()
	if text == "" {
		return code
	}
	var faults config.Errors
	if errors.As(err, &faults) { // each is a line of its own: FILE:LINE: path: message
		for _, f := range faults {
			_, _ = fmt.Fprintln(u.err, clean(f.Error()))
		}
		return code
	}
	_, _ = fmt.Fprintln(u.err, "watchover: "+clean(text))
	var reply *client.Error
	if errors.As(err, &reply) && len(reply.Faults) > 1 { // the lines are those of what was sent, so only the paths help
		for _, f := range reply.Faults {
			_, _ = fmt.Fprintln(u.err, clean(f.Path+": "+f.Message))
		}
	}
	if hint != "" {
		_, _ = fmt.Fprintln(u.err, "hint: "+clean(hint))
	}
	return code
}

// verdict is an error's exit code and what to try.
func verdict(err error) (code int, hint string) {
	var own *exitError
	var reply *client.Error
	var faults config.Errors
	switch {
	case errors.As(err, &own):
		return own.code, own.hint
	case errors.As(err, &faults):
		return exitUsage, ""
	case errors.As(err, &reply):
		if reply.Rule == failover.BlockNoQuorum {
			return exitNoLeader, reply.Hint
		}
		if code, ok := codes[reply.Code]; ok {
			return code, reply.Hint
		}
		return exitFailed, reply.Hint
	case errors.Is(err, client.ErrUnknown):
		return exitFailed, "it may have been done or not; look at `watchover status` before asking again"
	case errors.Is(err, client.ErrUnreachable):
		return exitUnreachable, unreachableHint(err)
	}
	return exitFailed, ""
}

func unreachableHint(err error) string {
	if strings.Contains(err.Error(), "permission denied") {
		return "you must be in watcher.socket_group, or root"
	}
	return "is `watchover run` running here? --socket or WATCHOVER_SOCKET names another socket"
}

// ask sends a request and prints its reply as it is, or through show.
func ask[T any](ctx context.Context, r *remote, c *client.Client, method, path string, body any, show func(*T)) error {
	_, text, err := c.Do(ctx, method, path, body)
	if err != nil {
		return err
	}
	if r.json() {
		_, err := r.out.Write(text)
		return err
	}
	reply := new(T)
	if err := json.Unmarshal(text, reply); err != nil {
		return fmt.Errorf("cannot read reply to %s: %w", path, err)
	}
	show(reply)
	return nil
}
