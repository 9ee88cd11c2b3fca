package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/watchover-ha/watchover/pkg/client"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// followPatience is how long an unreachable daemon is waited for while a switchover is followed: another watcher may
// finish it, and this one may be restarting.
const followPatience = 30 * time.Second

// follow prints every step of the switchover as it changes, until it has ended or halted. Only "done" is success.
func follow(ctx context.Context, r *remote, c *client.Client, group string, id uint64) error {
	f := follower{remote: r, group: group, id: id, shown: map[string]string{}}
	index, lost := uint64(0), time.Time{}
	for {
		status, err := c.StatusAfter(ctx, index)
		switch {
		case ctx.Err() != nil:
			_, _ = fmt.Fprintf(r.err, "watchover: stopped watching; switchover %d of %s goes on (`watchover status %s --watch`)\n", id, group, group)
			return &exitError{code: exitFailed}
		case errors.Is(err, client.ErrUnreachable):
			if lost.IsZero() {
				lost = time.Now()
			}
			if time.Since(lost) > followPatience || !pause(ctx, watchRetry) && ctx.Err() == nil {
				return err
			}
			continue
		case err != nil:
			return err
		}
		index = status.Index
		w, err := f.find(ctx, c, status)
		if errors.Is(err, errNotHere) { // accepted by the leader, and this watcher is behind
			if lost.IsZero() {
				lost = time.Now()
			}
			if time.Since(lost) <= followPatience && (pause(ctx, watchRetry) || ctx.Err() != nil) {
				continue
			}
		}
		if err != nil {
			return err
		}
		lost = time.Time{}
		if ended, err := f.show(w, status.Time.Time); ended {
			return err
		}
	}
}

// follower remembers what of a switchover was printed.
type follower struct {
	*remote
	group string
	id    uint64
	shown map[string]string // last printed state of each step
}

// find looks where a switchover can be: open, ended last, or ended before the last one.
func (f *follower) find(ctx context.Context, c *client.Client, s *client.Status) (*client.Switchover, error) {
	for i := range s.Groups {
		g := &s.Groups[i]
		for _, w := range []*client.Switchover{g.Switchover, g.LastSwitchover} {
			if g.Name == f.group && w != nil && w.ID == f.id {
				return w, nil
			}
		}
	}
	history, err := c.History(ctx, f.group, 100)
	if err != nil {
		return nil, err
	}
	for i := range history.Switchovers {
		if history.Switchovers[i].ID == f.id {
			return &history.Switchovers[i], nil
		}
	}
	return nil, fmt.Errorf("cannot find switchover %d of %s: %w", f.id, f.group, errNotHere)
}

var errNotHere = errors.New("this watcher does not know it (yet)")

// show prints what is new and tells whether there is nothing more to wait for.
func (f *follower) show(w *client.Switchover, now time.Time) (ended bool, err error) {
	if !f.json() {
		f.showSteps(w, now)
	}
	switch w.Result {
	case string(failover.ResultRunning):
		return false, nil
	case string(failover.ResultHalted):
		err = &exitError{code: exitFailed, text: fmt.Sprintf("cannot finish switchover %d of %s: halted%s", w.ID, f.group, haltedAt(w)),
			hint: "it is tried again every 30 s; `watchover retry " + f.group + "` tries at once"}
	case string(failover.ResultDone):
	default:
		err = failed("cannot call switchover %d of %s done: %s%s", w.ID, f.group, w.Result, whyNotDone(w))
	}
	if f.json() {
		text, encodeErr := json.Marshal(w)
		if encodeErr != nil {
			return true, fmt.Errorf("cannot encode switchover %d: %w", w.ID, encodeErr)
		}
		_, _ = fmt.Fprintln(f.out, string(text))
	} else if err == nil {
		_, _ = fmt.Fprintf(f.out, "%s is active: switchover %d done in %s\n", clean(w.To), w.ID, took(w.StartedAt, w.EndedAt, now))
	}
	return true, err
}

func (f *follower) showSteps(w *client.Switchover, now time.Time) {
	if _, begun := f.shown[""]; !begun {
		f.shown[""] = "begun"
		_, _ = fmt.Fprintf(f.out, "%s %d of %s: %s -> %s\n", clean(w.Kind), w.ID, clean(f.group), clean(w.From), clean(w.To))
	}
	if w.Undoing != "" && f.shown["undoing"] == "" {
		f.shown["undoing"] = "said"
		_, _ = fmt.Fprintf(f.out, "undoing: %s\n", clean(w.Undoing))
	}
	for _, s := range w.Steps {
		key := fmt.Sprintf("%s %d", s.State, s.Attempts)
		if f.shown["step "+s.Name] == key || s.State == string(failover.StepPending) {
			continue
		}
		f.shown["step "+s.Name] = key
		p := f.page()
		p.line("  %-17s %-16s %s  %s", clean(s.Name), short(s.App, 16), p.paint(wordStyle(s.State), fmt.Sprintf("%-8s", clean(s.State))), took(s.StartedAt, s.EndedAt, now))
		if s.Error != "" && s.State != string(failover.StepDone) {
			p.wrapped(dim, "    ", s.Error)
		}
		_, _ = fmt.Fprint(f.out, p.String())
	}
}

func haltedAt(w *client.Switchover) string {
	for _, s := range w.Steps {
		if s.Error != "" && (s.State == string(failover.StepFailed) || s.State == string(failover.StepRunning)) {
			return fmt.Sprintf(" at %s on %s: %s", s.Name, s.App, s.Error)
		}
	}
	return ""
}

func whyNotDone(w *client.Switchover) string {
	text := ""
	if w.Undoing != "" {
		text = ": " + w.Undoing
	}
	for _, e := range w.Exceptions {
		text += "; " + e
	}
	return text
}
