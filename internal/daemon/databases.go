package daemon

import (
	"context"
	"errors"
	"fmt"

	"github.com/watchover-ha/watchover/internal/config"
	"github.com/watchover-ha/watchover/internal/database"
	"github.com/watchover-ha/watchover/internal/probe"
	"github.com/watchover-ha/watchover/internal/switchover"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// openDatabase gives the runner and the observer the drivers of all kinds but exec. They share their sessions.
func (d *Daemon) openDatabase(o switchover.Opening) (switchover.Database, error) {
	options := database.Options{
		DSN: o.Policy.DSN, PasswordFile: resolve(o.Dir, o.Policy.PasswordFile), PasswordEnv: o.Policy.PasswordEnv, CAFile: resolve(o.Dir, o.Policy.CAFile), Deadline: o.Deadline,
	}
	if !o.Fresh {
		options.Warm = &d.warm
	}
	return database.Open(o.Policy.Kind, options)
}

// pingDatabase asks a server for a probe.
func (d *Daemon) pingDatabase(ctx context.Context, p failover.Probe) error {
	dir := d.configured().Dir
	o := database.Options{DSN: p.DSN, PasswordFile: resolve(dir, p.PasswordFile), PasswordEnv: p.PasswordEnv, CAFile: resolve(dir, p.CAFile)}
	err := database.Ping(ctx, p.Kind, o)
	if errors.Is(err, database.ErrFile) {
		return fmt.Errorf("%w: %w", probe.ErrNotAsked, err)
	}
	return err
}

// resolve looks a path up beside this watcher's file; none stays none.
func resolve(dir, path string) string {
	if path == "" {
		return ""
	}
	return config.Resolve(dir, path)
}
