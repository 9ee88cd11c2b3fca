package main

import (
	"strings"
	"testing"

	"github.com/watchover-ha/watchover/internal/control"
	"github.com/watchover-ha/watchover/pkg/failover"
)

func TestMembersVerbs(t *testing.T) {
	b := up()
	b.EditLocal(func(l *control.Local) {
		l.Watchers["w3"] = control.WatcherLocal{Address: "w3.example.net:7653", Silent: true, Version: "0.1.0"}
	})
	socket := serving(t, b)
	for _, test := range []struct {
		args   string
		answer string // on a terminal
		code   int
		want   string // a part of what is said
	}{
		{"members list", "", exitDone, "w3       silent    w3.example.net:7653       0.1.0\n"},
		{"members add w4 w4.example.net:7653", "", exitUsage, "needs an address for its NS record\nhint: --dns IP gives it"},
		{"members add w4 w4.example.net --dns 192.0.2.4", "", exitUsage, "want host:port"},
		{"members add w4 w4.example.net:7653 --dns 192.0.2.4,2001:db8::4", "", exitDone, "w4 joins; start it with an empty data_dir"},
		{"members list", "", exitDone, "w4       joining   w4.example.net:7653  192.0.2.4,2001:db8::4\n! add of w4 is under way: w4 has not been started yet\n"},
		{"status", "", exitDone, "w4       joining   w4.example.net:7653"},
		{"members add w5 w5.example.net:7653 --dns 192.0.2.5", "", exitRefused, "refused by member_change"},
		{"members remove w4 --yes", "", exitDone, "w4 is removed"},
		{"members add w1 w1.example.net:7653", "", exitDone, "w1 is a watcher already"},
		{"members add w1 w1.example.net:7654", "", exitDone, "start it there with that address"},
		{"members remove w9 --yes", "", exitUsage, "hint: `watchover members list` shows them"},
		{"members remove w3", "n\n", exitFailed, "without w3 there are 2 watchers: w1, w2; 2 of them decide"},
		{"members transfer w9", "", exitUsage, `there is no watcher "w9"`},
		{"members transfer w2", "", exitDone, "w2 leads already"},
		{"members transfer", "", exitDone, "w1 leads now"},
	} {
		if strings.HasPrefix(test.args, "members remove w3") {
			b.Commit(failover.Command{SettleMembers: &failover.Settle{Change: b.State().Change.Index}})
		}
		code, stdout, stderr := run(t, socket, test.answer, strings.Fields(test.args)...)
		if code != test.code || !strings.Contains(stdout+stderr, test.want) {
			t.Errorf("%s: exit %d, %q, %q; want exit %d and %q", test.args, code, stdout, stderr, test.code, test.want)
		}
	}
	if code, _, stderr := run(t, socket, "y\n", "members", "remove", "w3"); code != exitDone || b.State().Member("w3") != nil {
		t.Errorf("confirmed: exit %d, %q", code, stderr)
	}
	b.FailWith(control.ErrNoLeader)
	for _, args := range []string{"members add w7 w7.example.net:7653 --dns 192.0.2.7", "members remove w2 --yes", "members transfer"} {
		if code, _, stderr := run(t, socket, "", strings.Fields(args)...); code != exitNoLeader {
			t.Errorf("%s without a leader: exit %d, %q", args, code, stderr)
		}
	}
	if code, _, _ := run(t, socket, "", "members", "list"); code != exitDone {
		t.Errorf("list without a leader: exit %d", code)
	}
	if code, _, _ := run(t, "/nonexistent/socket", "", "members", "list"); code != exitUnreachable {
		t.Errorf("list without a daemon: exit %d", code)
	}
}

func TestMembersAsJSON(t *testing.T) {
	socket := serving(t, up())
	code, stdout, _ := run(t, socket, "", "members", "list", "-o", "json")
	if code != exitDone || !strings.HasPrefix(stdout, `{"leader":"w2","quorum":2,"members":[{"name":"w1","address":"w1.example.net:7653","dns":[]`) || !strings.HasSuffix(stdout, `"change":null}`+"\n") {
		t.Errorf("exit %d, %q", code, stdout)
	}
}
