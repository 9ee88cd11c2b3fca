package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/watchover-ha/watchover/internal/pki"
)

func pkiCommand(u *ui) *cobra.Command {
	hint := "`watchover pki init` or `watchover pki issue NAME`"
	cmd := &cobra.Command{
		Use: "pki VERB", Short: "A private authority and the watchers' certificates", Args: cobra.ArbitraryArgs,
		Long: `Makes the certificates with which the watchers know one another: an authority once, then one for each watcher.

The authority's key (ca.key) is needed only here, to issue. Keep it off the watchers. A watcher's name stands in its
certificate as a DNS name.`,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("pki needs a verb", hint)
			}
			return usage(fmt.Sprintf("unknown verb %q", "pki "+args[0]), hint)
		},
	}
	cmd.AddCommand(pkiInitCommand(u), pkiIssueCommand(u))
	return cmd
}

func pkiInitCommand(u *ui) *cobra.Command {
	var dir string
	var days int
	cmd := &cobra.Command{
		Use: "init", Short: "Make a new authority: ca.pem and ca.key", Args: arguments(0, 0),
		RunE: func(*cobra.Command, []string) error {
			w, err := pki.Init(dir, days, time.Now())
			if err != nil {
				return pkiError("cannot make an authority", err, "it is made once; "+inDir("`watchover pki issue NAME", dir)+"` issues with it")
			}
			_, err = fmt.Fprintf(u.out, `%s  the authority's certificate, until %s; every watcher needs a copy
%s  its key: whoever has it can become every watcher, so keep it off them
next: %s
`, clean(w.CertFile), date(w.Expires), clean(w.KeyFile), inDir("watchover pki issue NAME", dir))
			return err
		},
	}
	pkiFlags(cmd, &dir, &days, pki.CADays)
	return cmd
}

func pkiIssueCommand(u *ui) *cobra.Command {
	var dir string
	var days int
	var hosts []string
	cmd := &cobra.Command{
		Use: "issue NAME", Short: "Make a watcher's certificate: NAME.pem and NAME.key", Args: arguments(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			name := args[0]
			if err := pki.CheckName(name); err != nil {
				return &exitError{code: exitUsage, text: "cannot issue certificate: " + err.Error(), hint: "NAME is the watcher's, as under cluster.watchers"}
			}
			w, err := pki.Issue(dir, name, hosts, days, time.Now())
			if err != nil {
				return pkiError("cannot issue certificate", err, issueHint(err, dir))
			}
			ca := filepath.Join(dir, pki.CAFile)
			_, err = fmt.Fprintf(u.out, `%s  certificate of watcher %s, until %s
%s  its key, for %s alone
next: copy %s, %s and %s to where %s's file is, which then says
  cluster:
    tls: {ca_file: %s, cert_file: %s, key_file: %s}
then: watchover config check FILE
`, clean(w.CertFile), name, date(w.Expires), clean(w.KeyFile), name, clean(ca), clean(w.CertFile), clean(w.KeyFile), name,
				pki.CAFile, filepath.Base(w.CertFile), filepath.Base(w.KeyFile))
			return err
		},
	}
	pkiFlags(cmd, &dir, &days, pki.LeafDays)
	cmd.Flags().StringArrayVar(&hosts, "host", nil, "host name or address to put beside NAME, for other tools; may be repeated")
	return cmd
}

func pkiFlags(cmd *cobra.Command, dir *string, days *int, fallback int) {
	cmd.Flags().StringVar(dir, "dir", ".", "directory of the authority and of what is made")
	cmd.Flags().IntVar(days, "days", fallback, "how long the certificate is good, in days")
}

func pkiError(what string, err error, hint string) error {
	code := exitFailed
	if errors.Is(err, pki.ErrUsage) {
		code, hint = exitUsage, ""
	}
	return &exitError{code: code, text: what + ": " + err.Error(), hint: hint}
}

func issueHint(err error, dir string) string {
	switch {
	case errors.Is(err, pki.ErrNoAuthority):
		return inDir("`watchover pki init", dir) + "` makes one"
	case errors.Is(err, pki.ErrExists):
		return "to renew a certificate, move the old pair away first"
	}
	return ""
}

// inDir is a command line for the same directory.
func inDir(command, dir string) string {
	if dir == "." {
		return command
	}
	return command + " --dir " + clean(dir)
}

func date(t time.Time) string { return t.UTC().Format(time.DateOnly) }
