package daemon

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/internal/config"
	"github.com/watchover-ha/watchover/internal/probe"
	"github.com/watchover-ha/watchover/internal/switchover"
	"github.com/watchover-ha/watchover/pkg/failover"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.FixedZone("CET", 3600))

func emptyDesk(dir string) *desk {
	d := &Daemon{o: Options{Version: "0.1.0"}, log: zerolog.Nop(), file: &config.File{Dir: dir}}
	d.desk, d.stage = newDesk(d), newStage(d)
	return d.desk
}

func TestReportMergesVerdictAndSight(t *testing.T) {
	k := emptyDesk("/")
	database := &failover.Observation{Role: failover.RolePrimary}
	k.sighted(switchover.Sight{Group: "shop", App: "main", Maintenance: failover.SwitchOff, Database: database})
	if reports, _ := k.collect(); len(reports) != 0 {
		t.Errorf("an app without a verdict is reported: %+v", reports)
	}
	k.verdict(probe.Verdict{Group: "shop", App: "main", Revision: 7, Verdict: failover.VerdictDown, Reason: "connection refused", Probe: "http", Since: noon, Expires: noon})
	reports, about := k.collect()
	expires := noon.UTC()
	want := []failover.Report{{Group: "shop", App: "main", Revision: 7, Verdict: failover.VerdictDown, Reason: "http: connection refused",
		Since: noon.UTC(), Maintenance: failover.SwitchOff, Database: database, Expires: &expires}}
	if !reflect.DeepEqual(reports, want) {
		t.Errorf("got  %+v\nwant %+v", reports, want)
	}
	if about.Version != "0.1.0" {
		t.Errorf("version %q", about.Version)
	}
	k.verdict(probe.Verdict{Group: "shop", App: "other", Verdict: failover.VerdictUnknown, Reason: "no witness", Since: noon})
	reports, _ = k.collect()
	i := slices.IndexFunc(reports, func(r failover.Report) bool { return r.App == "other" })
	if r := reports[i]; r.Reason != "no witness" || r.Maintenance != failover.SwitchUnknown || r.Database != nil || r.Expires != nil {
		t.Errorf("an app never seen: %+v", r)
	}
	k.forgetBut(map[appName]bool{{"shop", "main"}: true})
	if reports, _ = k.collect(); len(reports) != 1 || reports[0].App != "main" {
		t.Errorf("an app that is gone is reported: %+v", reports)
	}
}

// A certificate is renewed while all is well: no verdict changes, and the old date must not be told for ever.
func TestARenewedCertificateIsReported(t *testing.T) {
	k := emptyDesk("/")
	v := probe.Verdict{Group: "shop", App: "main", Revision: 7, Verdict: failover.VerdictUp, Since: noon, Expires: noon}
	k.verdict(v)
	expires := func() time.Time {
		reports, _ := k.collect()
		return *reports[0].Expires
	}
	later := noon.Add(90 * 24 * time.Hour)
	other := v
	other.Revision, other.Expires = 8, later // of another certificate, perhaps
	k.noteExpiries([]probe.Verdict{other, {Group: "shop", App: "unknown", Expires: later}})
	if !expires().Equal(noon) {
		t.Errorf("%s was taken from another revision", expires())
	}
	v.Expires = later
	k.noteExpiries([]probe.Verdict{v})
	if !expires().Equal(later) {
		t.Errorf("expires %s, want %s", expires(), later)
	}
}

func TestUpSinceIsOfTheWholeTime(t *testing.T) {
	k := emptyDesk("/")
	say := func(v failover.Verdict) time.Time {
		k.verdict(probe.Verdict{Group: "shop", App: "main", Verdict: v})
		return k.upSince("shop", "main")
	}
	if !say(failover.VerdictDown).IsZero() {
		t.Error("up since though it is down")
	}
	first := say(failover.VerdictUp)
	if first.IsZero() || say(failover.VerdictUp) != first {
		t.Error("a second verdict up begins anew")
	}
	if !say(failover.VerdictUnknown).IsZero() {
		t.Error("up since though nobody knows")
	}
	if again := say(failover.VerdictUp); !again.After(first) {
		t.Errorf("came back at %s, was up since %s", again, first)
	}
}

func TestNewsFitInOneSlot(t *testing.T) {
	k := emptyDesk("/")
	k.wake()
	k.wake() // must not block
	<-k.news
	select {
	case <-k.news:
		t.Error("news twice")
	default:
	}
}

