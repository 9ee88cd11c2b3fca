package notify

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// exec runs a program with the event on its standard input; exit 0 is told.
func (n *Notifier) exec(ctx context.Context, argv []string, m *message) error {
	env := []string{"PATH=" + os.Getenv("PATH"), "LANG=" + os.Getenv("LANG")}
	for _, pair := range m.pairs {
		if pair[1] != "" {
			env = append(env, "WATCHOVER_"+strings.ToUpper(pair[0])+"="+pair[1])
		}
	}
	p := Process{Argv: append([]string{n.resolve(argv[0])}, argv[1:]...), Env: env, Dir: n.o.Dir, Stdin: m.body}
	output, code, err := n.o.Run(ctx, p)
	switch {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("%s did not end within %s%s", argv[0], attemptTime, firstLine(output))
	case err != nil:
		return fmt.Errorf("cannot run %s: %w", argv[0], err)
	case code != 0:
		return exitError(argv[0], code, output)
	}
	return nil
}

// resolve looks a path of the policy up beside this watcher's own file.
func (n *Notifier) resolve(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(n.o.Dir, path)
}
