package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/watchover-ha/watchover/pkg/client"
	"github.com/watchover-ha/watchover/pkg/failover"
)

func switchoverCommand(u *ui) *cobra.Command {
	var ask client.SwitchoverRequest
	var wait, yes bool
	cmd := verb(u, "switchover GROUP", "Move a group over: planned if the active app is up, else forced", 1, 1,
		func(ctx context.Context, r *remote, c *client.Client, args []string) error {
			if ask.DryRun {
				return dryRun(ctx, r, c, args[0], ask)
			}
			return switchover(ctx, r, c, args[0], ask, wait, yes)
		})
	flags := cmd.Flags()
	flags.StringVar(&ask.To, "to", "", "app to move to (default: the first ready one in order of preference)")
	flags.BoolVar(&ask.Force, "force", false, "though it is not ready or lags more than max_lag; shows what is at risk first")
	flags.BoolVar(&ask.DryRun, "dry-run", false, "show the plan, change nothing")
	flags.BoolVar(&wait, "wait", true, "follow it to its end; Ctrl-C stops watching, not the switchover")
	flags.BoolVarP(&yes, "yes", "y", false, "do not ask; needed without a terminal")
	_ = cmd.RegisterFlagCompletionFunc("to", completeApps)
	return cmd
}

// dryRun prints the plan; a plan that a rule refuses is an error like the order itself would be.
func dryRun(ctx context.Context, r *remote, c *client.Client, group string, ask client.SwitchoverRequest) error {
	_, text, err := c.Do(ctx, "POST", client.GroupPath(group, "switchover"), ask)
	if err != nil {
		return err
	}
	var plan client.DryRun
	if err := json.Unmarshal(text, &plan); err != nil {
		return fmt.Errorf("cannot read reply to the dry run: %w", err)
	}
	if r.json() {
		_, _ = r.out.Write(text)
	} else if plan.Refused == "" {
		_, _ = fmt.Fprint(r.out, r.planText(group, &plan))
	}
	return refused(group, &plan)
}

func refused(group string, plan *client.DryRun) error {
	if plan.Refused == "" {
		return nil
	}
	e := &exitError{code: exitRefused, text: fmt.Sprintf("cannot switch %s over: refused by %s", group, plan.Refused), hint: "`watchover explain " + group + "` shows every condition"}
	if strings.HasPrefix(plan.Refused, failover.BlockNoQuorum+":") {
		e.code = exitNoLeader
	}
	return e
}

// planText shows what would be done and what may be lost by it.
func (u *ui) planText(group string, plan *client.DryRun) string {
	p := u.page()
	if plan.AlreadyActive {
		p.line("%s is already active: there is nothing to do", clean(plan.To))
		return p.String()
	}
	p.line("%s switchover of %s to %s:", clean(plan.Kind), p.paint(bold, clean(group)), p.paint(bold, clean(plan.To)))
	for i, s := range plan.Steps {
		p.line("  %d  %-17s %s%s", i+1, clean(s.Name), clean(s.App), leftOut(s))
	}
	text, known := risk(plan.AtRisk)
	if promotes(plan.Steps) && (known || plan.Kind == string(failover.KindForced)) {
		p.wrapped(warn, "  at risk: ", text)
	}
	return p.String()
}

// leftOut tells of a step that the plan has, but not for these apps.
func leftOut(s client.Step) string {
	if s.State != string(failover.StepSkipped) {
		return ""
	}
	return " (left out)"
}

// switchover shows the plan, asks, gives the order and follows it.
func switchover(ctx context.Context, r *remote, c *client.Client, group string, ask client.SwitchoverRequest, wait, yes bool) error {
	if !yes {
		if !r.terminal {
			return usage("switchover without a terminal needs --yes", "--dry-run shows the plan")
		}
		plan, err := c.DryRun(ctx, group, ask)
		if err != nil {
			return err
		}
		if err := refused(group, plan); err != nil {
			return err
		}
		_, _ = fmt.Fprint(r.err, r.planText(group, plan))
		ask.To = plan.To // what was shown is what is done
		if !plan.AlreadyActive && !confirm(ctx, r.ui) {
			return failed("cannot switch %s over: not confirmed; nothing was done", group)
		}
	} else if ask.Force {
		if plan, err := c.DryRun(ctx, group, ask); err == nil && plan.Refused == "" {
			_, _ = fmt.Fprint(r.err, r.planText(group, plan))
		}
	}
	_, text, err := c.Do(ctx, "POST", client.GroupPath(group, "switchover"), ask)
	if err != nil {
		return err
	}
	var started client.Started
	if err := json.Unmarshal(text, &started); err != nil {
		return fmt.Errorf("cannot read reply to the switchover: %w", err)
	}
	return r.started(ctx, c, group, text, &started, wait)
}

// started goes on from the daemon's reply.
func (r *remote) started(ctx context.Context, c *client.Client, group string, text []byte, started *client.Started, wait bool) error {
	switch {
	case started.AlreadyActive && !r.json():
		_, _ = fmt.Fprintf(r.out, "%s is already active: there is nothing to do\n", clean(started.Active))
		return nil
	case r.json() && (started.AlreadyActive || !wait):
		_, err := r.out.Write(text)
		return err
	case !wait:
		_, _ = fmt.Fprintf(r.out, "switchover %d of %s has begun; `watchover status %s --watch` shows it\n", started.ID, group, group)
		return nil
	}
	return follow(ctx, r, c, group, started.ID)
}

// confirm asks on the terminal; anything but y or yes is no, and so is Ctrl-C.
func confirm(ctx context.Context, u *ui) bool {
	_, _ = fmt.Fprint(u.err, "go ahead? [y/N] ")
	answer := make(chan string, 1)
	// A read of a terminal cannot be interrupted; with ctx the process ends, and this goroutine with it.
	go func() {
		line, _ := bufio.NewReader(u.in).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case text := <-answer:
		return text == "y" || text == "yes"
	case <-ctx.Done():
		_, _ = fmt.Fprintln(u.err)
		return false
	}
}
