package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// story is a run as a person reads it.
type story struct {
	on    bool
	lines []string
}

func (w *world) tell(format string, args ...any) {
	if w.story.on {
		w.story.lines = append(w.story.lines, fmt.Sprintf("%9s  %s", short(w.now()), fmt.Sprintf(format, args...)))
	}
}

// tellEntry tells what a committed entry brought, in the words of the state's own events.
func (w *world) tellEntry(before *failover.State, e failover.Entry, after *failover.State, r failover.Result) {
	if !w.story.on {
		return
	}
	for i := range after.Events {
		v := &after.Events[i]
		if v.Seq <= before.EventSeq || v.Type == "verdict" {
			continue
		}
		text := v.Text
		if token := v.Data["token"]; token != "" {
			text += " (token " + token + ")"
		}
		if err := v.Data["error"]; err != "" {
			text += ": " + err
		}
		w.tell("  log %d: %s", e.Index, text)
	}
	if j := e.Command.Journal; j != nil && j.Start != nil && r.Token == 0 {
		w.tell("  log %d: start of %s on %s refused: %s", e.Index, pointName(j.Start.Task), j.Start.App, r.Detail)
	}
}

func short(d time.Duration) string { return fmt.Sprintf("%.3fs", d.Seconds()) }

func (s *story) String() string { return strings.Join(s.lines, "\n") }

func sortedKeys[K interface{ ~int | ~string }, V any](m map[K]V) []K {
	return slices.Sorted(maps.Keys(m))
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
