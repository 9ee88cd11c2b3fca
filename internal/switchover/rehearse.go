package switchover

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// rehearser is a database that can tell, changing nothing, whether the plan's steps on it would be allowed and quick.
type rehearser interface {
	// Rehearse looks at privileges and settings. writer: it is the database that takes the writes now, so it would be
	// frozen; else it would be promoted.
	Rehearse(ctx context.Context, writer bool) []failover.Finding
}

// Rehearse tries on this watcher what the steps of a group's plan would need of its apps, with the real credentials and
// changing nothing: does the maintenance switch tell how it stands, does the database let us in, is it what it should be,
// may we do what we would have to do. It ends with ctx at the latest.
func (o *Observer) Rehearse(ctx context.Context, state *failover.State, group string) []failover.Finding {
	p, g := state.Policy.Group(group), state.Groups[group]
	if p == nil || g == nil {
		return nil
	}
	found := make([][]failover.Finding, len(p.Apps))
	var trying sync.WaitGroup
	for i := range p.Apps {
		trying.Go(func() {
			app := &p.Apps[i]
			id := identity{group: group, app: app.Name, fresh: true}
			found[i] = append(o.rehearseMaintenance(ctx, app, id), o.rehearseDatabase(ctx, app, id, app.Name == g.Writer)...)
			for k := range found[i] {
				found[i][k].App = app.Name
			}
		})
	}
	trying.Wait()
	var all []failover.Finding
	for _, list := range found {
		all = append(all, list...)
	}
	return all
}

func (o *Observer) rehearseMaintenance(ctx context.Context, app *failover.App, id identity) []failover.Finding {
	f := failover.Finding{Check: "maintenance", OK: true}
	switch {
	case app.Maintenance == nil:
		return nil
	case app.Maintenance.Check == nil:
		f.Detail = "has no check; on and off are not tried, since that would change something"
		return []failover.Finding{f}
	}
	is, err := maintenance{out: o.out, policy: app.Maintenance}.state(ctx, id)
	if err != nil {
		f.OK, f.Detail, f.Certain = false, err.Error(), errors.Is(err, errDenied)
	} else {
		f.Detail = "it is " + string(is)
	}
	return []failover.Finding{f}
}

func (o *Observer) rehearseDatabase(ctx context.Context, app *failover.App, id identity, writer bool) []failover.Finding {
	if app.Database == nil {
		return nil
	}
	f := failover.Finding{Check: "database"}
	db, err := o.out.database(app.Database, id)
	if err != nil {
		f.Detail, f.Certain = err.Error(), true
		return []failover.Finding{f}
	}
	defer db.Close()
	seen, err := db.Observe(ctx)
	if err != nil {
		f.Detail = err.Error()
	} else {
		f.OK, f.Detail = rightRole(seen, writer)
	}
	list := []failover.Finding{f}
	if r, ok := db.(rehearser); ok {
		list = append(list, r.Rehearse(ctx, writer)...)
	}
	return list
}

// rightRole compares what a database is with what it should be. What it is instead is judged by the rules in their own
// words (roles_disagree, not_replica, not_streaming), so it is no certain fault here.
func rightRole(o failover.Observation, writer bool) (bool, string) {
	switch {
	case writer && o.Role != failover.RolePrimary:
		return false, fmt.Sprintf("it should be the primary, it is %s", o.Role)
	case writer && o.Frozen:
		return false, "it is the primary and frozen"
	case writer:
		return true, "it is the primary and takes writes"
	case o.Role != failover.RoleReplica:
		return false, fmt.Sprintf("it should be a replica, it is %s", o.Role)
	case !o.Streaming:
		return false, "it is a replica and does not receive"
	}
	return true, "it is a replica and receives"
}
