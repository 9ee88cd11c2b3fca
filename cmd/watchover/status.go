package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/watchover-ha/watchover/pkg/client"
)

// watchRetry is between two tries to reach a daemon that went away while it was watched.
const watchRetry = time.Second

func statusCommand(u *ui) *cobra.Command {
	var watch bool
	cmd := verb(u, "status [GROUP]", "Cluster, watchers and groups: what is active, well, ready, running and held back", 0, 1,
		func(ctx context.Context, r *remote, c *client.Client, args []string) error {
			group := firstOf(args)
			if watch {
				return watchStatus(ctx, r, c, group)
			}
			if r.json() && group != "" {
				return get(ctx, r, c, client.GroupPath(group, ""), func(*client.Group) {})
			}
			if r.json() {
				return get(ctx, r, c, "/v1/status", func(*client.Status) {})
			}
			text, _, err := readStatus(ctx, r, c, "/v1/status", group)
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(r.out, text)
			return err
		})
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again whenever it changes, until Ctrl-C")
	return cmd
}

// readStatus asks once and renders the reply for the screen, or as it is.
func readStatus(ctx context.Context, r *remote, c *client.Client, path, group string) (text string, s *client.Status, err error) {
	_, raw, err := c.Do(ctx, "GET", path, nil)
	if err != nil {
		return "", nil, err
	}
	s = &client.Status{}
	if err := json.Unmarshal(raw, s); err != nil {
		return "", nil, fmt.Errorf("cannot read reply to %s: %w", path, err)
	}
	if err := keepGroup(s, group); err != nil {
		return "", nil, err
	}
	if r.json() && group != "" {
		raw, err = json.Marshal(s.Groups[0])
		return string(raw) + "\n", s, err
	}
	if r.json() {
		return string(raw), s, nil
	}
	p := r.page()
	p.status(s)
	return p.String(), s, nil
}

// keepGroup leaves only that group in the status; empty leaves all.
func keepGroup(s *client.Status, group string) error {
	if group == "" {
		return nil
	}
	s.Groups = slices.DeleteFunc(s.Groups, func(g client.Group) bool { return g.Name != group })
	if len(s.Groups) == 0 {
		return &exitError{code: exitUsage, text: fmt.Sprintf("cannot find group %q: there is none of that name", group), hint: "`watchover status` lists the groups"}
	}
	return nil
}

// watchStatus shows the status whenever it changes. A daemon that goes away while it is watched is waited for; one that
// was never there is an error.
func watchStatus(ctx context.Context, r *remote, c *client.Client, group string) error {
	path, shown := "/v1/status", ""
	for {
		text, s, err := readStatus(ctx, r, c, path, group)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, client.ErrUnreachable) && shown != "":
			path = "/v1/status"
			text = "watchover: " + clean(err.Error()) + "\n"
		case err != nil:
			return err
		default:
			path = "/v1/status?wait=" + strconv.FormatUint(s.Index, 10)
		}
		if key := changed(s, text); key != shown {
			shown = key
			if err := redraw(r, text); err != nil {
				return err
			}
		}
		if err != nil && !pause(ctx, watchRetry) {
			return nil
		}
	}
}

// changed is what of a status makes it worth showing again: all but the clock.
func changed(s *client.Status, text string) string {
	if s == nil {
		return text
	}
	still := *s
	still.Time = client.Time{}
	key, err := json.Marshal(still)
	if err != nil {
		return text
	}
	return string(key)
}

func redraw(r *remote, text string) error {
	if r.screen && !r.json() {
		text = "\x1b[H\x1b[2J" + text // cursor home, erase display (ECMA-48)
	} else if !r.json() {
		text += "\n"
	}
	_, err := fmt.Fprint(r.out, text)
	return err
}

// pause waits; false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
