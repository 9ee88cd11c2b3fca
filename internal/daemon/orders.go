package daemon

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/watchover-ha/watchover/internal/cluster"
	"github.com/watchover-ha/watchover/internal/config"
	"github.com/watchover-ha/watchover/internal/control"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// signalPatience is how long an order by signal looks for a leader. It is never queued.
const signalPatience = 5 * time.Second

// Switchover is SIGUSR1: it moves the only group, or the one that watcher.signals.switchover names.
func (d *Daemon) Switchover() {
	group, ok := d.signalled()
	if !ok {
		d.log.Warn().Msg("SIGUSR1 refused: there are several groups, set watcher.signals.switchover to one of them")
		return
	}
	d.order("SIGUSR1", failover.Command{Request: &failover.Request{Group: group, Signal: true}})
}

// Pause is SIGUSR2: it pauses the automation of all groups.
func (d *Daemon) Pause() {
	d.order("SIGUSR2", failover.Command{Pause: &failover.PauseOrder{Signal: true}})
}

func (d *Daemon) signalled() (string, bool) {
	if name := d.configured().Watcher.Signals.Switchover; name != "" {
		return name, true
	}
	names := d.node.State().GroupNames()
	if len(names) != 1 {
		return "", false
	}
	return names[0], true
}

// order sends what a signal means to the leader and logs what became of it.
func (d *Daemon) order(signal string, c failover.Command) (accepted bool) {
	c.By = "signal:" + d.node.Name()
	ctx, cancel := context.WithTimeout(context.Background(), signalPatience)
	defer cancel()
	result, err := d.propose(ctx, c)
	line := d.log.Info()
	if err != nil || !result.Accepted {
		line = d.log.Warn()
	}
	line.Err(err).Str("signal", signal).Bool("accepted", result.Accepted).Str("rule", result.Rule).Str("detail", result.Detail).Str("note", result.Note).Msg("order by signal")
	return err == nil && result.Accepted
}

// propose gives the command an id, so that it can be sent again when its outcome is unknown and is still applied once.
func (d *Daemon) propose(ctx context.Context, c failover.Command) (failover.Result, error) {
	if c.ID == "" {
		var id [16]byte
		if _, err := rand.Read(id[:]); err != nil {
			return failover.Result{}, err
		}
		c.ID = hex.EncodeToString(id[:])
	}
	result, err := d.node.Propose(ctx, c)
	switch {
	case errors.Is(err, cluster.ErrNoLeader):
		return result, fmt.Errorf("%w: %w", control.ErrNoLeader, err)
	case errors.Is(err, cluster.ErrUnknown):
		return result, fmt.Errorf("%w: %w", control.ErrUnknown, err)
	}
	return result, err
}

// Reload is SIGHUP: it reads the file again. Zone and groups are proposed only if the file has changed since this
// process last read it and the policy in force is still the one that it then held; anything else is for a person, with
// watchover apply. A file with faults changes nothing, and a proposal that fails leaves it possible to correct the file and
// send the signal again. The certificates are read again by themselves, whatever the file is like.
func (d *Daemon) Reload() {
	if m := d.o.Manager; m != nil {
		if err := m.Reloading(); err != nil {
			d.log.Warn().Err(err).Msg("the service manager does not listen")
		}
		defer func() { _ = m.Ready() }() // if it did not listen before, nothing is new
	}
	d.reload()
}

