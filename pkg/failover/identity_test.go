package failover

import "testing"

// One watcher that is wrong about the writer does not make every replica one of another cluster.
func TestWriterIdentity(t *testing.T) {
	told := func(role Role, id string, timeline uint64) *Observation {
		return &Observation{Role: role, ID: id, Timeline: timeline}
	}
	const primary, unknown = RolePrimary, RoleUnknown
	for name, test := range map[string]struct {
		sights   [3]*Observation // of w1, w2 and w3
		old      string          // whose sight is not fresh
		id       string
		timeline uint64
	}{
		"all agree":                      {[3]*Observation{told(primary, "db1", 3), told(primary, "db1", 3), told(primary, "db1", 3)}, "", "db1", 3},
		"the first is wrong":             {[3]*Observation{told(primary, "db0", 9), told(primary, "db1", 3), told(primary, "db1", 3)}, "", "db1", 3},
		"the last is wrong":              {[3]*Observation{told(primary, "db1", 3), told(primary, "db1", 3), told(primary, "db9", 9)}, "", "db1", 3},
		"one sees, two remember":         {[3]*Observation{told(unknown, "db0", 9), told(unknown, "db0", 9), told(primary, "db1", 3)}, "", "db1", 3},
		"as many for each":               {[3]*Observation{nil, told(primary, "db2", 2), told(primary, "db1", 3)}, "", "db2", 2},
		"one is behind":                  {[3]*Observation{told(primary, "db1", 4), told(primary, "db1", 3), told(primary, "db1", 3)}, "", "db1", 4},
		"one sees less than is known":    {[3]*Observation{told(primary, "db1", 3), told(unknown, "db1", 4), told(unknown, "db1", 4)}, "", "db1", 4},
		"all remember":                   {[3]*Observation{told(unknown, "db1", 3), told(unknown, "db1", 3), told(unknown, "db0", 9)}, "", "db1", 3},
		"cluster without timeline":       {[3]*Observation{told(primary, "db1", 0), told(unknown, "db1", 3), nil}, "", "db1", 3},
		"timeline without cluster":       {[3]*Observation{told(primary, "", 3), told(primary, "", 4), nil}, "", "", 4},
		"old sight of another":           {[3]*Observation{told(primary, "db0", 9), told(primary, "db1", 3), nil}, "w1", "db1", 3},
		"old sight, and a fresh primary": {[3]*Observation{told(primary, "db1", 9), told(primary, "db1", 3), nil}, "w1", "db1", 3},
		"old sight of the silent":        {[3]*Observation{told(primary, "db1", 4), told(unknown, "db1", 3), nil}, "w1", "db1", 4},
		"only old":                       {[3]*Observation{told(primary, "db1", 4), told(unknown, "", 0), nil}, "w1", "db1", 4},
		"nobody knows":                   {[3]*Observation{told(unknown, "", 0), nil, nil}, "", "", 0},
	} {
		p := defaultPlot()
		p.database = true
		w := begin(t, p)
		g := w.group("shop")
		g.Apps["main"].Reports = map[string]*Report{}
		for i, o := range test.sights {
			name := w.s.Members[i].Name
			g.Apps["main"].Reports[name] = &Report{Watcher: name, Boot: 1, Revision: g.Apps["main"].Revision, Database: o}
			if name == test.old {
				w.s.Member(name).About.Boot = 2 // it was started again and has not looked since
			}
		}
		if id, timeline := w.s.writerIdentity(g); id != test.id || timeline != test.timeline {
			t.Errorf("%s: %q on %d, want %q on %d", name, id, timeline, test.id, test.timeline)
		}
	}
}

// Who the writer is outlives the watchers that saw it, and their reports; another database is another one.
func TestWriterIdentityIsKept(t *testing.T) {
	p := defaultPlot()
	p.database = true
	w := begin(t, p)
	g := w.group("shop")
	for _, m := range w.s.Members[:2] {
		g.Apps["main"].Reports[m.Name] = &Report{Watcher: m.Name, Boot: m.About.Boot, Revision: g.Apps["main"].Revision, Database: &Observation{Role: RolePrimary, ID: "db1", Timeline: 2}}
	}
	w.s.Fresh = w.s.memberNames()
	w.s.noteWriter(g)
	g.Apps["main"].Reports = map[string]*Report{}
	if id, timeline := w.s.writerIdentity(g); id != "db1" || timeline != 2 {
		t.Errorf("forgotten with the reports: %q on %d", id, timeline)
	}
	name := w.s.Members[2].Name
	g.Apps["main"].Reports[name] = &Report{Watcher: name, Database: &Observation{Role: RoleUnknown, ID: "db2"}}
	if id, timeline := w.s.writerIdentity(g); id != "db2" || timeline != 0 {
		t.Errorf("against what is told: %q on %d", id, timeline)
	}
}
