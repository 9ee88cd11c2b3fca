package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/watchover-ha/watchover/internal/config"
	"github.com/watchover-ha/watchover/internal/daemon"
)

func configCommand(u *ui) *cobra.Command {
	cmd := &cobra.Command{
		Use: "config VERB", Short: "Check a configuration file, or print an example or a JSON Schema", Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			hint := "`watchover config check FILE`, `watchover config example` or `watchover config schema`"
			if len(args) == 0 {
				return usage("config needs a verb", hint)
			}
			return usage(fmt.Sprintf("unknown verb %q", "config "+args[0]), hint)
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use: "check FILE", Short: "Validate a file: all errors, each with its line", Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error { return checkConfig(cmd.Context(), u, args[0]) },
	}, &cobra.Command{
		Use: "example", Short: "Print an annotated example", Args: arguments(0, 0),
		RunE: func(*cobra.Command, []string) error {
			_, err := u.out.Write(config.Example())
			return err
		},
	}, &cobra.Command{
		Use: "schema", Short: "Print the JSON Schema of the file, for editors", Args: arguments(0, 0),
		RunE: func(*cobra.Command, []string) error {
			_, err := u.out.Write(config.Schema())
			return err
		},
	})
	return cmd
}

// checkConfig prints what is wrong with a file, or what is worth a second look though it is valid.
func checkConfig(ctx context.Context, u *ui, path string) error {
	f, err := loadConfig(path)
	if err != nil {
		return err
	}
	for _, w := range f.Warnings {
		_, _ = fmt.Fprintf(u.err, "%s: warning: %s\n", clean(path), clean(w))
	}
	missing, unset := config.Lacks(ctx, f.Policy, f.Dir)
	for _, m := range missing {
		_, _ = fmt.Fprintf(u.err, "%s: warning: %s is not on this machine\n", clean(path), clean(m))
	}
	for _, v := range unset {
		_, _ = fmt.Fprintf(u.err, "%s: warning: %s is not set here; the watcher needs it in its own environment\n", clean(path), clean(v))
	}
	_, err = fmt.Fprintf(u.out, "%s is valid\n", clean(path))
	return err
}

// loadConfig reads a file; whatever is wrong with it is wrong usage.
func loadConfig(path string) (*config.File, error) {
	f, err := daemon.LoadConfig(path)
	var faults config.Errors
	if err != nil && !errors.As(err, &faults) {
		return nil, &exitError{code: exitUsage, text: err.Error()}
	}
	return f, err
}
