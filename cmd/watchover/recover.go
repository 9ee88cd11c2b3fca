package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/watchover-ha/watchover/internal/cluster"
	"github.com/watchover-ha/watchover/internal/config"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// reachPatience is how long a watcher that is to be left behind may take to answer.
const reachPatience = 2 * time.Second

// recovery is what the verb was told.
type recovery struct {
	config    string
	keep      []string
	open      string
	yes       bool
	reachable bool
	behind    bool
}

func recoverCommand(u *ui) *cobra.Command {
	var o recovery
	cmd := &cobra.Command{
		Use: "recover --config FILE", Short: "Begin anew with what this watcher has, when the quorum is lost for good", Args: arguments(0, 0),
		Long: `Makes a cluster of one watcher, or of two, from what is in this watcher's data directory, when so many watchers are lost
for good that the rest is no majority. It works on the directory, without a daemon: stop this one first.

It shows what it would do and asks. What the lost watchers had committed and this one has not received is lost; what
this one has received is kept, committed or not. Run it on the survivor that was in contact last; the others are wiped and
added again with "watchover members add". With --keep w1,w2 the very same command is run on both, before either is started.

Afterwards nothing acts until a person has looked at the status of each group and given "watchover ack GROUP".`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.config == "" {
				return usage("recover needs --config FILE", "the file that `watchover run` is started with here")
			}
			f, err := loadConfig(o.config)
			if err != nil {
				return err
			}
			return recoverHere(cmd.Context(), u, f, o)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&o.config, "config", "c", "", "the watcher's file")
	flags.StringSliceVar(&o.keep, "keep", nil, "watchers that go on, this one included, at most two (default this one alone)")
	addOpenFlag(cmd, &o.open)
	flags.BoolVarP(&o.yes, "yes", "y", false, "do not ask; needed without a terminal")
	flags.BoolVar(&o.reachable, "ignore-reachable", false, "go on although a watcher that is left behind answers; it will be made to stop")
	flags.BoolVar(&o.behind, "left-behind", false, "take a directory that another recovery left behind, because nothing else is left")
	return cmd
}

// recoverHere shows what a recovery would make, asks, and makes it.
func recoverHere(ctx context.Context, u *ui, f *config.File, o recovery) error {
	s, err := cluster.OpenSurvivor(f.Watcher.Name, f.Cluster.Name, f.Watcher.DataDir, o.behind)
	if errors.Is(err, cluster.ErrInUse) {
		return &exitError{code: exitRefused, text: err.Error(), hint: "recover works on a watcher that does not run"}
	}
	if err != nil {
		return err
	}
	defer s.Close()
	prospect, r := s.Prospect(o.keep, failover.Open(o.open))
	if !r.Accepted {
		if r.Rule == "open_switchovers" || r.Rule == "past_no_return" {
			_, _ = fmt.Fprint(u.err, u.survivorText(s, f.Watcher.DataDir))
		}
		return refusedRecovery(r)
	}
	if prospect.Done {
		_, _ = fmt.Fprintf(u.out, "this has been done: generation %d begins here when the watcher is started\n", prospect.State.Generation)
		return nil
	}
	_, _ = fmt.Fprint(u.err, u.survivorText(s, f.Watcher.DataDir)+u.prospectText(prospect))
	if err := stillThere(prospect.Left, o.reachable); err != nil {
		return err
	}
	if !o.yes {
		if !u.terminal {
			return usage("recover without a terminal needs --yes", "it would do what is shown above")
		}
		if !confirm(ctx, u) {
			return failed("cannot recover: not confirmed; nothing was done")
		}
	}
	if err := s.Recover(prospect); err != nil {
		return fmt.Errorf("cannot finish the recovery; it can be repeated: %w", err)
	}
	_, _ = fmt.Fprintf(u.out, "recovered: generation %d begins when %s started; then look at `watchover status` and give `watchover ack GROUP` for each group that is as shown\n",
		prospect.State.Generation, isOrAre(prospect.Kept))
	return nil
}

func isOrAre(kept []failover.Member) string {
	var names []string
	for _, m := range kept {
		names = append(names, m.Name)
	}
	if len(names) == 1 {
		return names[0] + " is"
	}
	return strings.Join(names, " and ") + " are"
}

func refusedRecovery(r failover.Result) error {
	code := exitRefused
	if r.Code == failover.CodeInvalid {
		code = exitUsage
	}
	return &exitError{code: code, text: fmt.Sprintf("cannot recover: refused by %s: %s", r.Rule, r.Detail), hint: r.Hint}
}

// survivorText shows what is in the directory.
func (u *ui) survivorText(s *cluster.Survivor, dir string) string {
	p := u.page()
	p.snapshot(contents(s.State), "found in "+dir)
	at := "at an unknown time"
	if !s.Last.At.IsZero() {
		at = fmt.Sprintf("of %s, %s ago", s.Last.At.UTC().Format("2006-01-02 15:04:05Z"), time.Since(s.Last.At).Round(time.Second))
	}
	p.line("  last log entry %d, term %d, %s", s.Last.Index, s.Last.Term, at)
	return p.String()
}

// prospectText shows what would become of it.
func (u *ui) prospectText(r *cluster.Prospect) string {
	p := u.page()
	p.line("%s", "this becomes the whole cluster:")
	p.line("  generation %d begins", r.State.Generation)
	for _, m := range r.Kept {
		p.line("  watcher %s at %s goes on", clean(m.Name), clean(m.Address))
	}
	for _, m := range r.Left {
		p.wrapped(warn, "  ", fmt.Sprintf("watcher %s at %s is left behind; its data is never to be used again", m.Name, m.Address))
	}
	p.wrapped(warn, "  ", "what others committed after the last log entry is lost; what is in this log counts as committed, even if no majority had it")
	p.wrapped(warn, "  ", "all groups are held until `watchover ack GROUP`")
	return p.String()
}

// stillThere refuses to leave behind watchers that are there: they may be a quorum.
func stillThere(left []failover.Member, ignore bool) error {
	var mu sync.Mutex
	var answer []string
	var asking sync.WaitGroup
	for _, m := range left {
		asking.Go(func() {
			c, err := net.DialTimeout("tcp", m.Address, reachPatience)
			if err != nil {
				return
			}
			_ = c.Close()
			mu.Lock()
			defer mu.Unlock()
			answer = append(answer, m.Name)
		})
	}
	asking.Wait()
	if len(answer) == 0 || ignore {
		return nil
	}
	return &exitError{code: exitRefused, text: "cannot recover: refused by reachable: " + strings.Join(answer, ", ") + " would be left behind and still answer",
		hint: "if enough watchers can be started, the cluster needs no recovery; else stop those first, or --ignore-reachable"}
}
