package daemon

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/watchover-ha/watchover/internal/config"
	"github.com/watchover-ha/watchover/internal/nameserver"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// checkMember judges what only the parts know of a watcher that is to be added: whether the others could reach it, and
// whether the zone could still be served with its NS record.
func (d *Daemon) checkMember(c *failover.AddMember) error {
	if err := d.node.CheckAddress(c.Address); err != nil {
		return err
	}
	return checkNameserver(d.node.State(), c)
}

// checkNameserver builds the zone with the NS record of a watcher that is to be added.
func checkNameserver(state *failover.State, c *failover.AddMember) error {
	if state.Policy == nil || state.Member(c.Name) != nil {
		return nil
	}
	zone, err := zoneOf(state)
	if err == nil {
		_, err = nameserver.Build(zone)
	}
	if err != nil {
		return nil // said when it was published; not this order's fault
	}
	zone.Nameservers = append(zone.Nameservers, nameserverOf(c.Name, c.DNS))
	_, err = nameserver.Build(zone)
	return err
}

// noteMembers says once, at the start, how the file's watchers differ from the cluster's. The file is read for them only
// when a cluster begins; later they change by orders alone, so a difference is no fault.
func (k *desk) noteMembers(state *failover.State) {
	if k.membersSaid || state.Index < k.found {
		return
	}
	k.membersSaid = true
	if list := memberDifferences(k.d.configured().Cluster.Watchers, state.Members); len(list) > 0 {
		k.d.log.Info().Str("differences", strings.Join(list, "; ")).
			Msg("cluster.watchers in the file differs from the cluster's members; the members count, the file is only read when a cluster begins")
	}
}

func memberDifferences(file map[string]config.Member, members []failover.Member) []string {
	var list []string
	known := map[string]bool{}
	for _, m := range members {
		known[m.Name] = true
		f, ok := file[m.Name]
		switch {
		case !ok:
			list = append(list, m.Name+" is not in the file")
		case f.Address != m.Address:
			list = append(list, fmt.Sprintf("%s is at %s, not %s", m.Name, m.Address, f.Address))
		case !sameAddresses(f.DNS, m.DNS):
			list = append(list, m.Name+" has other dns addresses")
		}
	}
	for _, name := range sortedKeys(file) {
		if !known[name] {
			list = append(list, name+" is not a member")
		}
	}
	return list
}

func sameAddresses(a []netip.Addr, b []string) bool {
	texts := make([]string, len(a))
	for i, ip := range a {
		texts[i] = ip.String()
	}
	return slices.Equal(texts, b)
}
