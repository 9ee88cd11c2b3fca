package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/watchover-ha/watchover/pkg/client"
)

func rehearseCommand(u *ui) *cobra.Command {
	return verb(u, "rehearse GROUP", "Try every check of the plan with the real credentials on every watcher, changing nothing", 1, 1,
		func(ctx context.Context, r *remote, c *client.Client, args []string) error {
			_, text, err := c.Do(ctx, "POST", client.GroupPath(args[0], "rehearse"), nil)
			if err != nil {
				return err
			}
			reply := new(client.Rehearsal)
			if err := json.Unmarshal(text, reply); err != nil {
				return fmt.Errorf("cannot read what was rehearsed: %w", err)
			}
			if r.json() {
				_, err = r.out.Write(text)
			} else {
				p := r.page()
				p.rehearsal(reply)
				_, err = fmt.Fprint(r.out, p.String())
			}
			if err == nil && !reply.Ready {
				err = &exitError{code: exitFailed}
			}
			return err
		})
}

// rehearsal prints the checks, those that failed first.
func (p *page) rehearsal(r *client.Rehearsal) {
	if r.Ready {
		p.line("%s %s: every check passed", clean(r.Group), p.paint(good, "is ready"))
	} else {
		p.line("%s %s, for every \"no\" below", clean(r.Group), p.paint(bad, "is not ready"))
	}
	for _, passed := range []bool{false, true} {
		for _, c := range r.Checks {
			if c.OK != passed {
				continue
			}
			what := c.Watcher + "  " + c.Check
			if c.App != "" {
				what += " of " + c.App
			}
			if passed {
				p.wrapped(dim, "yes  ", what+": "+c.Detail)
				continue
			}
			p.line("%s   %s", p.paint(bad, "no"), p.paint(bold, clean(what)))
			p.wrapped(plain, "     ", c.Detail)
		}
	}
}
