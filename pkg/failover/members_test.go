package failover

import (
	"fmt"
	"strings"
	"testing"
)

// A snapshot from before watchers could be added: everybody in it counts, and the data directories' ids come in by and by.
func TestOldSnapshotsMembersCount(t *testing.T) {
	w := newWorld(t)
	w.init(defaultPlot())
	text, err := w.s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{`"joining"`, `"node"`, `"change"`, `"removed"`} {
		if strings.Contains(string(text), field) {
			t.Fatalf("a state without changes holds %s: older versions could not have written it", field)
		}
	}
	s, err := DecodeState(text)
	if err != nil || s.Voters() != 3 || s.Majority() != 2 {
		t.Fatalf("%d voters, %v", s.Voters(), err)
	}
	s, _ = s.Apply(Entry{Index: s.Index + 1, Term: s.Term, Command: Command{Term: s.Term, Time: s.Time, Reports: &Reports{About: map[string]About{
		"w1": {Boot: 2, Seq: 1, Life: "a", Node: "d1"}, "w2": {Boot: 2, Seq: 1, Life: "b", Node: "d1"},
	}}}})
	if s.Member("w1").Node != "d1" || s.Member("w2").Node != "" || s.Member("w1").About.Node != "" {
		t.Errorf("bound %q and %q", s.Member("w1").Node, s.Member("w2").Node)
	}
	if _, err := DecodeState(must(s.Encode())); err != nil {
		t.Error(err)
	}
}

func must(text []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return text
}

func TestPolicyCannotTakeAWatchersName(t *testing.T) {
	w := newWorld(t)
	w.init(defaultPlot())
	p := defaultPlot().policy()
	p.Groups[0].Record = "w2"
	if r := w.apply(Command{SetPolicy: &SetPolicy{Revision: w.s.PolicyRevision, Policy: p}}); r.Accepted || !strings.Contains(r.Detail, "the name of a watcher") {
		t.Errorf("%+v", r)
	}
}

// What no operator's program sends, and one watcher too many.
func TestOddCommandsAreRefused(t *testing.T) {
	w := newWorld(t)
	w.init(defaultPlot())
	for len(w.s.Members) < maxMembers {
		w.s.Members = append(w.s.Members, Member{Name: fmt.Sprintf("x%d", len(w.s.Members))})
	}
	tests := []struct {
		rule string
		c    Command
	}{
		{"too_many_watchers", Command{AddMember: &AddMember{Name: "w9", Address: "w9:7653", DNS: []string{"192.0.2.9"}}}},
		{"for", Command{Pause: &PauseOrder{For: -1}}},
		{"empty", Command{}},
	}
	for _, test := range tests {
		if r := w.apply(test.c); r.Accepted || r.Rule != test.rule {
			t.Errorf("%+v, want %s", r, test.rule)
		}
	}
}
