package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/watchover-ha/watchover/pkg/client"
)

// streamPatience is how long after the work is done the quorum may take to see the stream, which ends the mark.
const streamPatience = 30 * time.Second

func reprotectCommand(u *ui) *cobra.Command {
	var ask client.ReprotectRequest
	var wait bool
	cmd := verb(u, "reprotect GROUP", "Make the old primary a replica of the new one, so that the group is protected again", 1, 1,
		func(ctx context.Context, r *remote, c *client.Client, args []string) error {
			return reprotect(ctx, r, c, args[0], ask, wait)
		})
	cmd.Flags().StringVar(&ask.App, "app", "", "which app, if several are kept fenced")
	cmd.Flags().BoolVar(&ask.Force, "force", false, "also where writes on the old primary vanish, which is refused and named otherwise")
	cmd.Flags().BoolVar(&wait, "wait", true, "follow it to its end; Ctrl-C stops watching, not the work")
	_ = cmd.RegisterFlagCompletionFunc("app", completeApps)
	return cmd
}

func reprotect(ctx context.Context, r *remote, c *client.Client, group string, want client.ReprotectRequest, wait bool) error {
	if want.App == "" { // what is followed is what was meant when it was asked for
		if g, err := c.Group(ctx, group); err == nil {
			want.App = onlyMarked(g)
		}
	}
	if err := order(ctx, r, c, client.GroupPath(group, "reprotect"), want, fmt.Sprintf("the old primary of %s is being made a replica", group)); err != nil || !wait || want.App == "" {
		return err
	}
	return followReprotect(ctx, r, c, group, want.App)
}

func onlyMarked(g *client.Group) (app string) {
	for _, a := range g.Apps {
		if a.Marked && app != "" {
			return "" // the daemon says that there are several
		}
		if a.Marked {
			app = a.Name
		}
	}
	return app
}

// followReprotect waits until the mark is gone, which takes the quorum's having seen the stream, or the attempt has failed.
func followReprotect(ctx context.Context, r *remote, c *client.Client, group, app string) error {
	var worked, lost time.Time // since when the work is seen to have ended; since when nobody answers
	for {
		g, err := c.Group(ctx, group)
		switch {
		case ctx.Err() != nil:
			_, _ = fmt.Fprintf(r.err, "watchover: stopped watching; the work goes on (`watchover status %s`)\n", group)
			return &exitError{code: exitFailed}
		case errors.Is(err, client.ErrUnreachable) && lost.IsZero():
			lost = time.Now()
		case errors.Is(err, client.ErrUnreachable) && time.Since(lost) <= followPatience: // it may be restarting
		case err != nil:
			return err
		default:
			lost = time.Time{}
			if done, err := reprotectEnd(r, g, app, &worked); done {
				return err
			}
		}
		pause(ctx, watchRetry)
	}
}

func reprotectEnd(r *remote, g *client.Group, app string, worked *time.Time) (done bool, err error) {
	for _, a := range g.Apps {
		switch {
		case a.Name != app || a.Reprotecting:
		case !a.Marked:
			if !r.json() {
				_, _ = fmt.Fprintf(r.out, "%s is a verified replica; %s is protected again\n", clean(app), clean(g.Name))
			}
			return true, nil
		case a.ReprotectError != "":
			return true, failed("cannot reprotect %s: %s", app, a.ReprotectError)
		case worked.IsZero():
			*worked = time.Now()
		case time.Since(*worked) > streamPatience:
			return true, failed("cannot call %s reprotected: the work is done, but no majority of the watchers sees it receive", app)
		}
	}
	return false, nil
}
