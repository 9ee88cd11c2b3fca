package main

import (
	"bytes"
	"testing"

	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/internal/config"
)

// The parts' loggers are made at the start; a level that is taken up later counts for them, too.
func TestTheLogsLevelMayChange(t *testing.T) {
	before := zerolog.GlobalLevel()
	defer zerolog.SetGlobalLevel(before)
	var out bytes.Buffer
	part := newLogger(&out, config.Log{Level: "info", Format: "json"}).With().Str("part", "probe").Logger()
	for _, tc := range []struct {
		level string
		lines int
	}{{"info", 1}, {"debug", 2}, {"error", 0}, {"info", 1}} {
		out.Reset()
		setLevel(tc.level)
		part.Debug().Msg("each probe")
		part.Info().Msg("a verdict")
		if got := bytes.Count(out.Bytes(), []byte("\n")); got != tc.lines {
			t.Errorf("%s: %d lines, want %d", tc.level, got, tc.lines)
		}
	}
}
