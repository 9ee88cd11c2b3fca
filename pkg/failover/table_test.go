package failover

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestMajorityIsMoreThanHalf(t *testing.T) {
	for members, want := range map[int]int{0: 1, 1: 1, 2: 2, 3: 2, 4: 3, 5: 3, 6: 4, 7: 4} {
		if got := Majority(members); got != want {
			t.Errorf("majority of %d is %d, want %d", members, got, want)
		}
	}
}

func TestQuorumIsNeverLessThanAMajority(t *testing.T) {
	for _, test := range []struct{ members, quorum, want int }{
		{3, 0, 2}, {3, 1, 2}, {3, -5, 2}, {3, 3, 3}, {5, 2, 3}, {5, 4, 4}, {3, 9, 9}, {1, 0, 1},
	} {
		s := &State{Members: watchersNamed(test.members)}
		if got := s.needed(&Group{Failover: Rules{Quorum: test.quorum}}); got != test.want {
			t.Errorf("quorum %d of %d members needs %d, want %d", test.quorum, test.members, got, test.want)
		}
	}
}

// TestHealth counts verdicts: down takes what the group asks for, up a majority of all members, heard or not.
func TestHealth(t *testing.T) {
	for _, test := range []struct {
		quorum   int
		up, down []string
		fresh    []string
		want     Health
	}{
		{0, []string{"w1", "w2"}, nil, []string{"w1", "w2", "w3"}, HealthUp},
		{0, []string{"w1", "w2"}, nil, []string{"w1", "w3"}, HealthUnknown},
		{0, nil, []string{"w1", "w2"}, []string{"w1", "w2", "w3"}, HealthDown},
		{3, nil, []string{"w1", "w2"}, []string{"w1", "w2", "w3"}, HealthUnknown},
		{3, []string{"w3", "w1"}, []string{"w2"}, []string{"w1", "w2", "w3"}, HealthUp},
		{0, []string{"w1"}, []string{"w2"}, []string{"w1", "w2", "w3"}, HealthUnknown},
		{0, nil, nil, []string{"w1", "w2", "w3"}, HealthUnknown},
	} {
		p := defaultPlot()
		p.rules.Quorum = test.quorum
		p.rules.Mode = ModeManual
		w := begin(t, p)
		w.say(test.up, "standby", w.saw("shop", "standby", VerdictUp))
		w.say(test.down, "standby", w.saw("shop", "standby", VerdictDown))
		w.fresh = test.fresh
		w.must(Command{Tick: &Tick{}})
		if got := w.group("shop").Apps["standby"].Health; got != test.want {
			t.Errorf("quorum %d, up %v, down %v, heard %v: %s, want %s", test.quorum, test.up, test.down, test.fresh, got, test.want)
		}
	}
}

