package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/watchover-ha/watchover/pkg/client"
)

func abortCommand(u *ui) *cobra.Command {
	return verb(u, "abort GROUP", "Undo the open switchover before its point of no return", 1, 1,
		func(ctx context.Context, r *remote, c *client.Client, args []string) error {
			return order(ctx, r, c, client.GroupPath(args[0], "abort"), nil,
				fmt.Sprintf("what was done for the switchover of %s is being undone; `watchover status %s --watch` shows it", args[0], args[0]))
		})
}

func retryCommand(u *ui) *cobra.Command {
	var skip bool
	cmd := verb(u, "retry GROUP", "Try the halted step now, or leave it out", 1, 1,
		func(ctx context.Context, r *remote, c *client.Client, args []string) error {
			text := "the halted step of " + args[0] + " is tried now"
			if skip {
				text = "the halted step of " + args[0] + " is left out"
			}
			return order(ctx, r, c, client.GroupPath(args[0], "retry"), client.RetryRequest{SkipStep: skip},
				text+"; `watchover status "+args[0]+" --watch` shows it")
		})
	cmd.Flags().BoolVar(&skip, "skip-step", false, "leave the step out; your uid is recorded")
	return cmd
}

func ackCommand(u *ui) *cobra.Command {
	return verb(u, "ack GROUP", "End the cooldown, or confirm a recovery", 1, 1,
		func(ctx context.Context, r *remote, c *client.Client, args []string) error {
			return order(ctx, r, c, client.GroupPath(args[0], "ack"), nil, args[0]+" acknowledged")
		})
}

func pauseCommand(u *ui) *cobra.Command {
	var limit time.Duration
	var timed bool
	var reason string
	cmd := verb(u, "pause [GROUP]", "Stop the automation of a group, or of all; what a person asks for still runs", 0, 1,
		func(ctx context.Context, r *remote, c *client.Client, args []string) error {
			ask, until := client.PauseRequest{Reason: reason}, "until resume"
			if timed {
				if limit <= 0 { // a script's empty variable must not pause for ever
					return usage(fmt.Sprintf("--for %s is no time", limit), "leave it out to pause until resume")
				}
				ask.For, until = limit.String(), "for "+limit.String()
			}
			group := firstOf(args)
			return order(ctx, r, c, client.GroupPath(group, "pause"), ask, "automation of "+orAll(group)+" paused "+until)
		})
	cmd.PreRun = func(cmd *cobra.Command, _ []string) { timed = cmd.Flags().Changed("for") }
	cmd.Flags().DurationVar(&limit, "for", 0, "end the pause by itself after this time, such as 2h")
	cmd.Flags().Lookup("for").DefValue = "" // 0s would read as no time at all
	cmd.Flags().StringVar(&reason, "reason", "", "why; shown in status")
	return cmd
}

func resumeCommand(u *ui) *cobra.Command {
	return verb(u, "resume [GROUP]", "Restart the automation of a group, or of all", 0, 1,
		func(ctx context.Context, r *remote, c *client.Client, args []string) error {
			group := firstOf(args)
			return order(ctx, r, c, client.GroupPath(group, "resume"), nil, "automation of "+orAll(group)+" resumed")
		})
}

func orAll(group string) string {
	if group == "" {
		return "all groups"
	}
	return group
}

// order gives an order whose reply is only that it was taken, and says what that means.
func order(ctx context.Context, r *remote, c *client.Client, path string, body any, done string) error {
	return ask(ctx, r, c, "POST", path, body, func(reply *client.Accepted) {
		if reply.Note != "" {
			done = reply.Note
		}
		_, _ = fmt.Fprintln(r.out, clean(done))
	})
}
