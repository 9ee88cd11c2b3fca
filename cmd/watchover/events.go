package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/watchover-ha/watchover/pkg/client"
)

func eventsCommand(u *ui) *cobra.Command {
	var ask client.EventsRequest
	cmd := verb(u, "events", "What happened, oldest first: verdicts, decisions, steps, orders", 0, 0,
		func(ctx context.Context, r *remote, c *client.Client, _ []string) error {
			if ask.Most < 0 {
				return usage(fmt.Sprintf("-n %d is negative", ask.Most), "")
			}
			return events(ctx, r, c, ask)
		})
	cmd.Long = `Prints the events that the cluster keeps (the last 512), the same on every watcher; with --follow also those to come,
until Ctrl-C. While it follows, a daemon that goes away is waited for and asked for what was missed. -o json prints one
event a line: {"seq","time","type","group","app","text","data"}.`
	cmd.Flags().BoolVarP(&ask.Follow, "follow", "f", false, "go on with what happens from now on")
	cmd.Flags().Uint64Var(&ask.Since, "since", 0, "only events after the one with this seq")
	cmd.Flags().Lookup("since").DefValue = "" // 0 would read as a seq
	cmd.Flags().StringVar(&ask.Group, "group", "", "only events of this group")
	cmd.Flags().IntVarP(&ask.Most, "number", "n", 0, "of the events kept, only the newest N")
	cmd.Flags().Lookup("number").DefValue = ""
	_ = cmd.RegisterFlagCompletionFunc("group", completeGroups) // fails only for a flag that is not there
	return cmd
}

// events prints them. While it follows, a daemon that goes away is waited for; one that was never there is an error.
func events(ctx context.Context, r *remote, c *client.Client, ask client.EventsRequest) error {
	lost, begun := time.Time{}, false
	for {
		err := c.Events(ctx, ask, func(e client.Event, line []byte) error {
			lost, begun, ask.Since, ask.Most = time.Time{}, true, e.Seq, 0
			return r.event(e, line)
		})
		switch {
		case ctx.Err() != nil:
			return nil // Ctrl-C is how one stops following
		case !errors.Is(err, client.ErrUnreachable) || !ask.Follow || !begun:
			return err
		}
		if lost.IsZero() {
			lost = time.Now()
			_, _ = fmt.Fprintf(r.err, "watchover: %s; waiting for it\n", clean(err.Error()))
		}
		if time.Since(lost) > followPatience {
			return err
		}
		if !pause(ctx, watchRetry) {
			return nil
		}
	}
}

// event prints one, as it came or as a line for people.
func (r *remote) event(e client.Event, line []byte) error {
	if r.json() {
		_, err := fmt.Fprintf(r.out, "%s\n", line)
		return err
	}
	p := r.page()
	about := e.Group
	if e.App != "" {
		about += "/" + e.App
	}
	p.line("%s  %-6d %-18s %s  %s", clock(&e.Time, time.Now()), e.Seq, short(about, 18),
		p.paint(eventStyle(e), fmt.Sprintf("%-18s", clean(e.Type))), eventText(e))
	_, err := fmt.Fprint(r.out, p.String())
	return err
}

// eventText adds the reason where the text does not have it.
func eventText(e client.Event) string {
	text := e.Text
	for _, key := range []string{"reason", "error", "by"} {
		if more := e.Data[key]; more != "" && !strings.Contains(text, more) {
			text += " (" + more + ")"
		}
	}
	return clean(text)
}

func eventStyle(e client.Event) style {
	switch e.Type {
	case "verdict":
		return wordStyle(e.Data["verdict"])
	case "health":
		return wordStyle(e.Data["health"])
	case "halted", "step_failed":
		return bad
	case "blocked", "undo_kept", "marked", "refused", "undoing", client.EventMissed:
		return warn
	}
	return plain
}
