package control

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// snapshotInFailover is the snapshot of the interface's description, word for word.
const snapshotInFailover = `{"watcher": "w1", "version": "0.1.0", "time": "2026-01-01T12:00:00.500Z",
 "cluster": {"name": "prod", "leader": "w2", "term": 4, "commit_index": 120, "applied_index": 120, "has_quorum": true, "policy_revision": 9,
   "watchers": [{"name": "w1", "address": "w1.example.net:7653", "state": "follower", "voter": true, "silent": false, "version": "0.1.0", "file_differs": false}]},
 "zone": {"name": "ha.example.com.", "serial": 1767268800},
 "groups": [{
   "name": "shop", "fqdn": "shop.ha.example.com.", "ttl": 300, "active": "main", "writer": "main", "epoch": 4,
   "phase": "switching", "warnings": [],
   "automation": {"mode": "automatic", "paused": false, "paused_by": "", "reason": "", "until": null, "armed": false,
     "blockers": [{"code": "open", "detail": "switchover 45 is running", "since": "2026-01-01T12:00:00.100Z"}]},
   "apps": [{"name": "main", "role": "active", "address": ["192.0.2.10"], "health": "down", "maintenance": "unknown", "marked": true, "certificate_expires": null,
     "verdicts": [{"watcher": "w1", "verdict": "down", "since": "2026-01-01T11:59:59.900Z", "reason": "connection refused", "fresh": true}],
     "ready": false, "not_ready": [{"code": "probes", "detail": "http: connection refused", "since": "2026-01-01T11:59:59.900Z"}],
     "database": {"kind": "postgres", "role": "unknown", "lag_bytes": null, "lag_seconds": null, "streaming": false}}],
   "switchover": {"id": 45, "kind": "failover", "from": "main", "to": "standby", "cause": "3 of 3 watchers: connection refused", "by": "quorum",
     "epoch": 4, "started_at": "2026-01-01T12:00:00.100Z", "ended_at": null, "result": "running", "at_risk": {"bytes": 0, "bytes_exact": false, "seconds": 0.4},
     "steps": [{"name": "maintenance-on", "app": "main", "state": "marked", "token": 47, "attempts": 1, "started_at": "2026-01-01T12:00:00.102Z", "ended_at": "2026-01-01T12:00:00.104Z", "error": "connection refused"}]},
   "last_switchover": null, "caches_expire_at": null}]}`

// stateInFailover is the state that the snapshot shows.
func stateInFailover() (*failover.State, Local, time.Time) {
	at := func(ms int) time.Time {
		return time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC).Add(time.Duration(ms) * time.Millisecond)
	}
	pointer := func(t time.Time) *time.Time { return &t }
	bytes, seconds := int64(0), 0.4
	s := failover.NewState()
	s.Cluster, s.Index, s.PolicyRevision, s.Serial, s.Fresh = "prod", 120, 9, 1767268800, []string{"w1"}
	s.Members = []failover.Member{{Name: "w1", Address: "w1.example.net:7653"}}
	s.Policy = &failover.Policy{
		Zone: failover.Zone{Name: "ha.example.com.", TTL: 5 * time.Minute},
		Groups: []failover.Group{{
			Name: "shop", Record: "shop", Failover: failover.Rules{Mode: failover.ModeAutomatic},
			Apps: []failover.App{{Name: "main", Address: []string{"192.0.2.10"}, Database: &failover.Database{Kind: "postgres"}}},
		}},
	}
	s.Groups["shop"] = &failover.GroupState{
		Name: "shop", Active: "main", Writer: "main", Epoch: 4,
		Blockers: []failover.Blocker{{Code: "open", Detail: "switchover 45 is running", Since: at(100)}},
		Apps: map[string]*failover.AppState{"main": {
			Name: "main", Health: failover.HealthDown, Mark: &failover.Mark{Switchover: 45},
			Reports:  map[string]*failover.Report{"w1": {Watcher: "w1", Verdict: failover.VerdictDown, Since: at(-100), Reason: "connection refused"}},
			NotReady: []failover.Blocker{{Code: "probes", Detail: "http: connection refused", Since: at(-100)}},
		}},
		Switchover: &failover.Switchover{
			ID: 45, Group: "shop", Kind: failover.KindFailover, From: "main", To: "standby", Cause: "3 of 3 watchers: connection refused",
			By: "quorum", Epoch: 4, StartedAt: at(100), Result: failover.ResultRunning,
			AtRisk: failover.AtRisk{Bytes: &bytes, Seconds: &seconds},
			Steps: []failover.Step{{
				Name: failover.StepMaintenanceOn, App: "main", State: failover.StepMarked, Token: 47, Attempts: 1,
				StartedAt: pointer(at(102)), EndedAt: pointer(at(104)), Error: "connection refused",
			}},
		},
	}
	l := Local{
		Watcher: "w1", Version: "0.1.0", Leader: "w2", Term: 4, CommitIndex: 120, AppliedIndex: 120, HasQuorum: true,
		Watchers: map[string]WatcherLocal{"w1": {Version: "0.1.0"}},
	}
	return s, l, at(500)
}

