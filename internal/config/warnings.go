package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/watchover-ha/watchover/pkg/failover"
)

func (r *reader) warn(v value, message string) {
	r.warnings = append(r.warnings, fmt.Sprintf("%s:%d: %s: %s", r.name, v.line, v.path, message))
}

// warnings says what a valid file allows but its writer probably does not want.
func warnings(f *File) []string {
	out := watcherWarnings(f.Cluster)
	runs := map[string]string{} // argv of a database's role -> group
	for _, g := range f.Policy.Groups {
		out = append(out, groupWarnings(g)...)
		for _, a := range g.Apps {
			if a.Database == nil || a.Database.Exec == nil {
				continue
			}
			// A program may tell groups apart by WATCHOVER_GROUP, so this is not refused; but a database belongs to one
			// group only, and the same command line is how it is given to two.
			argv := strings.Join(a.Database.Exec.Role, "\x00")
			if other, ok := runs[argv]; ok && other != g.Name {
				out = append(out, fmt.Sprintf("groups %s and %s run the same database programs: a database belongs to one group only", other, g.Name))
			}
			runs[argv] = g.Name
		}
	}
	return slices.Compact(out)
}

func watcherWarnings(c Cluster) []string {
	var out []string
	switch n := len(c.Watchers); {
	case n == 1:
		out = append(out, "a cluster of one watcher is for trials: its own trouble looks like the app's, and nobody takes over")
	case n%2 == 0:
		out = append(out, fmt.Sprintf("%d watchers survive no more failures than %d do; use three or five", n, n-1))
	case n > 7:
		out = append(out, fmt.Sprintf("%d watchers make every decision slower; three or five are enough", n))
	}
	owner := map[netip.Addr]string{}
	for _, name := range memberNames(c) {
		for _, ip := range c.Watchers[name].DNS {
			if other, taken := owner[ip]; taken && !ip.IsLoopback() {
				out = append(out, fmt.Sprintf("watchers %s and %s share the DNS address %s: they fail together", other, name, ip))
			}
			owner[ip] = name
		}
	}
	return out
}

func groupWarnings(g failover.Group) []string {
	var out []string
	for i, a := range g.Apps {
		for _, b := range g.Apps[i+1:] {
			if slices.Equal(slices.Sorted(slices.Values(a.Address)), slices.Sorted(slices.Values(b.Address))) {
				out = append(out, fmt.Sprintf("apps %s and %s of group %s have the same addresses: a switch between them changes no DNS answer", a.Name, b.Name, g.Name))
			}
		}
	}
	return out
}
