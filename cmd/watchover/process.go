package main

import (
	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/internal/daemon"
)

// newProcess makes the daemon of a file.
func newProcess(path string, log zerolog.Logger) (process, error) {
	d, err := daemon.New(daemon.Options{ConfigPath: path, Log: log, Version: version()})
	if err != nil {
		return nil, err
	}
	return d, nil
}
