package control_test

import (
	"encoding/json"
	"testing"

	"github.com/watchover-ha/watchover/internal/control"
	"github.com/watchover-ha/watchover/pkg/client"
)

func members(t *testing.T, s *server) client.Members {
	t.Helper()
	response, text := s.ask(t, "GET", "/v1/members", "")
	var m client.Members
	if err := json.Unmarshal([]byte(text), &m); err != nil || response.StatusCode != 200 {
		t.Fatalf("%d %s", response.StatusCode, text)
	}
	return m
}

func TestMembers(t *testing.T) {
	s := startServer(t, up())
	m := members(t, s)
	if len(m.Members) != 3 || m.Quorum != 2 || m.Change != nil || *m.Leader != "w2" || m.Members[1].State != "leader" || !m.Members[0].Voter || m.Members[0].DNS == nil {
		t.Errorf("at first: %+v", m)
	}
	if response, text := s.ask(t, "POST", "/v1/members", `{"name":"w4","address":"w4.example.net:7653","dns":["192.0.2.4"]}`); response.StatusCode != 200 {
		t.Fatalf("%d %s", response.StatusCode, text)
	}
	m = members(t, s)
	if w := m.Members[3]; w.Voter || !w.Joining || w.Silent || m.Quorum != 2 || m.Change == nil || m.Change.Kind != "add" || m.Change.By != "uid:0" || m.Change.WaitsFor != "w4 has not been started yet" {
		t.Errorf("while it joins: %+v, %+v", m, m.Change)
	}
	s.EditLocal(func(l *control.Local) { l.MembersWait = "w4 catches up: 70 entries to go" })
	if m = members(t, s); m.Change.WaitsFor != "w4 catches up: 70 entries to go" {
		t.Errorf("what the leader says: %+v", m.Change)
	}
	if response, text := s.ask(t, "DELETE", "/v1/members/w1", ""); response.StatusCode != 409 {
		t.Errorf("while another change is under way: %d %s", response.StatusCode, text)
	}
	for _, name := range []string{"w4", "w3"} {
		if response, text := s.ask(t, "DELETE", "/v1/members/"+name, ""); response.StatusCode != 200 {
			t.Errorf("%d %s", response.StatusCode, text)
		}
	}
	if m = members(t, s); len(m.Members) != 2 || m.Change != nil {
		t.Errorf("at last: %+v", m)
	}
}

func TestMembersWithoutLeader(t *testing.T) {
	s := startServer(t, up())
	s.EditLocal(func(l *control.Local) { l.Leader, l.HasQuorum = "", false })
	if m := members(t, s); m.Leader != nil || len(m.Members) != 3 {
		t.Errorf("%+v", m)
	}
}

func TestTransfer(t *testing.T) {
	s := startServer(t, up())
	for _, test := range []struct{ body, leader, note string }{
		{`{"to":"w2"}`, "w2", "w2 leads already"}, {`{"to":"w3"}`, "w3", ""}, {``, "w1", ""},
	} {
		response, text := s.ask(t, "POST", "/v1/members/transfer", test.body)
		var reply client.Transferred
		if err := json.Unmarshal([]byte(text), &reply); err != nil || response.StatusCode != 200 || reply.Leader != test.leader || reply.Note != test.note {
			t.Errorf("%s: %d %s", test.body, response.StatusCode, text)
		}
	}
	events := s.State().Events
	if e := events[len(events)-1]; e.Type != "transfer" || e.Data["by"] != "uid:0" {
		t.Errorf("it is not recorded who asked: %+v", e)
	}
}
