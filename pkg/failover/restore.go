package failover

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

const (
	// maxRestored bounds a state that comes out of a Restore, in bytes.
	maxRestored = 64 << 20
	// formerKept bounds the ids of clusters whose states were restored into this one.
	formerKept = 16
)

// Restore puts a saved state in the place of the present one, but for what belongs to the running cluster: its id, its members
// and what they last said of themselves, its place in the log.
type Restore struct {
	State []byte `json:"state"` // what Encode wrote, compressed (RFC 1952)
	Open  Open   `json:"open,omitempty"`
}

// NewRestore makes the command's part from a saved state.
func NewRestore(saved *State, open Open) (*Restore, error) {
	text, err := saved.Encode()
	if err != nil {
		return nil, err
	}
	if len(text) > maxRestored {
		return nil, fmt.Errorf("cannot restore a state of %d bytes: the limit is %d", len(text), maxRestored)
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(text); err != nil {
		return nil, fmt.Errorf("cannot compress state: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("cannot compress state: %w", err)
	}
	return &Restore{State: packed.Bytes(), Open: open}, nil
}

func (c *Restore) decode() (*State, error) {
	r, err := gzip.NewReader(bytes.NewReader(c.State))
	if err != nil {
		return nil, fmt.Errorf("cannot decompress state: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(r, maxRestored+1))
	if err != nil {
		return nil, fmt.Errorf("cannot decompress state: %w", err)
	}
	if len(text) > maxRestored {
		return nil, fmt.Errorf("cannot restore a state of more than %d bytes", maxRestored)
	}
	s, err := DecodeState(text)
	if err == nil && s.Cluster == "" {
		err = errors.New("the saved state is of a cluster that had not begun")
	}
	return s, err
}

func (s *State) restore(c *Restore, by string) Result {
	saved, err := c.decode()
	if err != nil {
		return refuse(CodeInvalid, "snapshot", "%v", err)
	}
	if saved.Cluster != s.Cluster {
		return refuse(CodeRefused, "cluster", "the snapshot is of cluster %q, this one is %q", saved.Cluster, s.Cluster)
	}
	for _, w := range s.OpenSwitchovers() {
		return refuse(CodeRefused, BlockOpen, "switchover %d of %s is open here, hands may be at work", w.ID, w.Group).
			hint("wait for its end, or watchover abort " + w.Group)
	}
	if app := s.keptNow(); app != "" {
		return refuse(CodeRefused, "hands", "%s is being fenced, opened or reprotected just now", app).hint("try again when that has ended")
	}
	if r := saved.judgeOpen(c.Open); !r.Accepted {
		return r
	}
	generation := max(s.Generation, saved.Generation) + 1
	if generation > maxGeneration {
		return noGeneration()
	}
	s.replaceBy(saved)
	s.beginGeneration(generation, c.Open, "restore",
		fmt.Sprintf("restored to index %d of %s; what happened since is missing", saved.Index, saved.Time.Format(time.RFC3339)))
	s.dateHolds()
	s.bumpSerial()
	s.event("restored", "", "", fmt.Sprintf("the state of %s, index %d, is restored; generation %d begins", saved.Time.Format(time.RFC3339), saved.Index, s.Generation),
		map[string]string{"by": by, "cluster_id": saved.ClusterID})
	return Result{Accepted: true}
}

// keptNow names an app on which an attempt to keep an obligation is open: its hands would go on in the restored state, which may
// have that app as the writer.
func (s *State) keptNow() string {
	for _, name := range s.GroupNames() {
		for _, app := range s.Obliged(name) {
			a := s.Groups[name].Apps[app]
			if a.Mark != nil && a.Mark.Open != nil || a.Release != nil && a.Release.Open != nil {
				return app
			}
		}
	}
	return ""
}

// replaceBy takes over the policy and the groups of a saved state. Indexes in it are of another log, so whatever is compared
// with an index is set to this entry's.
func (s *State) replaceBy(saved *State) {
	old := s.Groups
	s.Policy, s.PolicyRevision, s.Groups = saved.Policy, s.Index, saved.Groups
	s.Serial = max(s.Serial, saved.Serial)
	if saved.ClusterID != s.ClusterID && !slices.Contains(s.Former, saved.ClusterID) {
		s.Former = appendBounded(s.Former, formerKept, saved.ClusterID)
	}
	if saved.EventSeq > s.EventSeq {
		s.Events, s.EventSeq = saved.Events, saved.EventSeq
	}
	for _, name := range s.GroupNames() {
		g := s.Groups[name]
		s.rebase(g)
		if o := old[name]; o != nil {
			g.Epoch = max(g.Epoch, o.Epoch)
			for k, n := range o.Counts {
				if g.Counts == nil {
					g.Counts = map[string]uint64{}
				}
				g.Counts[k] = max(g.Counts[k], n)
			}
		}
	}
}

// rebase makes a saved group one of this log. What the watchers said is forgotten: they may be others, and have to look again.
func (s *State) rebase(g *GroupState) {
	g.Outage = nil
	for _, a := range g.Apps {
		s.forget(a)
		for _, m := range []*Mark{a.Mark, a.Release} {
			if m != nil {
				m.Index = s.Index
			}
		}
	}
	for _, h := range []*Hold{g.Cooldown, g.Retry, g.AskedEnd} {
		if h != nil {
			h.Index = s.Index
		}
	}
	if g.Pause != nil {
		g.Pause.Index = s.Index
	}
	// The record may not be what was answered a moment ago, and caches may hold that.
	g.Switched = &Switched{Index: s.Index, TTL: uint32(s.Policy.Zone.TTL / time.Second)}
	if w := g.Switchover; w.Open() {
		if w.Held != 0 {
			w.Held = s.Index
		}
		for i := range w.Steps {
			if w.Steps[i].Waiting != 0 {
				w.Steps[i].Waiting = s.Index
			}
		}
	}
}
