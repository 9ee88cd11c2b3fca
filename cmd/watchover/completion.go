package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/watchover-ha/watchover/pkg/client"
)

// completionPatience bounds how long a person who presses Tab waits for a daemon that does not answer.
const completionPatience = 500 * time.Millisecond

func completionCommand(u *ui) *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use: "completion SHELL", Short: "Print the completion script for bash, zsh or fish", Args: arguments(1, 1), ValidArgs: shells,
		Long: `Prints a script that completes verbs, flags and, if a daemon answers, the names of groups and apps.

  bash  source <(watchover completion bash)       # needs the package bash-completion
  zsh   source <(watchover completion zsh)        # after autoload -U compinit; compinit
  fish  watchover completion fish | source`,
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(u.out, true)
			case "zsh":
				return root.GenZshCompletion(u.out)
			case "fish":
				return root.GenFishCompletion(u.out, true)
			}
			return usage(fmt.Sprintf("unknown shell %q", args[0]), "known are "+strings.Join(shells, ", "))
		},
	}
}

// complete says what may follow on a verb's command line.
type complete = func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective)

// completeArguments offers what the verb's usage asks for: a group once, or a file.
func completeArguments(use string) complete {
	switch {
	case strings.Contains(use, "GROUP"):
		return completeGroups
	case strings.Contains(use, "FILE"):
		return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveDefault
		}
	}
	return cobra.NoFileCompletions
}

// completeGroups offers the groups that the daemon names.
func completeGroups(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var names []string
	if status := quickStatus(cmd); status != nil && len(args) == 0 {
		for _, g := range status.Groups {
			names = append(names, clean(g.Name)+"\t"+clean(g.Active)+" is active, "+clean(g.Phase))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeApps offers the apps of the group that stands on the command line.
func completeApps(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var names []string
	if status := quickStatus(cmd); status != nil && len(args) > 0 {
		for _, g := range status.Groups {
			for _, a := range g.Apps {
				if g.Name == args[0] {
					names = append(names, clean(a.Name)+"\t"+clean(a.Role)+", "+clean(a.Health))
				}
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// quickStatus asks the daemon that the command line names; nil if it does not answer at once.
func quickStatus(cmd *cobra.Command) *client.Status {
	socket, err := cmd.Flags().GetString("socket")
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), completionPatience)
	defer cancel()
	c := client.New(socket)
	defer c.Close()
	status, err := c.Status(ctx)
	if err != nil {
		return nil
	}
	return status
}
