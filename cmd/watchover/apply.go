package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/watchover-ha/watchover/internal/config"
	"github.com/watchover-ha/watchover/internal/daemon"
	"github.com/watchover-ha/watchover/pkg/client"
	"github.com/watchover-ha/watchover/pkg/failover"
)

const policyLong = `Of FILE only zone and groups are taken; the sections watcher and cluster may be there and are ignored. A records_file is
read here, beside FILE, and its text is sent. All other files that FILE names are not: each watcher looks for them beside
its own configuration, and one that is missing there is a blocker (missing_file) that names the watcher. So is a variable that
is not set in its environment.`

func applyCommand(u *ui) *cobra.Command {
	var dry bool
	var revision uint64
	cmd := verb(u, "apply FILE", "Propose the groups and the zone of FILE to the cluster", 1, 1,
		func(ctx context.Context, r *remote, c *client.Client, args []string) error {
			return apply(ctx, r, c, args[0], dry, revision)
		})
	cmd.Long = "Proposes the groups and the zone of FILE to the cluster.\n\n" + policyLong + `

An app that is active, writer, marked or in an open switchover cannot be removed from its group. A group that FILE leaves out
whole is dropped, with its history, and its record is answered no more, unless a switchover of it is open or something is owed to
one of its apps. Between its look at the policy in force
and its order nobody else's change is overwritten; --revision N holds that against the policy that you looked at.`
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only show what would change, and whether the cluster would refuse it")
	cmd.Flags().Uint64Var(&revision, "revision", 0, "refuse if the policy in force is not this revision")
	cmd.Flags().Lookup("revision").DefValue = ""
	return cmd
}

func diffCommand(u *ui) *cobra.Command {
	var exit bool
	cmd := verb(u, "diff FILE", "Show what `apply FILE` would change", 1, 1,
		func(ctx context.Context, r *remote, c *client.Client, args []string) error {
			text, err := proposal(ctx, c, args[0])
			if err != nil {
				return err
			}
			trial, raw, err := try(ctx, c, text)
			if err != nil {
				return err
			}
			if err := r.showTrial(trial, raw); err != nil {
				return err
			}
			if trial.Refused != "" && !r.json() {
				_, _ = fmt.Fprintf(r.err, "watchover: the cluster would refuse this now: %s\n", clean(trial.Refused))
			}
			if exit && trial.Changed {
				return &exitError{code: exitFailed}
			}
			return nil
		})
	cmd.Long = "Shows what `watchover apply FILE` would change, as a unified diff with every default written out.\n\n" + policyLong + `

Exits 0 whether or not there are differences; with --exit-code 1 if there are, like diff(1).`
	cmd.Flags().BoolVar(&exit, "exit-code", false, "exit 1 if there are differences")
	return cmd
}

// apply tries first, so that what is refused is said without an order.
func apply(ctx context.Context, r *remote, c *client.Client, path string, dry bool, revision uint64) error {
	text, err := proposal(ctx, c, path)
	if err != nil {
		return err
	}
	trial, raw, err := try(ctx, c, text)
	switch {
	case err != nil:
		return err
	case revision != 0 && revision != trial.Revision:
		return notApplied(path, fmt.Sprintf("policy_revision: the policy in force is revision %d, not %d", trial.Revision, revision))
	case dry:
		return r.showDryRun(path, trial, raw)
	case trial.Refused != "":
		return notApplied(path, trial.Refused)
	}
	return ask(ctx, r, c, "PUT", client.PolicyPath(trial.Revision, false), text, func(set *client.PolicySet) {
		if !set.Changed {
			_, _ = fmt.Fprintf(r.out, "nothing to change: revision %d says the same\n", set.Revision)
			return
		}
		_, _ = fmt.Fprintf(r.out, "policy revision %d in force, in place of %d: %s\n", set.Revision, trial.Revision, counts(trial.Diff))
	})
}

// showDryRun prints what would change; what the cluster would refuse is an error like the order itself would be.
func (r *remote) showDryRun(path string, trial *client.PolicyTrial, raw []byte) error {
	if err := r.showTrial(trial, raw); err != nil {
		return err
	}
	if trial.Refused != "" {
		return notApplied(path, trial.Refused)
	}
	if trial.Changed && !r.json() {
		_, err := fmt.Fprintf(r.out, "would be accepted in place of revision %d; nothing is changed yet\n", trial.Revision)
		return err
	}
	return nil
}

