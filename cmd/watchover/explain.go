package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/watchover-ha/watchover/pkg/client"
)

func explainCommand(u *ui) *cobra.Command {
	return verb(u, "explain GROUP", "Why it did, did not, or would not switch by itself: every condition with its evidence", 1, 1,
		func(ctx context.Context, r *remote, c *client.Client, args []string) error {
			return get(ctx, r, c, client.GroupPath(args[0], "explain"), func(e *client.Explanation) {
				p := r.page()
				p.explanation(args[0], e, time.Now())
				_, _ = fmt.Fprint(r.out, p.String())
			})
		})
}

// explanation prints the conditions in the order of the rule, those that are not met first.
func (p *page) explanation(group string, e *client.Explanation, now time.Time) {
	if e.WouldSwitch {
		p.line("%s %s", clean(group), p.paint(warn, "is moved over by itself: every condition is met"))
	} else {
		p.line("%s would not be moved over by itself now, for every \"no\" below", clean(group))
	}
	for _, met := range []bool{false, true} {
		for _, c := range e.Conditions {
			if c.Met != met {
				continue
			}
			if met { // since when a thing is as it should be is seldom asked
				p.wrapped(dim, "yes  ", c.Code+": "+c.Evidence)
				continue
			}
			p.line("%s   %s%s", p.paint(bad, "no"), p.paint(bold, clean(c.Code)), p.paint(dim, sinceText(c.Since, now)))
			p.wrapped(plain, "     ", c.Evidence)
		}
	}
}