func TestMissingFilesAreNamedByGroup(t *testing.T) {
	dir := t.TempDir()
	k := emptyDesk(dir)
	action := func(program string) failover.Action { return failover.Action{Exec: []string{program}} }
	p := &failover.Policy{Groups: []failover.Group{
		{Name: "a", Apps: []failover.App{{Name: "x", Maintenance: &failover.Maintenance{On: action("on"), Off: action("off")}}}},
		{Name: "b", Notify: []failover.Action{action("page"), {Webhook: &failover.Webhook{URLEnv: "DESK_TEST_URL"}}}},
	}}
	program := func(name string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	program("on")
	k.noteMissing(t.Context(), p)
	want := []failover.MissingFile{{Group: "a", File: filepath.Join(dir, "off")}, {Group: "b", File: filepath.Join(dir, "page")}, {Group: "b", File: "environment variable DESK_TEST_URL"}}
	if _, about := k.collect(); !reflect.DeepEqual(about.Missing, want) {
		t.Errorf("missing %+v, want %+v", about.Missing, want)
	}
	if f := k.d.stage.files(t.Context(), &p.Groups[1]); f.OK || !strings.HasSuffix(f.Detail, "/page, environment variable DESK_TEST_URL") {
		t.Errorf("rehearsed: %+v", f)
	}
	program("off")
	program("page")
	t.Setenv("DESK_TEST_URL", "http://127.0.0.1:1/hunter2")
	k.noteMissing(t.Context(), p)
	if _, about := k.collect(); len(about.Missing) != 0 {
		t.Errorf("still missing: %+v", about.Missing)
	}
}

func TestEventsAreToldOnce(t *testing.T) {
	k := emptyDesk("/")
	var log bytes.Buffer
	k.d.log, k.found = zerolog.New(&log), 7
	s := failover.NewState()
	s.Index, s.EventSeq = 7, 3
	s.Events = []failover.Event{{Seq: 2, Type: "old"}, {Seq: 3, Type: "old"}}
	told := k.tell(s, 0)
	s.Index, s.EventSeq = 8, 4
	s.Events = append(s.Events, failover.Event{Seq: 4, Type: "new", Data: map[string]string{"watcher": "w2"}})
	told = k.tell(s, told)
	if k.tell(s, told); told != 4 || strings.Count(log.String(), "new") != 1 || strings.Contains(log.String(), "old") {
		t.Errorf("told up to %d: %s", told, log.String())
	}
	if line := log.String(); strings.Contains(line, `"watcher":`) || !strings.Contains(line, `"about_watcher":"w2"`) {
		t.Errorf("the watcher whose line it is is not the one that it tells of: %s", line)
	}
}

// After an apply the file on the disk is what is in force, though nobody has had it read again.
func TestTheFileIsComparedAsItIsOnTheDisk(t *testing.T) {
	f := newFile(t)
	k := emptyDesk(filepath.Dir(f.path))
	k.d.o.ConfigPath = f.path
	s := failover.NewState()
	read := func() *config.File {
		file, err := LoadConfig(f.path)
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	expect := func(when string, want bool) {
		t.Helper()
		if k.noteFile(s); k.fileDiffers() != want {
			t.Errorf("%s: it differs: %v", when, !want)
		}
	}
	k.d.file = read()
	s.Policy = &read().Policy
	expect("at first", false)
	f.groups = groupText("shop", "192.0.2.99")
	f.write(t)
	expect("edited", true)
	s.Policy = &read().Policy
	expect("applied", false)
	if err := os.Remove(f.path); err != nil {
		t.Fatal(err)
	}
	expect("gone, so what was last read counts", true)
}

func TestOutageOfAWriterEnds(t *testing.T) {
	k := emptyDesk("/")
	k.d.observer = switchover.NewObserver(switchover.Options{}, func(switchover.Sight) {})
	if k.anyFails() {
		t.Error("fails from the start")
	}
	k.failing["shop"], k.failing["blog"] = "main", "main"
	s := &failover.State{Groups: map[string]*failover.GroupState{"shop": {Writer: "main"}, "blog": {Writer: "standby"}}}
	k.noteWriters(s)
	if k.failing["shop"] != "main" || len(k.failing) != 1 {
		t.Errorf("failing: %v", k.failing)
	}
	// A writer that was down when this watcher first looked has had no first failure.
	k.verdict(probe.Verdict{Group: "blog", App: "standby", Verdict: failover.VerdictDown})
	k.verdict(probe.Verdict{Group: "blog", App: "main", Verdict: failover.VerdictDown})
	k.noteWriters(s)
	if k.failing["blog"] != "standby" {
		t.Errorf("failing: %v", k.failing)
	}
	clear(s.Groups)
	k.verdict(probe.Verdict{Group: "blog", App: "standby", Verdict: failover.VerdictUp})
	k.noteWriters(s)
	if k.anyFails() {
		t.Errorf("failing: %v", k.failing)
	}
}

// What was seen of an app in its old role is not told as if it were of the new one.
func TestSightsOfAnOldRoleAreDropped(t *testing.T) {
	k := emptyDesk("/")
	k.d.observer = switchover.NewObserver(switchover.Options{}, func(switchover.Sight) {})
	aim := func(revision uint64) bool {
		k.lookAnew([]probe.Target{{Group: "shop", App: "main", Revision: revision}})
		_, ok := k.sights[appName{"shop", "main"}]
		return ok
	}
	aim(7)
	k.sighted(switchover.Sight{Group: "shop", App: "main"})
	if !aim(7) {
		t.Error("dropped though nothing changed")
	}
	if aim(8) {
		t.Error("kept though the revision changed")
	}
}