func notApplied(path, reason string) error {
	return &exitError{code: exitRefused, text: fmt.Sprintf("cannot apply %s: refused by %s", path, reason),
		hint: "nothing was changed; `watchover diff " + path + "` shows what would be"}
}

// counts sums a diff up.
func counts(diff string) string {
	added, removed := 0, 0
	for line := range strings.Lines(diff) {
		switch {
		case strings.HasPrefix(line, "+++"), strings.HasPrefix(line, "---"):
		case line[0] == '+':
			added++
		case line[0] == '-':
			removed++
		}
	}
	return fmt.Sprintf("+%d -%d lines of `watchover diff`", added, removed)
}

// showTrial prints what would change.
func (r *remote) showTrial(trial *client.PolicyTrial, raw []byte) error {
	if r.json() {
		_, err := r.out.Write(raw)
		return err
	}
	if !trial.Changed {
		_, err := fmt.Fprintf(r.out, "nothing to change: revision %d says the same\n", trial.Revision)
		return err
	}
	p := r.page()
	for line := range strings.Lines(trial.Diff) {
		line = clean(strings.TrimRight(line, "\n"))
		switch line[:min(1, len(line))] {
		case "+":
			line = p.paint(good, line)
		case "-":
			line = p.paint(bad, line)
		case "@":
			line = p.paint(dim, line)
		}
		p.line("%s", line)
	}
	_, err := fmt.Fprint(r.out, p.String())
	return err
}

// try asks the cluster what proposing the text would come to.
func try(ctx context.Context, c *client.Client, text client.YAML) (*client.PolicyTrial, []byte, error) {
	_, raw, err := c.Do(ctx, "PUT", client.PolicyPath(0, true), text)
	if err != nil {
		return nil, nil, err
	}
	trial := &client.PolicyTrial{}
	if err := json.Unmarshal(raw, trial); err != nil {
		return nil, nil, fmt.Errorf("cannot read reply to %s: %w", client.PolicyPath(0, true), err)
	}
	return trial, raw, nil
}

// proposal reads the groups and the zone of a file, complains with the lines of that file, and writes them anew: in
// what is sent the records stand in the text, since the daemon reads no file for whoever asks.
func proposal(ctx context.Context, c *client.Client, path string) (client.YAML, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("cannot resolve directory of %q: %w", path, err)
	}
	p, err := daemon.ParsePolicy(path, text, dir, nil)
	if err == nil { // what the members have to do with it only the daemon knows
		var status *client.Status
		if status, err = c.Status(ctx); err != nil {
			return nil, err
		}
		p, err = daemon.ParsePolicy(path, text, dir, members(status))
	}
	var faults config.Errors
	switch {
	case errors.As(err, &faults):
		return nil, err
	case err != nil:
		return nil, &exitError{code: exitUsage, text: err.Error()}
	}
	return config.Format(p)
}

// members are the watchers as far as a policy's checks need them: their names.
func members(s *client.Status) (list []failover.Member) {
	for _, w := range s.Cluster.Watchers {
		list = append(list, failover.Member{Name: w.Name, Address: w.Address})
	}
	return list
}

// maxPolicyFile bounds a file, in bytes; config allows no larger one.
const maxPolicyFile = 1 << 20

func readFile(path string) ([]byte, error) {
	wrong := func(reason string) error {
		return &exitError{code: exitUsage, text: fmt.Sprintf("cannot read %s: %s", path, reason)}
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, wrong(cause(err))
	case !info.Mode().IsRegular():
		return nil, wrong("it is not a regular file")
	case info.Size() > maxPolicyFile:
		return nil, wrong(fmt.Sprintf("it is larger than %d KiB", maxPolicyFile>>10))
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, wrong(cause(err))
	}
	return bytes.TrimPrefix(text, []byte("\ufeff")), nil
}

// cause is an error of the file system without the path, which has been said.
func cause(err error) string {
	var wrapped *os.PathError
	if errors.As(err, &wrapped) {
		return wrapped.Err.Error()
	}
	return err.Error()
}
