package cluster

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/rs/zerolog"
)

// TestRaftDoesNotRepeatTheGate: what the gate has said once a minute raft would say every few seconds.
func TestRaftDoesNotRepeatTheGate(t *testing.T) {
	log := &safeBuffer{}
	sink := &raftSink{log: zerolog.New(log), limit: newLimiter(0), stopping: func() bool { return false }}
	sink.Accept("raft", hclog.Error, "failed to heartbeat to", "peer", "127.0.0.1:1", "error", fmt.Errorf("dialling: %w", &distrust{what: whatName, text: "wrong"}))
	if text := log.String(); text != "" {
		t.Errorf("said %s", text)
	}
	sink.Accept("raft", hclog.Error, "failed to heartbeat to", "peer", "127.0.0.1:1", "error", errors.New("connection refused"))
	if text := log.String(); !strings.Contains(text, "connection refused") {
		t.Errorf("said %q", text)
	}
}
