package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/watchover-ha/watchover/internal/cluster"
	"github.com/watchover-ha/watchover/pkg/client"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// maxSnapshotFile bounds what is read of a file, in bytes.
const maxSnapshotFile = 64 << 20

const openFlag = "open-switchovers"

func snapshotCommand(u *ui) *cobra.Command {
	cmd := &cobra.Command{
		Use: "snapshot VERB", Short: "Save the cluster's state to a file, look into one, restore one", Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			hint := "`watchover snapshot save|inspect|restore FILE`"
			if len(args) == 0 {
				return usage("snapshot needs a verb", hint)
			}
			return usage(fmt.Sprintf("unknown verb %q", "snapshot "+args[0]), hint)
		},
	}
	cmd.AddCommand(saveCommand(u), inspectCommand(u), restoreCommand(u))
	return cmd
}

func saveCommand(u *ui) *cobra.Command {
	var stale, overwrite bool
	cmd := verb(u, "save FILE", "Save the cluster's state, as this watcher has it, to a new file", 1, 1,
		func(ctx context.Context, r *remote, c *client.Client, args []string) error {
			text, err := c.SaveSnapshot(ctx, stale)
			if err != nil {
				return err
			}
			state, err := cluster.ReadSnapshot(bytes.NewReader(text))
			if err != nil {
				return failed("cannot save %s: what the daemon sent is not whole: %v", args[0], err)
			}
			if err := writeNew(args[0], text, overwrite); err != nil {
				return err
			}
			s := contents(state)
			s.Bytes = len(text)
			return r.showSnapshot(s, "saved "+args[0])
		})
	cmd.Flags().BoolVar(&stale, "stale", false, "save what this watcher last heard, without a quorum")
	cmd.Flags().BoolVar(&overwrite, "overwrite", false, "replace FILE if it exists")
	return cmd
}

// writeNew writes a file for its owner's eyes that is there as a whole or not at all. It replaces another one only if told to.
func writeNew(path string, text []byte, overwrite bool) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".watchover-snapshot-") // with mode 0600
	if err != nil {
		return failed("cannot write %s: %v", path, err)
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil && overwrite {
		err = os.Rename(f.Name(), path)
	} else if err == nil {
		err = os.Link(f.Name(), path) // fails if there is one, unlike a rename
	}
	if errors.Is(err, fs.ErrExist) {
		return &exitError{code: exitRefused, text: "cannot write " + path + ": it exists", hint: "choose another name, or --overwrite"}
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return failed("cannot write %s: %v", path, err)
	}
	return nil
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	return dir.Sync()
}

func inspectCommand(u *ui) *cobra.Command {
	r := &remote{ui: u}
	cmd := &cobra.Command{
		Use: "inspect FILE", Short: "Show what is in a snapshot; needs no daemon", Args: arguments(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			if r.output != "table" && r.output != "json" {
				return usage(fmt.Sprintf("unknown output %q", r.output), "-o takes table or json")
			}
			text, state, err := readSnapshotFile(args[0])
			if err != nil {
				return err
			}
			s := contents(state)
			s.Bytes = len(text)
			return r.showSnapshot(s, args[0])
		},
	}
	cmd.Flags().StringVarP(&r.output, "output", "o", "table", "table or json")
	return cmd
}

// readSnapshotFile reads a file and checks that it is whole.
func readSnapshotFile(path string) ([]byte, *failover.State, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, &exitError{code: exitUsage, text: fmt.Sprintf("cannot read snapshot: %v", err)}
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxSnapshotFile+1))
	if err != nil {
		return nil, nil, failed("cannot read snapshot %s: %v", path, err)
	}
	if len(text) > maxSnapshotFile {
		return nil, nil, failed("cannot read snapshot %s: it is larger than %d bytes", path, maxSnapshotFile)
	}
	state, err := cluster.ReadSnapshot(bytes.NewReader(text))
	if err != nil {
		return nil, nil, failed("cannot use %s: %v", path, err)
	}
	return text, state, nil
}

func restoreCommand(u *ui) *cobra.Command {
	var open string
	var yes bool
	cmd := verb(u, "restore FILE", "Put a saved state in the place of the running cluster's; every group is then held until ack", 1, 1,
		func(ctx context.Context, r *remote, c *client.Client, args []string) error {
			text, state, err := readSnapshotFile(args[0])
			if err != nil {
				return err
			}
			if !yes {
				if !r.terminal {
					return usage("snapshot restore without a terminal needs --yes", "`watchover snapshot inspect "+args[0]+"` shows what is in it")
				}
				p := r.page()
				p.snapshot(contents(state), args[0])
				p.line("%s", "This state takes the place of the running cluster's: groups, policy, history. The watchers stay members.")
				_, _ = fmt.Fprint(r.err, p.String())
				if !confirm(ctx, r.ui) {
					return failed("cannot restore %s: not confirmed; nothing was done", args[0])
				}
			}
			return ask(ctx, r, c, "PUT", client.RestorePath(open), client.File(text), func(*client.Accepted) {
				_, _ = fmt.Fprintf(r.out, "restored %s; nothing acts until `watchover ack GROUP`, after a look at `watchover status`\n", clean(args[0]))
			})
		})
	addOpenFlag(cmd, &open)
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask; needed without a terminal")
	return cmd
}

func addOpenFlag(cmd *cobra.Command, open *string) {
	cmd.Flags().StringVar(open, openFlag, "", "what becomes of open switchovers: undo, or keep; nothing is touched before ack")
}

