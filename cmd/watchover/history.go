package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/watchover-ha/watchover/pkg/client"
)

func historyCommand(u *ui) *cobra.Command {
	var n int
	cmd := verb(u, "history [GROUP]", "Past switchovers with every step, newest first", 0, 1,
		func(ctx context.Context, r *remote, c *client.Client, args []string) error {
			if n < 1 || n > 100 {
				return usage(fmt.Sprintf("-n %d is not from 1 to 100", n), "")
			}
			return get(ctx, r, c, client.HistoryPath(firstOf(args), n), func(h *client.History) {
				p := r.page()
				p.history(h, time.Now())
				_, _ = fmt.Fprint(r.out, p.String())
			})
		})
	cmd.Flags().IntVarP(&n, "number", "n", 10, "how many, 1 to 100")
	return cmd
}

func (p *page) history(h *client.History, now time.Time) {
	if len(h.Switchovers) == 0 {
		p.line("no switchover has ended yet")
		return
	}
	for i := range h.Switchovers {
		if i > 0 {
			p.line("")
		}
		p.line("%s", p.paint(bold, clean(h.Switchovers[i].Group)))
		p.switchover("  ", &h.Switchovers[i], now)
	}
}
