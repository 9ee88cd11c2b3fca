package daemon

import (
	"context"
	"reflect"
	"sync"
	"time"

	"github.com/watchover-ha/watchover/internal/config"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// occasion is what makes the files worth another look before the next lookAgain.
type occasion struct {
	file     *config.File // as last read
	revision uint64       // of the policy
}

// askForLook has lookAtFiles look if the policy or this watcher's own file is another one. In a switchover states come fast.
func (k *desk) askForLook(state *failover.State) {
	now := occasion{k.d.configured(), state.PolicyRevision}
	if now == k.looked {
		return
	}
	k.looked = now
	select {
	case k.look <- struct{}{}:
	default:
	}
}

// lookAtFiles is the desk's eye on this machine's files until ctx ends. Files may be on a mount that hangs, so it has a
// goroutine of its own, which the desk waits for when it stops; every look is bounded (internal/localfile), so neither that nor the
// next look comes never.
func (k *desk) lookAtFiles(ctx context.Context) {
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	for {
		if state := k.d.node.State(); state.Policy != nil {
			k.noteMissing(ctx, state.Policy)
			k.noteFile(state)
			k.mu.Lock()
			first := !k.filesSeen
			k.filesSeen = true
			k.mu.Unlock()
			if first {
				k.wake()
			}
		}
		k.d.lookAtTrust(time.Now())
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		case <-k.look:
		}
	}
}

// noteMissing looks which files and variables of the policy this watcher lacks. One that hangs is as good as missing.
func (k *desk) noteMissing(ctx context.Context, p *failover.Policy) {
	lists := make([][]string, len(p.Groups))
	var looks sync.WaitGroup // side by side: those that hang take their time once, and not once for each group
	for i, g := range p.Groups {
		looks.Go(func() {
			lists[i] = k.d.missing(ctx, g)
		})
	}
	looks.Wait()
	if ctx.Err() != nil {
		return // what was not looked at to the end is not missing
	}
	var missing []failover.MissingFile
	for i, list := range lists {
		for _, file := range list {
			missing = append(missing, failover.MissingFile{Group: p.Groups[i].Name, File: file})
		}
	}
	k.mu.Lock()
	changed := !reflect.DeepEqual(missing, k.about.Missing)
	k.about.Missing = missing
	k.mu.Unlock()
	if !changed {
		return
	}
	for _, m := range missing {
		k.d.log.Warn().Str("group", m.Group).Str("file", m.File).Msg("a file or variable that the policy names is missing on this watcher, or cannot be used, or hangs")
	}
	k.wake()
}

// missing are the files and variables that a group names and that cannot be used here.
func (d *Daemon) missing(ctx context.Context, g failover.Group) []string {
	if d.o.outside != nil {
		return nil
	}
	return config.Missing(ctx, failover.Policy{Groups: []failover.Group{g}}, d.configured().Dir)
}

// noteFile compares this watcher's file with the policy in force. It is the file as it is on the disk, for after an apply that
// is the one in force, whoever has read it or not. One that cannot be read proposes nothing; then what was last read counts.
func (k *desk) noteFile(state *failover.State) {
	file, err := checks().Load(k.d.o.ConfigPath)
	if err != nil {
		file = k.d.configured()
		if text := err.Error(); text != k.unreadable {
			k.unreadable = text
			k.d.log.Warn().Err(oneLine(err)).Str("file", k.d.o.ConfigPath).Msg("the file cannot be used as it is now; a restart would fail")
		}
	} else {
		k.unreadable = ""
	}
	differs := !state.Policy.Equal(&file.Policy)
	k.mu.Lock()
	changed := differs != k.about.Differs
	k.about.Differs = differs
	k.mu.Unlock()
	if changed {
		k.wake()
	}
}

func (k *desk) fileDiffers() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.about.Differs
}
