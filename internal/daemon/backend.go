package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/watchover-ha/watchover/internal/cluster"
	"github.com/watchover-ha/watchover/internal/control"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// stuckAfter is how long the log may stand behind what is committed before readiness says so.
const stuckAfter = 5 * time.Second

// backend is the daemon as the socket sees it.
type backend struct{ d *Daemon }

func (b backend) State() *failover.State { return b.d.node.State() }
func (b backend) Watch() <-chan struct{} { return b.d.node.Watch() }

func (b backend) Propose(ctx context.Context, c failover.Command) (failover.Result, error) {
	if c.AddMember != nil {
		if why := b.d.checkMember(c.AddMember); why != nil {
			return failover.Result{Code: failover.CodeInvalid, Detail: why.Error()}, nil
		}
	}
	return b.d.propose(ctx, c)
}

// Transfer has leadership handed over.
func (b backend) Transfer(ctx context.Context, to string) (failover.Result, error) {
	err := b.d.node.Transfer(ctx, to)
	switch {
	case err == nil:
		return failover.Result{Accepted: true}, nil
	case errors.Is(err, cluster.ErrNoSuccessor):
		return failover.Result{Code: failover.CodeRefused, Rule: failover.RuleNotHeard, Detail: err.Error()}, nil
	case errors.Is(err, cluster.ErrTransferred):
		return failover.Result{Code: failover.CodeRefused, Rule: "transferred", Detail: err.Error(), Hint: "`watchover members list` shows who leads now"}, nil
	case errors.Is(err, cluster.ErrNoLeader):
		return failover.Result{}, fmt.Errorf("%w: %w", control.ErrNoLeader, err)
	}
	return failover.Result{}, err
}

// Rehearse has every watcher try what a group's plan needs.
func (b backend) Rehearse(ctx context.Context, group string) []failover.Finding {
	ctx, cancel := context.WithTimeout(ctx, askingTime)
	defer cancel()
	return b.d.node.Rehearse(ctx, group)
}

// Local is what only this watcher knows.
func (b backend) Local() control.Local {
	d, status := b.d, b.d.node.Status()
	file := d.configured()
	l := control.Local{
		Watcher: d.node.Name(), Version: d.o.Version, Cluster: file.Cluster.Name, Leader: status.Leader, Term: status.Term,
		CommitIndex: status.CommitIndex, AppliedIndex: status.AppliedIndex, HasQuorum: status.HasQuorum,
		Watchers: map[string]control.WatcherLocal{}, Databases: map[string]map[string]failover.Observation{},
		Probes: map[string]map[string][]control.ProbeLocal{},
	}
	l.Waiting, l.MembersWait = status.Waiting, status.MembersWait
	state := d.node.State()
	isolated, since := d.node.Isolation()
	select {
	case <-d.node.Current():
	default:
		l.CatchingUp = true
	}
	if !l.HasQuorum {
		l.NoQuorumFor = since
	}
	if space := d.node.Space(); space.Low {
		l.LowDisk = fmt.Sprintf("%s in %s", space, d.began.Watcher.DataDir)
	}
	l.Behind, l.ZoneLacks = behind(status), d.voice.lacks()
	if state.Policy != nil {
		l.Isolated = isolated && since >= state.Policy.Zone.Isolation.After
		l.FileDiffers = d.desk.fileDiffers()
		b.databases(&l, state)
		if status.Waiting == "" && since >= stuckAfter && status.CommitIndex > status.AppliedIndex {
			l.Stuck = fmt.Sprintf("applied up to %d of %d for %s", status.AppliedIndex, status.CommitIndex, since.Round(time.Second))
		}
	}
	for _, p := range status.Peers {
		l.Watchers[p.Name] = control.WatcherLocal{Address: p.Address, State: p.State, Silent: p.Silent, Version: p.Version}
	}
	for _, v := range d.prober.Verdicts() {
		if l.Probes[v.Group] == nil {
			l.Probes[v.Group] = map[string][]control.ProbeLocal{}
		}
		for _, name := range sortedKeys(v.Probes) {
			r := v.Probes[name]
			l.Probes[v.Group][v.App] = append(l.Probes[v.Group][v.App], control.ProbeLocal{Name: name, Up: r.Verdict == failover.VerdictUp, Reason: r.Reason, Since: r.At})
		}
	}
	l.Certificates = d.trust.certificate()
	for _, c := range d.prober.Certificates() {
		l.Certificates = append(l.Certificates, control.Certificate{Name: c.Group + "/" + c.App + "/" + c.Probe, Expires: c.Expires})
	}
	return l
}

// behind is why this watcher's log does not follow the leader's; empty: it does.
func behind(s cluster.Status) string {
	switch {
	case s.Waiting != "":
		return "takes no part: " + s.Waiting
	case s.Behind >= stuckAfter:
		return fmt.Sprintf("hears the leader, but its log has stood still at %d for %s", s.CommitIndex, s.Behind.Round(time.Second))
	}
	return ""
}

func (b backend) databases(l *control.Local, state *failover.State) {
	for _, g := range state.Policy.Groups {
		for _, app := range g.Apps {
			s, ok := b.d.observer.Sight(g.Name, app.Name)
			if !ok || s.Database == nil {
				continue
			}
			if l.Databases[g.Name] == nil {
				l.Databases[g.Name] = map[string]failover.Observation{}
			}
			l.Databases[g.Name][app.Name] = *s.Database
		}
	}
}

// snapshots is the form in which the cluster keeps states in files.
type snapshots struct{}

func (snapshots) Write(w io.Writer, s *failover.State) error { return cluster.WriteSnapshot(w, s) }

func (snapshots) Read(r io.Reader) (*failover.State, error) { return cluster.ReadSnapshot(r) }
