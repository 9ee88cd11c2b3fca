package cluster

import (
	"context"
	"fmt"
	"sync"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// maxFindings bounds what one watcher tells of one rehearsal.
const maxFindings = 256

// rehearsal asks another watcher to rehearse a group's plan.
type rehearsal struct {
	Group string `json:"group"`
}

// rehearsed is its answer.
type rehearsed struct {
	Findings []failover.Finding `json:"findings"`
}

// Rehearse has every watcher rehearse a group's plan, this one included, all at the same time, and collects what they
// found. One that does not answer before ctx ends is a finding too. The context needs a deadline.
func (n *Node) Rehearse(ctx context.Context, group string) []failover.Finding {
	members := n.State().Members
	found := make([][]failover.Finding, len(members))
	var asking sync.WaitGroup
	for i, m := range members {
		asking.Go(func() {
			list, err := n.rehearseAt(ctx, m, group)
			if err != nil {
				list = []failover.Finding{{Check: "reach", Detail: err.Error()}}
			}
			for k := range list {
				list[k].Watcher = m.Name
			}
			found[i] = list[:min(len(list), maxFindings)]
		})
	}
	asking.Wait()
	var all []failover.Finding
	for _, list := range found {
		all = append(all, list...)
	}
	return all
}

func (n *Node) rehearseAt(ctx context.Context, m failover.Member, group string) ([]failover.Finding, error) {
	if m.Name == n.o.Name {
		return n.rehearse(ctx, group), nil
	}
	a, err := n.peer(m.Name).call(ctx, m.Address, request{Rehearse: &rehearsal{Group: group}})
	switch {
	case err != nil:
		return nil, err
	case a.Rehearsed == nil:
		return nil, fmt.Errorf("watcher %s did not rehearse: %s", m.Name, a.Error)
	}
	return a.Rehearsed.Findings, nil
}

func (n *Node) rehearse(ctx context.Context, group string) []failover.Finding {
	if n.o.OnRehearse == nil {
		return nil
	}
	return n.o.OnRehearse(ctx, group)
}

// takeRehearsal rehearses for another watcher. It has as long as the asker waits at most.
func (n *Node) takeRehearsal(ctx context.Context, r rehearsal) answer {
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	list := n.rehearse(ctx, r.Group)
	return answer{Rehearsed: &rehearsed{Findings: list[:min(len(list), maxFindings)]}}
}