func TestUnfit(t *testing.T) {
	limit := MaxLag{Bytes: 1000, Time: 30 * time.Second}
	change := func(f func(o *Observation)) *Observation { o := replica(); f(o); return o }
	for name, test := range map[string]struct {
		o        *Observation
		id       string
		timeline uint64
		want     string
	}{
		"fits":                     {replica(), "db1", 1, ""},
		"writer not identified":    {replica(), "", 0, ""},
		"does not identify itself": {change(func(o *Observation) { o.ID, o.Timeline = "", 0 }), "db1", 1, ""},
		"not seen":                 {nil, "db1", 1, NotReadyNotReplica},
		"primary":                  {change(func(o *Observation) { o.Role = RolePrimary }), "db1", 1, NotReadyNotReplica},
		"role unknown":             {change(func(o *Observation) { o.Role = RoleUnknown }), "db1", 1, NotReadyNotReplica},
		"other cluster":            {replica(), "db2", 1, NotReadyWrongCluster},
		"older timeline":           {replica(), "db1", 2, NotReadyWrongCluster},
		"newer timeline":           {change(func(o *Observation) { o.Timeline = 3 }), "db1", 2, NotReadyWrongCluster},
		"cut off":                  {change(func(o *Observation) { o.Streaming, o.UntilOutage = false, false }), "db1", 1, NotReadyNotStreaming},
		"received until outage":    {change(func(o *Observation) { o.Streaming = false }), "db1", 1, ""},
		"streaming now":            {change(func(o *Observation) { o.UntilOutage = false }), "db1", 1, ""},
		"bytes at the limit":       {change(func(o *Observation) { o.LagBytes = pointer(int64(1000)) }), "db1", 1, ""},
		"bytes over":               {change(func(o *Observation) { o.LagBytes = pointer(int64(1001)) }), "db1", 1, NotReadyLag},
		"seconds at the limit":     {change(func(o *Observation) { o.LagSeconds = pointer(30.0) }), "db1", 1, ""},
		"seconds over":             {change(func(o *Observation) { o.LagSeconds = pointer(30.1) }), "db1", 1, NotReadyLag},
		"seconds beyond all clocks": {change(func(o *Observation) { o.LagSeconds = pointer(math.MaxFloat64) }), "db1", 1,
			NotReadyLag},
		"tells nothing of lag":                {change(func(o *Observation) { o.LagBytes, o.LagSeconds = nil, nil }), "db1", 1, NotReadyLag},
		"bytes by positions, seconds unknown": {change(func(o *Observation) { o.LagSeconds, o.Position = nil, pointer(uint64(7)) }), "db1", 1, NotReadyLag},
		"seconds by positions":                {change(func(o *Observation) { o.LagBytes, o.Position = nil, pointer(uint64(7)) }), "db1", 1, ""},
		"tells only bytes":                    {change(func(o *Observation) { o.LagSeconds = nil }), "db1", 1, ""},
		"who it is comes before":              {change(func(o *Observation) { o.Role, o.LagBytes = RolePrimary, pointer(int64(9999)) }), "db2", 1, NotReadyNotReplica},
		"cluster comes before":                {change(func(o *Observation) { o.Streaming, o.UntilOutage = false, false }), "db2", 1, NotReadyWrongCluster},
		"stream comes before lag":             {change(func(o *Observation) { o.Streaming, o.UntilOutage, o.LagBytes = false, false, nil }), "db1", 1, NotReadyNotStreaming},
	} {
		if got, _ := unfit(test.o, test.id, test.timeline, limit); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

// TestReadyTakesAMajorityOfSights: each watcher is judged on its own sight, and a majority of all members must see the
// database fit.
func TestReadyTakesAMajorityOfSights(t *testing.T) {
	for fit := range 4 {
		p := defaultPlot()
		p.database = true
		w := begin(t, p)
		w.allUp()
		v := w.saw("shop", "standby", VerdictUp)
		v.database = &Observation{Role: RoleReplica, ID: "db1", Timeline: 1}
		w.say(memberNames(w.s.Members)[fit:], "standby", v)
		if got, want := w.s.Ready("shop", "standby"), fit >= 2; got != want {
			t.Errorf("%d of 3 see it fit: ready is %v, want %v", fit, got, want)
		}
	}
}

func TestSteps(t *testing.T) {
	for _, test := range []struct {
		database      bool
		noMaintenance []string
		want          string
	}{
		{true, nil, "maintenance-on@main freeze@main catch-up@standby stop-replication@standby promote@standby maintenance-off@standby switch-dns@standby verify@standby"},
		{false, nil, "maintenance-on@main maintenance-off@standby switch-dns@standby verify@standby"},
		{false, []string{"main"}, "maintenance-on@main(skipped) maintenance-off@standby switch-dns@standby verify@standby"},
		{false, []string{"standby"}, "maintenance-on@main maintenance-off@standby(skipped) switch-dns@standby verify@standby"},
		{true, []string{"all"}, "maintenance-on@main(skipped) freeze@main catch-up@standby stop-replication@standby promote@standby maintenance-off@standby(skipped) switch-dns@standby verify@standby"},
	} {
		p := defaultPlot()
		p.database, p.noMaintenance = test.database, test.noMaintenance
		g := p.group("shop")
		var got []string
		for _, step := range steps(&g, "main", "standby") {
			text := fmt.Sprintf("%s@%s", step.Name, step.App)
			if step.State != StepPending {
				text += fmt.Sprintf("(%s)", step.State)
			}
			got = append(got, text)
		}
		if text := strings.Join(got, " "); text != test.want {
			t.Errorf("database %v, without maintenance %v:\ngot  %s\nwant %s", test.database, test.noMaintenance, text, test.want)
		}
	}
}

func TestSerial(t *testing.T) {
	for _, test := range []struct {
		name   string
		before uint32
		clock  time.Time
		want   uint32
	}{
		{"the clock is ahead", 100, time.Unix(5000, 0), 5000},
		{"the clock stands still", 5000, time.Unix(5000, 0), 5001},
		{"the clock has gone back", 5000, time.Unix(100, 0), 5001},
		{"the clock is one ahead", 5000, time.Unix(5001, 0), 5001},
		{"the clock is before 1970", 7, time.Unix(-1, 0), 8},
		{"the clock is beyond 2106", 7, time.Unix(1<<33, 0), 8},
		{"the clock is at the last second", 7, time.Unix(math.MaxUint32, 0), math.MaxUint32},
	} {
		s := &State{Serial: test.before, Time: test.clock}
		if s.bumpSerial(); s.Serial != test.want {
			t.Errorf("%s: %d, want %d", test.name, s.Serial, test.want)
		}
	}
}

func TestTokensCarryTheGeneration(t *testing.T) {
	a, b := (&State{Generation: 1}).Token(math.MaxUint32), (&State{Generation: 2}).Token(1)
	if a >= b || b != 2<<40+1 {
		t.Errorf("token %d of generation 1, %d of generation 2", a, b)
	}
}

// TestCutKeepsCharactersWhole: half a character would be encoded as something else, and the hash of a restored state
// would differ from that of a replayed one.
func TestCutKeepsCharactersWhole(t *testing.T) {
	for _, text := range []string{"", "a", strings.Repeat("a", 10), strings.Repeat("é", 10), strings.Repeat("€", 10), strings.Repeat("😀", 10)} {
		for most := range 12 {
			got := cut(text, most)
			if !utf8.ValidString(got) || len(got) > most || !strings.HasPrefix(text, got) || len(text) > most && len(got) < most-3 {
				t.Errorf("cut(%q, %d) = %q", text, most, got)
			}
		}
	}
}

func TestAppendBounded(t *testing.T) {
	var list []int
	for i := range 10 {
		old := slices.Clone(list)
		longer := appendBounded(list, 3, i)
		appendBounded(list, 3, -1) // a second append to the same list must not write into the first one's array
		if !slices.Equal(list, old) || longer[len(longer)-1] != i || len(longer) != min(i+1, 3) {
			t.Fatalf("%v and %d gave %v", old, i, longer)
		}
		list = longer
	}
}

// TestNothingGrowsForEver runs many switchovers and commands with ids.
func TestNothingGrowsForEver(t *testing.T) {
	p := defaultPlot()
	p.noMaintenance, p.rules.Cooldown = []string{"all"}, 0
	w := newWorld(t)
	w.quick = true
	w.init(p)
	for i := range HistoryKept + 20 {
		w.allUp()
		w.must(Command{ID: fmt.Sprint("a", i), Request: &Request{Group: "shop", Force: true}})
		w.served("w1", "w2", "w3")
		w.say([]string{"w1", "w2"}, w.group("shop").Active, w.saw("shop", w.group("shop").Active, VerdictUp))
		w.must(Command{ID: fmt.Sprint("b", i), Tick: &Tick{}})
		w.must(Command{ID: fmt.Sprint("c", i), Tick: &Tick{}})
	}
	g := w.group("shop")
	if len(g.History) != HistoryKept || len(w.s.Events) != eventsKept || len(w.s.Applied) != appliedKept {
		t.Errorf("%d switchovers, %d events and %d ids are kept", len(g.History), len(w.s.Events), len(w.s.Applied))
	}
	if last := g.History[HistoryKept-1]; last.Epoch != HistoryKept+20 {
		t.Errorf("the last one kept has epoch %d", last.Epoch)
	}
	if n := g.Counts["planned/done"]; n != HistoryKept+20 {
		t.Errorf("%d are counted", n)
	}
	if w.s.EventSeq != w.s.Events[eventsKept-1].Seq || w.s.Events[0].Seq != w.s.EventSeq-eventsKept+1 {
		t.Errorf("events %d to %d, the last was %d", w.s.Events[0].Seq, w.s.Events[eventsKept-1].Seq, w.s.EventSeq)
	}
}

// A mount that hangs may hold the files of all groups: none of them is forgotten, and none fills the state.
func TestEveryGroupsMissingFileIsKept(t *testing.T) {
	p := defaultPlot()
	p.groups = []string{"blog", "shop"}
	w := begin(t, p)
	var list []MissingFile
	for i := range 2 * maxMissing {
		list = append(list, MissingFile{Group: "blog", File: fmt.Sprint(i)})
	}
	list = append(list, MissingFile{Group: "gone", File: "x"}, MissingFile{Group: "shop", File: "a"}, MissingFile{Group: "shop", File: "b"})
	w.must(Command{Reports: &Reports{About: map[string]About{"w1": {Boot: 1, Seq: 1, Missing: list}}}})
	got := w.s.Members[0].About.Missing
	if len(got) != maxMissing+1 || got[0] != list[0] || got[maxMissing] != (MissingFile{Group: "shop", File: "a"}) {
		t.Errorf("%d files are kept, the last is %v", len(got), got[len(got)-1])
	}
	w.must(Command{Reports: &Reports{About: map[string]About{"w1": {Boot: 1, Seq: 2, Missing: list[:3]}}}})
	if got := w.s.Members[0].About.Missing; len(got) != 3 {
		t.Errorf("of three %d are kept", len(got))
	}
}

// The hooks after a step are a part of it: its time counts from its act, and what the act printed is kept beside what they print.
func TestAfterHooksArePartOfTheirStep(t *testing.T) {
	p := defaultPlot()
	p.rules.ConfirmFor, p.hooks = 0, []string{"maintenance-on:after"}
	w := begin(t, p)
	w.allUp()
	w.down("main")
	end := func(output string) {
		e := w.ended(StepMaintenanceOn, OutcomeDone, "")
		e.Output = output
		w.must(Command{Journal: &Journal{Ended: []Ended{e}}})
	}
	w.start(StepMaintenanceOn, nil, nil)
	began := *w.group("shop").Switchover.Step(StepMaintenanceOn).StartedAt
	end("closed\n")
	w.start(StepMaintenanceOn, nil, nil)
	step := w.group("shop").Switchover.Step(StepMaintenanceOn)
	if step.Open != WorkAfter || step.EndedAt != nil {
		t.Fatalf("open is %q, ended at %v", step.Open, step.EndedAt)
	}
	end("announced\n")
	step = w.group("shop").Switchover.Step(StepMaintenanceOn)
	if !step.StartedAt.Equal(began) || step.EndedAt == nil || !step.EndedAt.Equal(w.clock) {
		t.Errorf("from %v to %v, want from %v to %v", step.StartedAt, step.EndedAt, began, w.clock)
	}
	if step.Output != "closed\n" || step.AfterOutput != "announced\n" {
		t.Errorf("output %q, of the hooks %q", step.Output, step.AfterOutput)
	}
}

// TestTimersTellTheWaitOfTheirKind checks each kind's duration.
func TestTimersTellTheWaitOfTheirKind(t *testing.T) {
	p := defaultPlot()
	p.database, p.rules.ConfirmFor, p.hooks = true, 0, []string{"promote:after"}
	w := begin(t, p)
	w.allUp()
	w.down("main")
	w.failed(StepMaintenanceOn, "timeout")
	w.failed(StepFreeze, "timeout")
	w.must(Command{Pause: &PauseOrder{Group: "shop", For: time.Hour}})
	w.failed(StepStopReplication, "timeout")
	expect := func(key string, want time.Duration) {
		t.Helper()
		for _, timer := range w.s.Timers() {
			if strings.HasPrefix(timer.Key, key+"/shop/") {
				if timer.After != want {
					t.Errorf("%s waits for %s, want %s", key, timer.After, want)
				}
				return
			}
		}
		t.Errorf("nothing waits for %s: %v", key, w.s.Timers())
	}
	expect("pause", time.Hour)
	expect("stop-replication", time.Second)
	w.due("stop-replication")
	w.did(StepStopReplication)
	for range 3 {
		w.failed(StepPromote, "disk full")
		if w.group("shop").Switchover.Result == ResultRunning {
			expect("promote", time.Second)
		}
		w.due("promote/shop")
	}
	w.failed(StepPromote, "disk full")
	expect("promote", haltedRetry)
	w.due("promote")
	w.did(StepPromote)
	w.failed(StepPromote, "exit status 1")
	expect("promote", time.Second)
	w.did(StepMaintenanceOff)
	expect("verify", 30*time.Second)
}

func TestTimeouts(t *testing.T) {
	for _, test := range []struct {
		planned bool
		step    StepName
		work    Work
		want    time.Duration
	}{
		{false, StepMaintenanceOn, WorkAct, time.Second},
		{false, StepFreeze, WorkAct, time.Second},
		{false, StepFreeze, WorkUndo, 10 * time.Second},
		{false, StepCatchUp, WorkAct, 30 * time.Second},
		{false, StepPromote, WorkAct, 60 * time.Second},
		{true, StepFreeze, WorkAct, 10 * time.Second},
	} {
		p := defaultPlot()
		p.database, p.rules.ConfirmFor = true, 0
		w := begin(t, p)
		w.allUp()
		if test.planned {
			w.must(Command{Request: &Request{Group: "shop"}})
		} else {
			w.down("main")
		}
		o := w.group("shop").Switchover
		if got := w.s.Timeout(o.task(o.Step(test.step), test.work)); got != test.want {
			t.Errorf("%s of %s, planned %v: %s, want %s", test.work, test.step, test.planned, got, test.want)
		}
		for part, want := range map[Part]time.Duration{PartMaintenance: 10 * time.Second, PartDatabase: 10 * time.Second, PartReplication: 10 * time.Second} {
			if got := w.s.Timeout(Task{Group: "shop", App: "main", Part: part}); got != want {
				t.Errorf("keeping %s: %s, want %s", part, got, want)
			}
		}
	}
	s := begin(t, defaultPlot()).s
	for _, gone := range []Task{{Group: "shop", Switchover: 7, Step: StepPromote}, {Group: "nobody", Switchover: 7}, {Group: "nobody"}} {
		if got := s.Timeout(gone); got != 0 {
			t.Errorf("%+v has %s though it is gone", gone, got)
		}
	}
}

func TestInitRefuses(t *testing.T) {
	policy := defaultPlot().policy()
	for name, test := range map[string]Init{
		"no name":       {Members: watchersNamed(3), Policy: policy},
		"no members":    {Cluster: "prod", Policy: policy},
		"member twice":  {Cluster: "prod", Members: append(watchersNamed(2), watchersNamed(2)...), Policy: policy},
		"nameless":      {Cluster: "prod", Members: []Member{{}}, Policy: policy},
		"no zone":       {Cluster: "prod", Members: watchersNamed(3)},
		"half database": {Cluster: "prod", Members: watchersNamed(3), Policy: halfDatabase()},
	} {
		s, r := NewState().Apply(Entry{Index: 1, Term: 1, Command: Command{Term: 1, Time: dawn, Init: &test}})
		if r.Accepted || r.Code != CodeInvalid || s.Cluster != "" {
			t.Errorf("%s: %+v", name, r)
		}
	}
	w := begin(t, defaultPlot())
	if r := w.init(defaultPlot()); r.Accepted || r.Rule != "initialised" {
		t.Errorf("a second first entry: %+v", r)
	}
	if _, r := NewState().Apply(Entry{Index: 1, Term: 1, Command: Command{Term: 1, Tick: &Tick{}}}); r.Accepted || r.Rule != "not_initialised" {
		t.Errorf("an entry before the first: %+v", r)
	}
}

func halfDatabase() Policy {
	p := defaultPlot()
	p.database = true
	policy := p.policy()
	policy.Groups[0].Apps[1].Database = nil
	return policy
}

func TestDecodeRefuses(t *testing.T) {
	text, err := begin(t, defaultPlot()).s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"newer format": strings.Replace(string(text), `"format":1`, `"format":2`, 1),
		"no format":    `{}`,
		"no JSON":      `{"format":1,`,
		"no policy":    strings.Replace(string(text), `"policy":{`, `"was":{`, 1),
		"no groups":    strings.Replace(string(text), `"groups":{`, `"were":{`, 1),
	} {
		if s, err := DecodeState([]byte(text)); err == nil {
			t.Errorf("%s: decoded %+v", name, s)
		}
	}
	if _, err := DecodeCommand(make([]byte, MaxCommand+1)); err == nil {
		t.Error("a command beyond the limit was decoded")
	}
	if _, err := EncodeCommand(Command{ID: strings.Repeat("x", MaxCommand)}); err == nil {
		t.Error("a command beyond the limit was encoded")
	}
}

// TestWritersIdentityOutlivesItsSilence: what a target is measured against in an outage.
func TestWritersIdentityOutlivesItsSilence(t *testing.T) {
	known := &Observation{Role: RolePrimary, ID: "db1", Timeline: 3}
	for name, test := range map[string]struct {
		now, old *Observation
		id       string
		timeline uint64
		role     Role
	}{
		"silent":          {nil, known, "db1", 3, RoleUnknown},
		"role unknown":    {&Observation{Role: RoleUnknown}, known, "db1", 3, RoleUnknown},
		"another one now": {&Observation{Role: RolePrimary, ID: "db2", Timeline: 1}, known, "db2", 1, RolePrimary},
		"cluster known":   {&Observation{Role: RoleUnknown, ID: "db1"}, known, "db1", 3, RoleUnknown},
		"another cluster": {&Observation{Role: RoleUnknown, ID: "db2"}, known, "db2", 0, RoleUnknown},
		"only timeline":   {&Observation{Role: RolePrimary, Timeline: 4}, known, "", 4, RolePrimary},
		"never known":     {&Observation{Role: RolePrimary}, nil, "", 0, RolePrimary},
	} {
		got := test.now.rememberWho(test.old)
		if got.ID != test.id || got.Timeline != test.timeline || got.Role != test.role {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := (*Observation)(nil).rememberWho(nil); got != nil {
		t.Errorf("nothing from nothing: %+v", got)
	}
	if known.Role != RolePrimary {
		t.Error("the old report was changed")
	}
}

// TestReportsAreNumbered: a watcher's report replaces only an older one of its own; nobody else's is kept at all.
func TestReportsAreNumbered(t *testing.T) {
	for _, test := range []struct {
		watcher   string
		boot, seq uint64
		taken     bool
	}{
		{"w1", 5, 11, true}, {"w1", 5, 10, false}, {"w1", 5, 9, false}, {"w1", 6, 1, true}, {"w1", 4, 99, false}, {"w9", 9, 9, false},
	} {
		w := begin(t, defaultPlot())
		report := Report{Group: "shop", App: "main", Watcher: "w1", Boot: 5, Seq: 10, Revision: 1, Verdict: VerdictUp}
		w.must(Command{Reports: &Reports{Reports: []Report{report}}})
		report.Watcher, report.Boot, report.Seq, report.Verdict = test.watcher, test.boot, test.seq, VerdictDown
		w.must(Command{Reports: &Reports{Reports: []Report{report}}})
		kept := w.group("shop").Apps["main"].Reports
		if got := kept["w1"].Verdict == VerdictDown; got != test.taken || len(kept) != 1 {
			t.Errorf("%s, boot %d, sequence %d after boot 5, sequence 10: taken %v, want %v; %d are kept", test.watcher, test.boot, test.seq, got, test.taken, len(kept))
		}
	}
}

// TestWhatWatchersSayOfThemselvesIsNumbered likewise.
func TestWhatWatchersSayOfThemselvesIsNumbered(t *testing.T) {
	w := begin(t, defaultPlot())
	say := func(boot, seq, served uint64) uint64 {
		w.must(Command{Reports: &Reports{About: map[string]About{"w1": {Boot: boot, Seq: seq, Served: served}, "w9": {Boot: 9, Seq: 9}}}})
		return w.s.Members[0].About.Served
	}
	if a, b, c, d := say(2, 5, 70), say(2, 4, 80), say(1, 9, 90), say(3, 1, 60); a != 70 || b != 70 || c != 70 || d != 60 {
		t.Errorf("served %d, %d, %d, %d", a, b, c, d)
	}
}

// TestWriterIsOnTheNewestTimelineSeen: a watcher that looked before the promotion still tells the old one.
func TestWriterIsOnTheNewestTimelineSeen(t *testing.T) {
	p := defaultPlot()
	p.database = true
	for _, timelines := range [][]uint64{{2, 1, 1}, {1, 1, 2}, {1, 2, 0}} {
		w := begin(t, p)
		for i, timeline := range timelines {
			v := w.saw("shop", "main", VerdictUp)
			v.database = &Observation{Role: RolePrimary, ID: "db1", Timeline: timeline}
			w.say([]string{w.s.Members[i].Name}, "main", v)
		}
		if id, timeline := w.s.writerIdentity(w.group("shop")); id != "db1" || timeline != 2 {
			t.Errorf("of %v: %s on timeline %d", timelines, id, timeline)
		}
	}
}
