package cluster

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/rs/zerolog"
)

// Keys of log fields.
const (
	keyAddress    = "address"
	keyApp        = "app"
	keyCluster    = "cluster"
	keyGroup      = "group"
	keyIndex      = "index"
	keyLeader     = "leader"
	keyPeer       = "peer" // not "watcher", which is this one in every line
	keyReason     = "reason"
	keySuppressed = "suppressed"
	keyTerm       = "term"
	keyTimeout    = "timeout"
)

// maxLimited bounds the messages that a limiter remembers.
const maxLimited = 256

// limiter lets a message through once in a while.
type limiter struct {
	every time.Duration
	mu    sync.Mutex
	seen  map[string]*repeat // guarded by mu
}

type repeat struct {
	last       time.Time
	suppressed int
}

func newLimiter(every time.Duration) *limiter {
	return &limiter{every: every, seen: map[string]*repeat{}}
}

// allow reports whether the message may be logged now, and how many like it were held back before.
func (l *limiter) allow(key string) (bool, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	r := l.seen[key]
	if r == nil {
		if len(l.seen) >= maxLimited {
			clear(l.seen)
		}
		l.seen[key] = &repeat{last: now}
		return true, 0
	}
	if now.Sub(r.last) < l.every {
		r.suppressed++
		return false, 0
	}
	held := r.suppressed
	r.last, r.suppressed = now, 0
	return true, held
}

// raftLogger is the logger that raft writes to: warnings and errors go on to ours.
func (n *Node) raftLogger() hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Level: hclog.Off, Output: io.Discard})
	// As a pointer: hclog uses the sink as a map key, and a struct that holds a zerolog.Logger cannot be one.
	l.RegisterSink(&raftSink{log: n.log, limit: n.limit, stopping: n.stopping.Load})
	return l
}

// raftSink is the bridge from hclog to zerolog.
type raftSink struct {
	log      zerolog.Logger
	limit    *limiter
	stopping func() bool
}

// raftQuiet is what a follower's raft says when a pushed commit index overtakes its entry. The push is sent again.
const raftQuiet = "failed to get previous log"

// told reports whether the gate has said this already, at its own pace.
func told(arg any) bool {
	err, ok := arg.(error)
	var d *distrust
	return ok && errors.As(err, &d)
}

// Accept implements hclog.SinkAdapter.
func (s *raftSink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	if level < hclog.Warn || msg == raftQuiet || s.stopping() || slices.ContainsFunc(args, told) {
		return
	}
	ok, held := s.limit.allow("raft: " + msg)
	if !ok {
		return
	}
	e := s.log.Warn()
	if level >= hclog.Error {
		e = s.log.Error()
	}
	for i := 0; i+1 < len(args); i += 2 {
		if key, ok := args[i].(string); ok {
			e = e.Str(key, fmt.Sprint(args[i+1]))
		}
	}
	e.Int(keySuppressed, held).Str("raft", msg).Msg("raft reports")
}
