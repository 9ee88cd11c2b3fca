package main

import (
	"fmt"

	"github.com/watchover-ha/watchover/pkg/client"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// problem is something that a person should know before everything else. `status` shows the list, `check` its worst.
type problem struct {
	critical bool
	minor    bool   // worth a look, and the group is armed and ready all the same
	group    string // empty: the cluster's
	text     string
}

// problems lists what is wrong, the critical things first, otherwise in the order of the status.
func problems(s *client.Status) []problem {
	list := clusterProblems(s)
	for i := range s.Groups {
		list = append(list, groupProblems(&s.Groups[i], s.Cluster.HasQuorum)...)
	}
	var sorted []problem
	for _, critical := range []bool{true, false} {
		for _, p := range list {
			if p.critical == critical {
				sorted = append(sorted, p)
			}
		}
	}
	return sorted
}

func clusterProblems(s *client.Status) []problem {
	var list []problem
	if s.Cluster.Waiting != "" {
		list = append(list, problem{critical: true, text: s.Watcher + " does not take part yet: " + s.Cluster.Waiting})
	}
	switch {
	case !s.Cluster.HasQuorum:
		list = append(list, problem{critical: true, text: "no quorum: " + s.Watcher + " does not reach a majority of the watchers; the automation stands still"})
	case s.Cluster.Leader == nil:
		list = append(list, problem{text: "no leader at the moment"})
	}
	for _, w := range s.Cluster.Watchers {
		if w.Silent {
			list = append(list, problem{text: "watcher " + w.Name + " is silent"})
		}
	}
	return list
}

func groupProblems(g *client.Group, quorum bool) []problem {
	var list []problem
	add := func(critical bool, format string, args ...any) {
		list = append(list, problem{critical: critical, group: g.Name, text: fmt.Sprintf(format, args...)})
	}
	standby := false
	for _, a := range g.Apps {
		standby = standby || a.Role == "standby" && a.Ready
		switch {
		case a.Role != "active" || a.Health == "up":
		case a.Health == "down":
			add(true, "active app %s is down: %s", a.Name, whyDown(a))
		default:
			add(false, "health of active app %s is unknown: %s", a.Name, whyDown(a))
		}
	}
	protected := true // as far as the blockers below do not say otherwise
	for _, b := range g.Automation.Blockers {
		if b.Code == failover.BlockNoQuorum && !quorum {
			continue // said of the whole cluster
		}
		add(b.Code == failover.BlockHalted, "%s: %s", b.Code, b.Detail)
		protected = protected && b.Code != failover.BlockNoReadyTarget && b.Code != failover.BlockOpen
	}
	if !standby && protected {
		add(false, "no app is ready to take over")
	}
	for _, w := range g.Warnings {
		add(false, "%s: %s", w.Code, w.Detail)
		list[len(list)-1].minor = w.Code == "standby_not_in_maintenance" || w.Code == "file_differs"
	}
	return list
}

func whyDown(a client.App) string {
	for _, r := range a.NotReady {
		if r.Code == failover.NotReadyProbes && r.Detail != "" {
			return r.Detail
		}
	}
	for _, v := range a.Verdicts {
		if v.Verdict == "down" && v.Reason != "" {
			return v.Reason
		}
	}
	return "no reason was heard"
}
