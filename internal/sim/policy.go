package sim

import (
	"fmt"
	"strings"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

const (
	group = "shop"
	// ttl is how long clients keep an answer: shorter than is usual, so that they move within a run.
	ttl = 20 * time.Second
)

var appNames = []string{"main", "standby", "third"}

// policy is what the settings say, as the watchers know it.
func (s *Script) policy() failover.Policy {
	g := failover.Group{
		Name: group, Record: "shop", Steps: failover.StepSettings{},
		Probing: failover.Probing{Interval: 2 * time.Second, RetryInterval: time.Second, Timeout: time.Second, Fall: 2, Rise: 2},
		Failover: failover.Rules{Mode: failover.Mode(s.get("mode")), Quorum: s.number("quorum"), ConfirmFor: s.duration("confirm"),
			Cooldown: s.duration("cooldown"), RequireFence: failover.Fence(s.get("fence")),
			MaxLag: failover.MaxLag{Bytes: 1000, Time: s.duration("lag")}},
	}
	for i := range s.number("apps") {
		g.Apps = append(g.Apps, s.app(i))
	}
	for _, name := range failover.Plan {
		setting := failover.StepSetting{Timeout: 10 * time.Second, Tries: s.number("tries"), Backoff: time.Second}
		switch name {
		case failover.StepCatchUp, failover.StepVerify:
			setting.Timeout, setting.Tries = 20*time.Second, max(1, setting.Tries-1)
		case failover.StepPromote:
			setting.Timeout = 15 * time.Second
		}
		setting.Before, setting.After = s.hooks(name, "before"), s.hooks(name, "after")
		g.Steps[name] = setting
	}
	groups := []failover.Group{g}
	if s.yes("twin") {
		twin := g
		twin.Name, twin.Record = "twin", "twin"
		groups = append(groups, twin)
	}
	return failover.Policy{Zone: failover.Zone{Name: "ha.example.com.", TTL: ttl}, Groups: groups}
}

func (s *Script) app(i int) failover.App {
	name := appNames[i]
	do := func(verb string) failover.Action { return failover.Action{Exec: []string{"/ctl", name, verb}} }
	app := failover.App{Name: name, Address: []string{fmt.Sprintf("192.0.2.%d", 10+i)},
		Probes: []failover.Probe{{Kind: "tcp", Name: "tcp", Address: fmt.Sprintf("192.0.2.%d:80", 10+i)}}}
	if s.get("switch") != "none" {
		app.Maintenance = &failover.Maintenance{On: do("on"), Off: do("off")}
		if s.get("switch") == "checked" {
			check := do("check")
			app.Maintenance.Check = &check
		}
	}
	if s.yes("database") {
		app.Database = &failover.Database{Kind: "exec", Exec: &failover.DatabaseExec{
			Role: do("role").Exec, Freeze: do("freeze").Exec, Unfreeze: do("unfreeze").Exec, CatchUp: do("catch_up").Exec,
			StopReplication: do("stop").Exec, ResumeReplication: do("resume").Exec, Promote: do("promote").Exec}}
		if s.yes("reprotect") {
			app.Database.Reprotect = do("reprotect").Exec
		}
	}
	return app
}

func (s *Script) hooks(step failover.StepName, when string) []failover.Action {
	var list []failover.Action
	for _, hook := range strings.Split(s.get("hooks"), ",") {
		if hook == string(step)+":"+when {
			list = append(list, failover.Action{Exec: []string{"/ctl", "hook", hook}})
		}
	}
	return list
}