func (d *Daemon) reload() {
	file, err := checks().Load(d.o.ConfigPath)
	if err != nil {
		d.reloadTrust(d.configured())
		d.log.Error().Err(err).Str("file", d.o.ConfigPath).Msg("cannot read the file again, nothing is changed")
		return
	}
	d.mu.Lock()
	old := d.base
	d.file, d.base = file, file
	d.mu.Unlock()
	if err := d.control.SetOperators(file.Watcher.Operators); err != nil {
		d.log.Warn().Err(err).Msg("not all operators are users of this machine")
	}
	d.reloadTrust(file)
	if d.o.SetLevel != nil {
		d.o.SetLevel(file.Watcher.Log.Level)
	}
	if keys := laterKeys(d.began, file); len(keys) > 0 {
		d.log.Warn().Strs("keys", keys).Msg("the file differs from what this watcher runs with in keys that are not taken up now, they count from its next start")
	}
	d.desk.wake()
	state := d.node.State()
	switch judgeFile(state.Policy, old, file) {
	case fileEarly:
		d.log.Info().Msg("file read again; the cluster has no policy yet")
	case fileInForce:
		d.log.Info().Uint64("policy_revision", state.PolicyRevision).Msg("file read again; its zone and groups are in force")
	case fileUnchanged:
		d.log.Warn().Msg("file read again and unchanged, but another policy is in force; use watchover apply to propose the file")
	case fileStale:
		d.log.Warn().Uint64("policy_revision", state.PolicyRevision).Msg("file read again, but the policy in force is not the one that the file was changed from; use watchover apply to propose the file")
	case fileToPropose:
		if !d.proposeFile(file, state) {
			d.mu.Lock()
			d.base = old
			d.mu.Unlock()
		}
	}
}

// proposeFile holds a file that changed against the watchers that there are, which need not be those that it names, as is
// done with a policy that comes over the socket. Then it orders it.
func (d *Daemon) proposeFile(file *config.File, state *failover.State) (accepted bool) {
	now, err := checksAmong(state.Members).Load(d.o.ConfigPath)
	switch {
	case err != nil:
		d.log.Error().Err(err).Str("file", d.o.ConfigPath).Msg("the file's zone and groups do not fit the cluster's watchers, nothing is proposed; correct it and send SIGHUP again")
		return false
	case now.Sum != file.Sum:
		d.log.Warn().Str("file", d.o.ConfigPath).Msg("the file changes while it is read, nothing is proposed; send SIGHUP again")
		return false
	}
	return d.order("SIGHUP", failover.Command{SetPolicy: &failover.SetPolicy{Revision: state.PolicyRevision, Policy: file.Policy}})
}

// laterKeys are the keys of this machine's part, and of what it shares, that differ from what the process began with and
// that a reload does not take up. cluster.watchers is not among them: it is read only when a cluster begins.
func laterKeys(began, file *config.File) (keys []string) {
	a, b := began.Watcher, file.Watcher
	for _, k := range []struct {
		key  string
		same bool
	}{
		{"watcher.name", a.Name == b.Name},
		{"watcher.data_dir", a.DataDir == b.DataDir},
		{"watcher.socket", a.Socket == b.Socket},
		{"watcher.socket_group", a.SocketGroup == b.SocketGroup},
		{"watcher.listen", a.Listen == b.Listen},
		{"watcher.dns_listen", slices.Equal(a.DNSListen, b.DNSListen)},
		{"watcher.http_listen", a.HTTPListen == b.HTTPListen},
		{"watcher.log.format", a.Log.Format == b.Log.Format},
		{"cluster.name", began.Cluster.Name == file.Cluster.Name},
		{"cluster.timing", began.Cluster.Timing == file.Cluster.Timing},
	} {
		if !k.same {
			keys = append(keys, k.key)
		}
	}
	return keys
}

// fileJudgement is what a file that was read again means for the policy in force.
type fileJudgement int

const (
	fileEarly     fileJudgement = iota // there is no policy yet; the cluster's first start takes the file
	fileInForce                        // the file says what is in force
	fileUnchanged                      // the file was not touched; somebody else changed the policy
	fileStale                          // the file was changed from a policy that is not in force any more
	fileToPropose
)

// judgeFile compares the policy in force with the file as it was last read and as it is now.
func judgeFile(inForce *failover.Policy, old, now *config.File) fileJudgement {
	switch {
	case inForce == nil:
		return fileEarly
	case inForce.Equal(&now.Policy):
		return fileInForce
	case now.Sum == old.Sum:
		return fileUnchanged
	case !inForce.Equal(&old.Policy):
		return fileStale
	}
	return fileToPropose
}
