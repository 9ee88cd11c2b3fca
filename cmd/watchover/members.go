package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/watchover-ha/watchover/pkg/client"
)

func membersCommand(u *ui) *cobra.Command {
	const hint = "`watchover members --help` lists its verbs"
	cmd := &cobra.Command{
		Use: "members list|add|remove|transfer", Short: "The watchers of the cluster: list, add, remove, hand leadership over",
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage(fmt.Sprintf("unknown verb %q", "members "+args[0]), hint)
			}
			return usage("members needs a verb", hint)
		},
	}
	cmd.AddCommand(membersList(u), membersAdd(u), membersRemove(u), membersTransfer(u))
	return cmd
}

func membersList(u *ui) *cobra.Command {
	return verb(u, "list", "List the watchers, and the change of them that is under way", 0, 0,
		func(ctx context.Context, r *remote, c *client.Client, _ []string) error {
			return get(ctx, r, c, client.MembersPath, func(m *client.Members) {
				p := r.page()
				p.members(m)
				_, _ = fmt.Fprint(r.out, p.String())
			})
		})
}

func membersAdd(u *ui) *cobra.Command {
	var dns []string
	cmd := verb(u, "add NAME ADDRESS --dns IP[,IP]", "Add a watcher, or give one another address", 2, 2,
		func(ctx context.Context, r *remote, c *client.Client, args []string) error {
			return order(ctx, r, c, client.MembersPath, client.MemberRequest{Name: args[0], Address: args[1], DNS: dns},
				fmt.Sprintf("%s joins; start it with an empty data_dir and itself under cluster.watchers. It counts once it has caught up; `watchover members list` shows how far it is", args[0]))
		})
	cmd.Long = `Adds a watcher that is then started with an empty data_dir, this cluster's name, and itself and at least one running
watcher under cluster.watchers. It is sent the log first and counts once it has caught up.

For a watcher that is a member already, it changes the address that the others reach it at (and --dns, if given).
A watcher whose data directory was lost is removed first and then added.`
	cmd.Flags().StringSliceVar(&dns, "dns", nil, "addresses of its NS record, host:port is ADDRESS alone")
	return cmd
}

func membersRemove(u *ui) *cobra.Command {
	var yes bool
	cmd := verb(u, "remove NAME", "Remove a watcher; its data directory never takes part again", 1, 1,
		func(ctx context.Context, r *remote, c *client.Client, args []string) error {
			if !yes && r.terminal {
				m, err := c.Members(ctx)
				if err != nil {
					return err
				}
				_, _ = fmt.Fprintln(r.err, clean(afterRemoval(m, args[0])))
				if !confirm(ctx, r.ui) {
					return failed("cannot remove watcher %s: not confirmed; nothing was done", args[0])
				}
			}
			return ask(ctx, r, c, "DELETE", client.MemberPath(args[0]), nil, func(*client.Accepted) {
				_, _ = fmt.Fprintf(r.out, "%s is removed; if it runs it ends, and its data_dir can be thrown away\n", clean(args[0]))
			})
		})
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask on a terminal")
	return cmd
}

// afterRemoval says what would remain.
func afterRemoval(m *client.Members, name string) string {
	var rest []string
	for _, w := range m.Members {
		if w.Name == name || !w.Voter {
			continue
		}
		text := w.Name
		if w.Silent {
			text += " (silent)"
		}
		rest = append(rest, text)
	}
	return fmt.Sprintf("without %s there are %d watchers: %s; %d of them decide", name, len(rest), strings.Join(rest, ", "), len(rest)/2+1)
}

func membersTransfer(u *ui) *cobra.Command {
	return verb(u, "transfer [NAME]", "Hand leadership to another watcher", 0, 1,
		func(ctx context.Context, r *remote, c *client.Client, args []string) error {
			return ask(ctx, r, c, "POST", client.TransferPath, client.TransferRequest{To: firstOf(args)}, func(reply *client.Transferred) {
				text := reply.Leader + " leads now"
				if reply.Note != "" {
					text = reply.Note
				}
				_, _ = fmt.Fprintln(r.out, clean(text))
			})
		})
}

// members prints a line for each watcher, and what is under way.
func (p *page) members(m *client.Members) {
	table := [][]cell{header("WATCHER", "STATE", "ADDRESS", "DNS", "VERSION")}
	for _, w := range m.Members {
		state := word(w.State)
		switch {
		case !w.Voter:
			state = cell{text: "joining", style: warn}
		case w.Silent:
			state = cell{text: "silent", style: bad}
		}
		table = append(table, []cell{c(short(w.Name, 16)), state, c(w.Address), c(strings.Join(w.DNS, ",")), c(w.Version)})
	}
	p.rows("", table)
	if m.Change == nil {
		return
	}
	text := fmt.Sprintf("%s of %s is under way", m.Change.Kind, m.Change.Name)
	if m.Change.WaitsFor != "" {
		text += ": " + m.Change.WaitsFor
	}
	p.wrapped(warn, "! ", text)
}
