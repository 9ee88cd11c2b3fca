package cluster

import (
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// maxReports bounds the apps that a watcher reports on.
const maxReports = 4096

// reportKey names an app; the empty one stands for what a watcher says of itself.
type reportKey struct{ group, app string }

func keyOf(r failover.Report) reportKey { return reportKey{r.Group, r.App} }

// reports are the newest things this watcher has to say. They are level-triggered: what the state does not show is sent
// with every heartbeat until it does, whoever leads.
type reports struct {
	watcher string
	boot    uint64
	life    string // see failover.Life
	node    string // id of the data directory

	mu    sync.Mutex
	seq   uint64                        // guarded by mu: of the last change
	kept  map[reportKey]failover.Report // guarded by mu
	about failover.About                // guarded by mu
}

func newReports(watcher string, boot uint64, version string) *reports {
	return &reports{
		watcher: watcher, boot: boot, seq: 1, kept: map[reportKey]failover.Report{},
		about: failover.About{Boot: boot, Seq: 1, Version: version, Unseen: true},
	}
}

// identify says who speaks: the process's life and the data directory's id. It is called before the first use.
func (r *reports) identify(life, node string) {
	r.life, r.node = life, node
	r.about.Life, r.about.Node = life, node
}

// Report takes this watcher's newest verdicts and what it says of itself, and sees to it that the state shows them: what
// changed is sent to the leader at once, and again with every heartbeat until it is committed. Watcher, Boot and Seq are
// filled in here, an empty About.Version too. Apps that are left out keep their last report. A report on an app that the state does not know, or with
// another Revision than the state's, waits until the state is ready for it.
func (n *Node) Report(list []failover.Report, about failover.About) {
	changed, dropped := n.reports.set(list, about, n.o.Version, n.State())
	if dropped > 0 {
		if ok, _ := n.limit.allow("too many reports"); ok {
			n.log.Error().Int("dropped", dropped).Int("limit", maxReports).Msg("reports were dropped: there are too many apps")
		}
	}
	if changed {
		n.wake()
	}
}

func (r *reports) set(list []failover.Report, about failover.About, version string, s *failover.State) (changed bool, dropped int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, report := range list {
		key := keyOf(report)
		old, had := r.kept[key]
		report.Watcher, report.Boot, report.Seq = r.watcher, r.boot, old.Seq
		report.Since = report.Since.UTC()
		if had && reflect.DeepEqual(old, report) {
			continue
		}
		if !had && !r.makeRoom(s) {
			dropped++
			continue
		}
		r.seq++
		report.Seq = r.seq
		r.kept[key] = report
		changed = true
	}
	if about.Version == "" {
		about.Version = version
	}
	about.Boot, about.Seq, about.Life, about.Node = r.boot, r.about.Seq, r.life, r.node
	if !reflect.DeepEqual(about, r.about) {
		r.seq++
		about.Seq = r.seq
		r.about = about
		changed = true
	}
	return changed, dropped
}

// makeRoom forgets apps that are no longer in the state if there are too many.
func (r *reports) makeRoom(s *failover.State) bool {
	if len(r.kept) < maxReports {
		return true
	}
	for key := range r.kept {
		if app(s, key) == nil {
			delete(r.kept, key)
		}
	}
	return len(r.kept) < maxReports
}

// pending is what s does not show yet. Held tells that something waits for a newer state.
func (r *reports) pending(s *failover.State) (list []failover.Report, about *failover.About, held bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	held = s.Cluster == ""
	for key, report := range r.kept {
		a := app(s, key)
		switch {
		case a == nil || a.Revision != report.Revision:
			held = true
		case !shown(s, report):
			list = append(list, report)
		}
	}
	slices.SortFunc(list, func(a, b failover.Report) int {
		if c := strings.Compare(a.Group, b.Group); c != 0 {
			return c
		}
		return strings.Compare(a.App, b.App)
	})
	if s.Cluster != "" && !aboutShown(s, r.watcher, r.about) {
		copied := r.about
		about = &copied
	}
	return list, about, held
}

func app(s *failover.State, key reportKey) *failover.AppState {
	g := s.Groups[key.group]
	if g == nil {
		return nil
	}
	return g.Apps[key.app]
}

// shown reports whether the state holds r or a newer report of the same watcher.
func shown(s *failover.State, r failover.Report) bool {
	a := app(s, keyOf(r))
	if a == nil {
		return false
	}
	have := a.Reports[r.Watcher]
	return have != nil && !older(have.Boot, have.Seq, r.Boot, r.Seq)
}

func aboutShown(s *failover.State, watcher string, about failover.About) bool {
	for _, m := range s.Members {
		if m.Name == watcher {
			return !older(m.About.Boot, m.About.Seq, about.Boot, about.Seq)
		}
	}
	return false
}

func older(boot, seq, thanBoot, thanSeq uint64) bool {
	return boot < thanBoot || boot == thanBoot && seq < thanSeq
}
