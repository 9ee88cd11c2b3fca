package failover

import (
	"fmt"
	"strings"
	"testing"
)

// TestLeaderDiesAnywhere: a crash at any point, in an unchanged environment, ends in the same state as no crash, apart
// from tokens, attempts, times and terms. The environment: hands on main fail, the others succeed.
func TestLeaderDiesAnywhere(t *testing.T) {
	for _, database := range []bool{true, false} {
		calm := liveThrough(t, database, 0)
		if !strings.Contains(calm, string(ResultDone)) {
			t.Fatalf("without a crash it ends with %s", calm)
		}
		for crash := 1; crash < 40; crash++ {
			if got := liveThrough(t, database, crash); got != calm {
				t.Errorf("database %v, leader dies after move %d:\ngot  %s\nwant %s", database, crash, got, calm)
			}
		}
	}
}

// liveThrough plays a failover, with a new leader after move number crash, and tells its end.
func liveThrough(t *testing.T, database bool, crash int) string {
	p := defaultPlot()
	p.database, p.rules.ConfirmFor = database, 0
	w := begin(t, p)
	w.allUp()
	w.down("main")
	for move := 1; move < 60; move++ {
		if move == crash {
			w.term++
			w.must(Command{Tick: &Tick{}}) // attempts that were open are replaced from here on
		}
		if !w.group("shop").Switchover.Open() {
			break
		}
		liveOn(w)
	}
	return endOf(w)
}

// liveOn makes the next move: ends what this leader began, else begins what is to be done, else brings evidence.
func liveOn(w *world) {
	w.t.Helper()
	o := w.group("shop").Switchover
	for _, step := range o.Steps {
		if step.Open != "" && step.OpenTerm == w.term {
			outcome := OutcomeDone
			if step.App == "main" {
				outcome = OutcomeFailed
			}
			w.end(step.Name, outcome, map[Outcome]string{OutcomeFailed: "connection refused"}[outcome])
			return
		}
	}
	if tasks := w.s.Next("shop"); len(tasks) > 0 {
		w.start(tasks[0].Step, nil, nil)
		return
	}
	w.say(memberNames(w.s.Members), "standby", w.saw("shop", "standby", VerdictUp))
	w.served("w1", "w2", "w3")
}

func endOf(w *world) string {
	g := w.group("shop")
	text := []string{fmt.Sprintf("active %s, writer %s, epoch %d, open %v", g.Active, g.Writer, g.Epoch, g.Switchover.Open())}
	for _, h := range g.History {
		text = append(text, fmt.Sprintf("%s %s %v", h.Kind, h.Result, h.Exceptions))
		for _, step := range h.Steps {
			text = append(text, fmt.Sprintf("%s %s %s", step.Name, step.State, step.Error))
		}
	}
	for _, app := range w.s.Policy.Group("shop").Apps {
		if m := g.Apps[app.Name].Mark; m != nil {
			text = append(text, fmt.Sprintf("%s marked %s", app.Name, m.parts()))
		}
	}
	return strings.Join(text, "; ")
}
