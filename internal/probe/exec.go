package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// ErrNotRun is wrapped by an ExecFunc's error if nothing is known of what the program would have said: it was never
// started, or whoever watched over it died. Also when the time is over: the app was not asked.
var ErrNotRun = errors.New("the program did not run")

// ExecFunc runs a program until it ends or ctx does, in which case it has killed the program and everything that the
// program started. err is for a program that could not be run at all; a program that ran and failed has an exit code.
type ExecFunc func(ctx context.Context, argv, env []string) (output []byte, exitCode int, err error)

// execCheck: a program that exits with 0 is up. While the app is under suspicion the program may run up to `fall` times
// at once, and must bear that.
type execCheck struct {
	argv []string
	run  ExecFunc
}

func newExecCheck(spec failover.Probe, around surroundings) (checker, error) {
	if len(spec.Exec) == 0 || spec.Exec[0] == "" {
		return nil, errors.New("cannot run an empty command: exec needs a program")
	}
	if around.exec == nil {
		return nil, errors.New("cannot run programs: this prober was built without a way to")
	}
	return &execCheck{argv: spec.Exec, run: around.exec}, nil
}

func (c *execCheck) check(ctx context.Context) (answer, error) {
	output, code, err := c.run(ctx, c.argv, nil)
	switch {
	case errors.Is(err, ErrNotRun):
		return answer{}, errUnable{fmt.Errorf("cannot run %s: %w", c.argv[0], err)}
	case ctx.Err() != nil:
		return answer{}, ctx.Err() // a killed program's exit code says nothing
	case err != nil:
		return answer{}, errUnable{fmt.Errorf("cannot run %s: %w", c.argv[0], err)}
	case code == 0:
		return answer{}, nil
	}
	if line := firstLine(output); line != "" {
		return answer{}, errors.New(line)
	}
	return answer{}, fmt.Errorf("exit code %d", code)
}

func (c *execCheck) drop() {}

func firstLine(output []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimLeft(output, "\r\n\t "), []byte("\n"))
	return printable(string(line))
}