// snapshotContents is what inspect shows.
type snapshotContents struct {
	Cluster    string          `json:"cluster"`
	ClusterID  string          `json:"cluster_id"`
	Generation uint64          `json:"generation"`
	Recovery   string          `json:"recovery,omitempty"`
	Index      uint64          `json:"index"`
	Term       uint64          `json:"term"`
	Time       client.Time     `json:"time"`
	Serial     uint32          `json:"serial"`
	Revision   uint64          `json:"policy_revision"`
	Bytes      int             `json:"bytes,omitempty"`
	Hash       string          `json:"hash"` // of the state
	Members    []snapshotWatch `json:"members"`
	Groups     []snapshotGroup `json:"groups"`
}

type snapshotWatch struct {
	Name    string `json:"name"`
	Address string `json:"address"`
}

type snapshotGroup struct {
	Name       string              `json:"name"`
	Active     string              `json:"active"`
	Writer     string              `json:"writer"`
	Epoch      uint64              `json:"epoch"`
	Marked     []string            `json:"marked"`
	Paused     bool                `json:"paused"`
	Switchover *snapshotSwitchover `json:"switchover"` // the open one
}

type snapshotSwitchover struct {
	ID           uint64 `json:"id"`
	Kind         string `json:"kind"`
	From         string `json:"from"`
	To           string `json:"to"`
	Result       string `json:"result"`
	Undoing      string `json:"undoing,omitempty"`
	PastNoReturn bool   `json:"past_no_return"`
	Step         string `json:"step"` // the first that is not settled
}

func contents(s *failover.State) snapshotContents {
	c := snapshotContents{Cluster: s.Cluster, ClusterID: s.ClusterID, Generation: s.Generation, Index: s.Index, Term: s.Term, Time: client.Time{Time: s.Time},
		Serial: s.Serial, Revision: s.PolicyRevision, Hash: s.Hash(), Members: []snapshotWatch{}, Groups: []snapshotGroup{}}
	if s.Recovery != nil {
		c.Recovery = s.Recovery.ID
	}
	for _, m := range s.Members {
		c.Members = append(c.Members, snapshotWatch{Name: m.Name, Address: m.Address})
	}
	for _, name := range s.GroupNames() {
		g := s.Groups[name]
		view := snapshotGroup{Name: name, Active: g.Active, Writer: g.Writer, Epoch: g.Epoch, Marked: []string{}, Paused: g.Pause != nil || g.Unconfirmed != nil}
		for _, app := range s.Policy.Group(name).Apps {
			if g.Apps[app.Name].Mark != nil {
				view.Marked = append(view.Marked, app.Name)
			}
		}
		if w := g.Switchover; w.Open() {
			view.Switchover = &snapshotSwitchover{ID: w.ID, Kind: string(w.Kind), From: w.From, To: w.To, Result: string(w.Result), Undoing: w.Undoing,
				PastNoReturn: w.PastNoReturn(), Step: openStep(w)}
		}
		c.Groups = append(c.Groups, view)
	}
	return c
}

func openStep(w *failover.Switchover) string {
	for _, step := range w.Steps {
		switch step.State {
		case failover.StepDone, failover.StepSkipped, failover.StepMarked, failover.StepUndone:
		default:
			return string(step.Name)
		}
	}
	return ""
}

func (r *remote) showSnapshot(s snapshotContents, title string) error {
	if r.json() {
		text, err := json.Marshal(s)
		if err != nil {
			return fmt.Errorf("cannot encode contents: %w", err)
		}
		_, err = fmt.Fprintln(r.out, string(text))
		return err
	}
	p := r.page()
	p.snapshot(s, title)
	_, err := fmt.Fprint(r.out, p.String())
	return err
}

// snapshot shows a state in few lines; what is open comes last, where it is seen.
func (p *page) snapshot(s snapshotContents, title string) {
	p.line("%s", clean(title))
	p.line("  cluster %s, id %s, generation %d", clean(s.Cluster), clean(s.ClusterID), s.Generation)
	p.line("  index %d, term %d, of %s", s.Index, s.Term, s.Time.UTC().Format("2006-01-02 15:04:05Z"))
	p.line("  zone serial %d, policy revision %d", s.Serial, s.Revision)
	for _, m := range s.Members {
		p.line("  watcher %s at %s", clean(m.Name), clean(m.Address))
	}
	for _, g := range s.Groups {
		text := fmt.Sprintf("  group %s: active %s, writer %s, epoch %d", g.Name, g.Active, g.Writer, g.Epoch)
		if g.Paused {
			text += ", paused"
		}
		for _, app := range g.Marked {
			text += ", " + app + " is marked"
		}
		p.line("%s", clean(text))
	}
	for _, g := range s.Groups {
		if w := g.Switchover; w != nil {
			p.wrapped(warn, "  open: ", openText(g.Name, w))
		}
	}
}

func openText(group string, w *snapshotSwitchover) string {
	text := fmt.Sprintf("%s %d of %s from %s to %s is %s at %s", w.Kind, w.ID, group, w.From, w.To, w.Result, w.Step)
	switch {
	case w.Undoing != "":
		text += "; it is being undone: " + w.Undoing
	case w.PastNoReturn:
		text += "; it is past the point of no return, so it can only be kept"
	default:
		text += "; it can be undone or kept"
	}
	return text
}
