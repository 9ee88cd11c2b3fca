package failover

import "testing"

// A group under another name is a new group, whose first app would be active: the record would move without a switchover.
func TestRenameMustNotMoveTheRecord(t *testing.T) {
	group := func(name, record string, apps ...string) Group {
		g := Group{Name: name, Record: record}
		for _, app := range apps {
			g.Apps = append(g.Apps, App{Name: app})
		}
		return g
	}
	s := NewState()
	s.Policy = &Policy{Groups: []Group{group("shop", "shop", "main", "standby")}}
	s.Groups["shop"] = &GroupState{Name: "shop", Active: "standby", Writer: "standby",
		Apps: map[string]*AppState{"main": {Name: "main"}, "standby": {Name: "standby"}}}
	for _, test := range []struct {
		name    string
		now     Group
		refused bool
	}{
		{"same record, other app first", group("store", "shop", "main", "standby"), true},
		{"same record, active app first", group("store", "shop", "standby", "main"), false},
		{"another record", group("store", "store", "main", "standby"), false},
	} {
		if why := s.inUse(&Policy{Groups: []Group{test.now}}); (why != "") != test.refused {
			t.Errorf("%s: %q", test.name, why)
		}
	}
}
