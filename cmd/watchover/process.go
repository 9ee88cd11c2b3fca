package main

import (
	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/internal/daemon"
	"github.com/watchover-ha/watchover/internal/systemd"
)

// newProcess makes the daemon of a file.
func newProcess(path string, log zerolog.Logger) (process, error) {
	o := daemon.Options{ConfigPath: path, Log: log, SetLevel: setLevel, Version: version()}
	manager, err := systemd.FromEnvironment()
	if err != nil {
		return nil, err
	}
	if manager != nil { // a nil *Manager would be a Manager that is not nil
		o.Manager = manager
	}
	d, err := daemon.New(o)
	if err != nil {
		return nil, err
	}
	return d, nil
}