// added are the fields that the replies have beyond the interface's description.
var added = []string{
	"index", "groups.apps.releasing", "groups.apps.reprotecting", "groups.apps.probes", "groups.apps.database.frozen", "groups.switchover.group", "groups.switchover.exceptions",
	"groups.switchover.undoing", "groups.switchover.steps.output",
}

func TestSnapshotAsDescribed(t *testing.T) {
	var want, got any
	if err := json.Unmarshal([]byte(snapshotInFailover), &want); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(snapshot(stateInFailover()))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	compare(t, "", want, got)
	if t.Failed() {
		t.Logf("got %s", text)
	}
}

// compare wants every key and value of want in got, and no more keys than those in added.
func compare(t *testing.T, path string, want, got any) {
	t.Helper()
	switch want := want.(type) {
	case map[string]any:
		object, ok := got.(map[string]any)
		if !ok {
			t.Errorf("%s is %v, want an object", path, got)
			return
		}
		for key := range object {
			if _, ok := want[key]; !ok && !slices.Contains(added, join(path, key)) {
				t.Errorf("%s is a key too many", join(path, key))
			}
		}
		for key, value := range want {
			if _, ok := object[key]; !ok {
				t.Errorf("%s is missing", join(path, key))
				continue
			}
			compare(t, join(path, key), value, object[key])
		}
	case []any:
		list, ok := got.([]any)
		if !ok || len(list) != len(want) {
			t.Errorf("%s is %v, want %v", path, got, want)
			return
		}
		for i := range want {
			compare(t, path, want[i], list[i])
		}
	default:
		if want != got {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// TestSnapshotOfNothing shows that a watcher that knows nothing yet still answers, with lists and not with nulls.
func TestSnapshotOfNothing(t *testing.T) {
	l := Local{Watcher: "w2", Version: "0.1.0", Cluster: "prod", Watchers: map[string]WatcherLocal{"w3": {Address: "c:1"}, "w2": {Address: "b:1"}}}
	text, err := json.Marshal(snapshot(failover.NewState(), l, time.Unix(0, 0)))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"watcher":"w2","version":"0.1.0","time":"1970-01-01T00:00:00.000Z","index":0,` +
		`"cluster":{"name":"prod","leader":null,"term":0,"commit_index":0,"applied_index":0,"has_quorum":false,"policy_revision":0,"watchers":[` +
		`{"name":"w2","address":"b:1","state":"unknown","voter":true,"silent":false,"version":"0.1.0","file_differs":false},` +
		`{"name":"w3","address":"c:1","state":"unknown","voter":true,"silent":false,"version":"","file_differs":false}]},` +
		`"zone":{"name":"","serial":0},"groups":[]}`
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

func TestWatcherState(t *testing.T) {
	for _, test := range []struct {
		name string
		w    WatcherLocal
		l    Local
		want string
	}{
		{"told", WatcherLocal{State: "candidate"}, Local{Leader: "w1"}, "candidate"},
		{"the leader", WatcherLocal{}, Local{Leader: "w1"}, "leader"},
		{"another leads", WatcherLocal{}, Local{Leader: "w2"}, "follower"},
		{"silent", WatcherLocal{Silent: true}, Local{Leader: "w2"}, "unknown"},
		{"no leader", WatcherLocal{}, Local{}, "unknown"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := watcherState(failover.Member{Name: "w1"}, test.w, test.l); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if got := watcherState(failover.Member{Name: "w1", Joining: true}, test.w, test.l); got != "joining" {
				t.Errorf("while it joins: %q", got)
			}
		})
	}
}

func TestVerdictsOfEveryMember(t *testing.T) {
	s, l, now := stateInFailover()
	s.Members = append(s.Members, failover.Member{Name: "w2"}, failover.Member{Name: "w3"})
	app := s.Groups["shop"].Apps["main"]
	app.Revision = 7
	app.Reports["w1"].Revision = 6
	app.Reports["w2"] = &failover.Report{Watcher: "w2", Revision: 7, Verdict: failover.VerdictUp, Since: now}
	g, ok := groupView(s, l, "shop", now)
	if !ok {
		t.Fatal("no such group")
	}
	var got []string
	for _, v := range g.Apps[0].Verdicts {
		got = append(got, fmt.Sprintf("%s %s fresh=%t since=%t", v.Watcher, v.Verdict, v.Fresh, v.Since != nil))
	}
	want := []string{"w1 unknown fresh=true since=false", "w2 up fresh=false since=true", "w3 unknown fresh=false since=false"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestDatabaseSight(t *testing.T) {
	lag := int64(7)
	replica := failover.Observation{Role: failover.RoleReplica, LagBytes: &lag, Streaming: true}
	for _, test := range []struct {
		name  string
		live  map[string]map[string]failover.Observation
		fresh []string
		want  string
	}{
		{"own sight first", map[string]map[string]failover.Observation{"shop": {"main": {Role: failover.RolePrimary}}}, []string{"w1"}, "primary"},
		{"else a fresh watcher's", nil, []string{"w1"}, "replica"},
		{"never one that is not fresh", nil, nil, "unknown"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, l, now := stateInFailover()
			s.Groups["shop"].Apps["main"].Reports["w1"].Database = &replica
			s.Fresh, l.Databases = test.fresh, test.live
			g, _ := groupView(s, l, "shop", now)
			if got := g.Apps[0].Database; got.Role != test.want || (got.LagBytes != nil) != (test.want == "replica") {
				t.Errorf("got %+v, want role %s", got, test.want)
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	soon := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name   string
		change func(*failover.State, *Local)
		want   []string
	}{
		{"none", func(*failover.State, *Local) {}, nil},
		{"active app open", func(s *failover.State, _ *Local) {
			s.Policy.Groups[0].Apps[0].Maintenance = &failover.Maintenance{}
			s.Groups["shop"].Apps["main"].Maintenance = failover.SwitchOff
		}, nil},
		{"active app closed", func(s *failover.State, _ *Local) {
			s.Groups["shop"].Switchover = nil
			s.Groups["shop"].Apps["main"].Maintenance = failover.SwitchOn
		}, []string{warnActiveClosed}},
		{"active app closed by a switchover", func(s *failover.State, _ *Local) { s.Groups["shop"].Apps["main"].Maintenance = failover.SwitchOn }, nil},
		{"standby open", func(s *failover.State, _ *Local) {
			s.Policy.Groups[0].Apps[0].Maintenance = &failover.Maintenance{}
			s.Groups["shop"].Apps["main"].Maintenance = failover.SwitchOff
			s.Groups["shop"].Active = "other"
			s.Groups["shop"].Apps["other"] = &failover.AppState{}
		}, []string{warnStandbyOpen}},
		{"certificate", func(s *failover.State, _ *Local) { s.Groups["shop"].Apps["main"].Reports["w1"].Expires = &soon }, []string{warnCertificate}},
		{"watcher's certificate", func(s *failover.State, _ *Local) {
			late := soon.Add(watcherSoon)
			s.Members = append(s.Members, failover.Member{Name: "w2", About: failover.About{Expires: &soon}}, failover.Member{Name: "w3", About: failover.About{Expires: &late}})
		}, []string{warnCertificate}},
		{"own certificate, renewed", func(s *failover.State, l *Local) {
			s.Members[0].About.Expires, l.Certificates = &soon, []Certificate{{Name: "w1", Expires: soon.Add(watcherSoon)}}
		}, nil},
		{"own file", func(_ *failover.State, l *Local) { l.FileDiffers = true }, []string{warnFileDiffers}},
		{"another's file", func(s *failover.State, _ *Local) {
			s.Members = append(s.Members, failover.Member{Name: "w2", About: failover.About{Differs: true}})
		}, []string{warnFileDiffers}},
		{"zone", func(_ *failover.State, l *Local) { l.ZoneLacks = "answered without its other records" }, []string{warnZone}},
		{"disk", func(_ *failover.State, l *Local) { l.LowDisk = "1 MiB left" }, []string{warnLowDisk}},
		{"another watcher's disk", func(s *failover.State, _ *Local) {
			s.Members = append(s.Members, failover.Member{Name: "w2", About: failover.About{LowDisk: true}})
		}, []string{warnLowDisk}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, l, now := stateInFailover()
			test.change(s, &l)
			g, _ := groupView(s, l, "shop", now)
			var got []string
			for _, w := range g.Warnings {
				got = append(got, w.Code)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// TestWithoutQuorum shows that a watcher that is cut off does not call the group armed because the log once did.
func TestWithoutQuorum(t *testing.T) {
	s, l, now := stateInFailover()
	s.Groups["shop"].Blockers = nil
	if g, _ := groupView(s, l, "shop", now); !g.Automation.Armed || !g.Apps[0].Verdicts[0].Fresh {
		t.Fatalf("with a quorum: %+v", g.Automation)
	}
	l.HasQuorum, l.NoQuorumFor = false, time.Minute
	g, _ := groupView(s, l, "shop", now)
	b := g.Automation.Blockers
	if g.Automation.Armed || len(b) != 1 || b[0].Code != "no_quorum" || !b[0].Since.Equal(now.Add(-time.Minute)) {
		t.Errorf("got %+v", g.Automation)
	}
	if g.Apps[0].Verdicts[0].Fresh {
		t.Error("a verdict is fresh")
	}
	e := explanationView(failover.Explanation{WouldSwitch: true, Conditions: []failover.Condition{{Code: "no_quorum", Met: true}, {Code: "mode", Met: true}}}, l, now)
	if e.WouldSwitch || e.Conditions[0].Met || !e.Conditions[1].Met {
		t.Errorf("explain: %+v", e)
	}
	s.Groups["shop"].Blockers = []failover.Blocker{{Code: "no_quorum"}}
	if g, _ := groupView(s, l, "shop", now); len(g.Automation.Blockers) != 1 {
		t.Errorf("said twice: %+v", g.Automation.Blockers)
	}
}

func TestPausedUntil(t *testing.T) {
	s, l, now := stateInFailover()
	s.Groups["shop"].Pause = &failover.Pause{Since: now, By: "uid:7", Reason: "work", For: time.Hour}
	g, _ := groupView(s, l, "shop", now)
	if a := g.Automation; !a.Paused || a.PausedBy != "uid:7" || a.Reason != "work" || a.Until == nil || !a.Until.Equal(now.Add(time.Hour)) {
		t.Errorf("got %+v", a)
	}
	s.Groups["shop"].Pause.For = 0
	if g, _ := groupView(s, l, "shop", now); g.Automation.Until != nil {
		t.Errorf("a pause without end ends at %v", g.Automation.Until)
	}
}

func TestHistoryNewestFirst(t *testing.T) {
	s := failover.NewState()
	s.Groups["a"] = &failover.GroupState{History: []*failover.Switchover{{ID: 1, Group: "a"}, {ID: 4, Group: "a"}}}
	s.Groups["b"] = &failover.GroupState{History: []*failover.Switchover{{ID: 2, Group: "b"}, {ID: 3, Group: "b"}}}
	for _, test := range []struct {
		group string
		n     int
		want  []uint64
	}{{"", 10, []uint64{4, 3, 2, 1}}, {"", 3, []uint64{4, 3, 2}}, {"a", 1, []uint64{4}}, {"b", 9, []uint64{3, 2}}, {"c", 9, nil}} {
		var got []uint64
		for _, w := range historyView(s, test.group, test.n).Switchovers {
			got = append(got, w.ID)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%q, %d: got %v, want %v", test.group, test.n, got, test.want)
		}
	}
}
