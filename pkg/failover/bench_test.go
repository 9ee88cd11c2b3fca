package failover

import (
	"fmt"
	"testing"
)

// BenchmarkApply is one entry on a cluster with groups whose databases are seen. Its cost may rise with the number of groups, and
// not with its square.
func BenchmarkApply(b *testing.B) {
	for _, n := range []int{10, 100} {
		b.Run(fmt.Sprintf("groups=%d", n), func(b *testing.B) {
			p := defaultPlot()
			p.database, p.groups = true, nil
			for i := range n {
				p.groups = append(p.groups, fmt.Sprintf("shop%03d", i))
			}
			w := begin(b, p)
			w.allUp()
			for _, group := range p.groups { // each its own database, so that all are compared
				for _, app := range p.apps {
					v := w.saw(group, app, VerdictUp)
					v.database.ID = group
					w.must(Command{Reports: &Reports{Reports: w.reports(w.fresh, group, app, v)}})
				}
			}
			e := Entry{Term: w.term, Command: Command{Term: w.term, Time: w.clock, Fresh: w.fresh, Tick: &Tick{}}}
			s := w.s
			for b.Loop() {
				e.Index = s.Index + 1
				s, _ = s.Apply(e)
			}
		})
	}
}
