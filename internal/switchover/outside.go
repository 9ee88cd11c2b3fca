package switchover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// outside reaches apps: it runs actions of the policy with the attempt's identity in environment or headers.
type outside struct {
	watcher string
	dir     string
	run     Program
	path    string
	lang    string

	databases Databases
}

func newOutside(o Options) *outside {
	return &outside{watcher: o.Watcher, dir: o.Dir, run: o.Run, path: os.Getenv("PATH"), lang: os.Getenv("LANG"), databases: o.Databases}
}

// identity is what every action and hook is told about the attempt that it is part of.
type identity struct {
	group, app, from, to string
	step                 failover.StepName
	kind                 failover.Kind
	switchover, epoch    uint64
	token                uint64
	attempt              int
	deadline             time.Time
	key                  string // Idempotency-Key: equal across attempts
	fresh                bool   // see Opening.Fresh
}

// pairs lists the identity as name and value. Values that are not known, as in a mere look, are empty.
func (id identity) pairs(watcher string) [][2]string {
	var switchover, epoch, token, attempt, deadline string
	if id.switchover != 0 {
		switchover, epoch = strconv.FormatUint(id.switchover, 10), strconv.FormatUint(id.epoch, 10)
	}
	if id.token != 0 {
		token, attempt = strconv.FormatUint(id.token, 10), strconv.Itoa(id.attempt)
	}
	if !id.deadline.IsZero() {
		deadline = id.deadline.UTC().Format("2006-01-02T15:04:05.000Z07:00")
	}
	return [][2]string{{"Group", id.group}, {"App", id.app}, {"From", id.from}, {"To", id.to}, {"Step", string(id.step)}, {"Kind", string(id.kind)},
		{"Switchover", switchover}, {"Epoch", epoch}, {"Token", token}, {"Attempt", attempt}, {"Deadline", deadline}, {"Watcher", watcher}}
}

// environment has every name, so that a script which shall fail at an unset one (set -u) can be used for looks too.
func (o *outside) environment(id identity) []string {
	env := []string{"PATH=" + o.path, "LANG=" + o.lang}
	for _, pair := range id.pairs(o.watcher) {
		env = append(env, "WATCHOVER_"+strings.ToUpper(pair[0])+"="+pair[1])
	}
	return env
}

// reply is what an action answered: an exit code or an http status, and its output.
type reply struct {
	code   int
	output string
}

// errNotSaid is why an action's answer means neither yes nor no.
var errNotSaid = errors.New("neither yes nor no")

// errDenied is an answer that no waiting changes: the app lives and does not let us in.
var errDenied = fmt.Errorf("%w: access was denied", errNotSaid)

// do performs an action. An error means that it could not be done or was refused; the output is kept either way.
func (o *outside) do(ctx context.Context, a failover.Action, id identity) (string, error) {
	switch {
	case a.HTTP != nil:
		r, err := o.request(ctx, a.HTTP, id)
		if err != nil {
			return "", err
		}
		if !expected(a.HTTP, r.code) {
			return r.output, fmt.Errorf("%s %s answered %d%s", method(a.HTTP), a.HTTP.URL, r.code, firstLine(r.output))
		}
		return r.output, nil
	case len(a.Exec) > 0:
		r, err := o.exec(ctx, a.Exec, id)
		if err != nil {
			return r.output, err
		}
		if r.code != 0 {
			return r.output, fmt.Errorf("%s exited %d%s", a.Exec[0], r.code, firstLine(r.output))
		}
		return r.output, nil
	}
	return "", errors.New("the action names neither http nor exec")
}

// ask performs a check: http 2xx or exit 0 is yes, http 404 or exit 1 is no, the rest is neither.
func (o *outside) ask(ctx context.Context, a failover.Action, id identity) (bool, error) {
	if a.HTTP != nil {
		r, err := o.request(ctx, a.HTTP, id)
		switch {
		case err != nil:
			return false, err
		case expected(a.HTTP, r.code):
			return true, nil
		case r.code == 404:
			return false, nil
		case r.code == 401 || r.code == 403:
			return false, fmt.Errorf("%s answered %d: %w", a.HTTP.URL, r.code, errDenied)
		}
		return false, fmt.Errorf("%s answered %d: %w", a.HTTP.URL, r.code, errNotSaid)
	}
	r, err := o.exec(ctx, a.Exec, id)
	switch {
	case err != nil:
		return false, err
	case r.code == 0:
		return true, nil
	case r.code == 1:
		return false, nil
	}
	return false, fmt.Errorf("%s exited %d: %w", a.Exec[0], r.code, errNotSaid)
}

func (o *outside) exec(ctx context.Context, argv []string, id identity) (reply, error) {
	p := Process{Argv: append([]string{o.resolve(argv[0])}, argv[1:]...), Env: o.environment(id), Dir: o.dir}
	output, code, err := o.run(ctx, p)
	r := reply{code: code, output: string(output)}
	if err != nil {
		if ctx.Err() != nil {
			return r, fmt.Errorf("%s did not end in time%s", argv[0], firstLine(r.output))
		}
		return r, fmt.Errorf("cannot run %s: %w", argv[0], err)
	}
	return r, nil
}

// resolve looks a path of the policy up beside this watcher's own file.
func (o *outside) resolve(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(o.dir, path)
}

// firstLine turns an output into the end of an error: ": " and its first line that says something.
func firstLine(output string) string {
	for line := range strings.Lines(output) {
		if line = strings.TrimSpace(line); line != "" {
			const most = 200
			if len(line) > most {
				line = line[:most] + "…"
			}
			return ": " + strings.ToValidUTF8(line, "?")
		}
	}
	return ""
}
