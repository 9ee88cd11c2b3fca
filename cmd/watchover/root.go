package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/watchover-ha/watchover/pkg/client"
)

// ui is where a verb reads and writes; a test gives it buffers.
type ui struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string
	terminal bool // a person can be asked
	screen   bool // out is a terminal
	color    bool
}

// execute runs one command line and returns its exit code.
func execute(ctx context.Context, args []string, u *ui) int {
	root := newRoot(u)
	if err := unknownVerb(root, args); err != nil {
		return report(u, err)
	}
	root.SetArgs(args)
	return report(u, root.ExecuteContext(ctx))
}

func newRoot(u *ui) *cobra.Command {
	root := &cobra.Command{
		Use:   "watchover VERB [GROUP] [flags]",
		Short: "Watches failover groups and moves them over when the main application is down",
		Long: `Watchover watches failover groups (a main application, its standby, their database replication and one DNS record)
and moves them over when a quorum of watchers finds the main application down.

Exit codes: 0 done; 1 failed; 2 wrong usage, unknown group or invalid config; 3 refused by a rule or not allowed;
4 no leader or no quorum; 5 daemon unreachable.`,
		SilenceErrors: true, SilenceUsage: true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		Args:              cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := unknownVerb(cmd, args); err != nil {
				return err
			}
			_ = cmd.Help()
			return usage("a verb is needed", "")
		},
	}
	root.SetUsageTemplate(strings.NewReplacer("Available Commands", "Verbs", "[command]", "VERB", "about a command", "about a verb").Replace(root.UsageTemplate()))
	root.SetIn(u.in)
	root.SetOut(u.out)
	root.SetErr(u.err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage(err.Error(), "`"+cmd.CommandPath()+" --help` shows the flags")
	})
	root.AddCommand(
		runCommand(u), statusCommand(u), explainCommand(u), switchoverCommand(u), abortCommand(u), retryCommand(u),
		ackCommand(u), pauseCommand(u), resumeCommand(u), historyCommand(u), checkCommand(u), membersCommand(u), configCommand(u), versionCommand(u),
		pkiCommand(u),
		eventsCommand(u), applyCommand(u), diffCommand(u), completionCommand(u),
		snapshotCommand(u), recoverCommand(u), rehearseCommand(u), reprotectCommand(u),
	)
	return root
}

// unknownVerb tells a verb that is yet to come from one that is misspelled, before its flags are looked at.
func unknownVerb(root *cobra.Command, args []string) error {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return nil
	}
	verb := args[0]
	for _, c := range root.Commands() {
		if c.Name() == verb || c.HasAlias(verb) {
			return nil
		}
	}
	if verb == "help" || strings.HasPrefix(verb, "__complete") {
		return nil
	}
	hint := "`watchover --help` lists the verbs"
	if near := root.SuggestionsFor(verb); len(near) > 0 {
		hint = "did you mean " + strings.Join(near, " or ") + "?"
	}
	return usage(fmt.Sprintf("unknown verb %q", verb), hint)
}

// remote is what every verb needs that talks to the daemon.
type remote struct {
	*ui
	socket string
	output string
}

// addFlags gives a verb the flags of those that talk to the daemon.
func (r *remote) addFlags(cmd *cobra.Command) {
	fallback := client.DefaultSocket
	if path := r.getenv("WATCHOVER_SOCKET"); path != "" {
		fallback = path
	}
	cmd.Flags().StringVar(&r.socket, "socket", fallback, "Unix socket of the watcher (default $WATCHOVER_SOCKET, else "+client.DefaultSocket+")")
	cmd.Flags().StringVarP(&r.output, "output", "o", "table", "table, or json: the API's reply as it is")
	cmd.Flags().Lookup("socket").DefValue = "" // said in the text
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
}

// verb makes a command that talks to the daemon. args are the least and most number of positional arguments.
func verb(u *ui, use, short string, least, most int, run func(ctx context.Context, r *remote, c *client.Client, args []string) error) *cobra.Command {
	r := &remote{ui: u}
	cmd := &cobra.Command{
		Use: use, Short: short, Args: arguments(least, most), ValidArgsFunction: completeArguments(use),
		RunE: func(cmd *cobra.Command, args []string) error {
			if r.output != "table" && r.output != "json" {
				return usage(fmt.Sprintf("unknown output %q", r.output), "-o takes table or json")
			}
			c := client.New(r.socket)
			defer c.Close()
			return run(cmd.Context(), r, c, args)
		},
	}
	r.addFlags(cmd)
	return cmd
}

func arguments(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		hint := "usage: " + cmd.UseLine()
		switch {
		case len(args) < least:
			return usage(fmt.Sprintf("%s needs %s", cmd.CommandPath(), strings.Fields(cmd.Use)[1]), hint)
		case len(args) > most:
			return usage(fmt.Sprintf("%s does not take %q", cmd.CommandPath(), args[most]), hint)
		}
		if slices.Contains(args, "") { // an unset variable in a script must not mean all groups
			return usage(cmd.CommandPath()+" does not take an empty argument", hint)
		}
		return nil
	}
}

// json reports whether the reply is to be printed as it is.
func (r *remote) json() bool { return r.output == "json" }

// get prints the reply to a GET as it is, or through show.
func get[T any](ctx context.Context, r *remote, c *client.Client, path string, show func(*T)) error {
	return ask(ctx, r, c, "GET", path, nil, show)
}

func firstOf(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}
