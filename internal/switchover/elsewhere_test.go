package switchover

import (
	"strings"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// see1 lets one watcher report an app.
func (w *world) see1(watcher, app string, v failover.Verdict) {
	a := w.journal.State().Groups[group].Apps[app]
	o := a.Reports[watcher].Database
	w.must(failover.Command{Reports: &failover.Reports{Reports: []failover.Report{{Group: group, App: app, Watcher: watcher, Boot: 1, Seq: w.number(),
		Revision: a.Revision, Verdict: v, Database: o}}}})
}

func (w *world) waysGiven() (list []string) {
	w.journal.set(func(j *fakeJournal) { list = append(list, j.gaveWay...) })
	return list
}

// A leader whose own network to the target is broken would fail the plan that another one could carry out.
func TestLeaderThatCannotReachTheTargetGivesWay(t *testing.T) {
	play(t, nil, func(w *world) {
		w.see1("w1", "standby", failover.VerdictDown)
		defer w.lead()()
		began := w.now()
		w.request()
		w.rest(giveWayPause / 2)
		given := w.waysGiven()
		if len(given) != 1 || !strings.Contains(given[0], "standby of group shop") || !strings.HasSuffix(given[0], "-> w2,w3") {
			t.Fatalf("given way: %q", given)
		}
		wantCalls(t, w.called(0), "main on", "main freeze")
		// Nobody takes it over here, so this one goes on all the same.
		want(t, "result", w.ended().Result, failover.ResultDone)
		if took := w.now() - began; took < giveWayPause || took > 2*giveWayPause {
			t.Errorf("the plan took %s", took)
		}
		want(t, "asked", len(w.waysGiven()), 1)
	})
}

// Where the target is down for others too, or only this watcher's verdict is missing, another leader would do no better.
func TestLeaderGoesOnWhereOthersAreNoBetter(t *testing.T) {
	for name, change := range map[string]func(*world){
		"all find it up":            func(*world) {},
		"this one does not know":    func(w *world) { w.see1("w1", "standby", failover.VerdictUnknown) },
		"another one finds it down": func(w *world) { w.see1("w2", "standby", failover.VerdictDown) },
		"the old app is down for all": func(w *world) {
			w.see("main", failover.VerdictDown)
		},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, nil, func(w *world) {
				change(w)
				defer w.lead()()
				if !w.journal.State().Groups[group].Switchover.Open() {
					w.request()
				}
				w.ended()
				w.rest(time.Second)
				want(t, "given way", strings.Join(w.waysGiven(), ";"), "")
			})
		})
	}
}
