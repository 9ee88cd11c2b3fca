package failover

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// finish lets a fair runner and fair timers end what is open, from whatever was reached, in a world that has healed: a
// new leader hears everyone, hands succeed, name servers answer. Half of the time main has come back too.
func (r *random) finish() {
	r.term++
	r.fresh = memberNames(r.s.Members)
	back := rapid.Bool().Draw(r.T, "the old app is back")
	r.apply(Command{Tick: &Tick{}})
	for _, group := range r.s.GroupNames() {
		first := r.s.Groups[group].Switchover
		for n := 0; r.s.Groups[group].Switchover.Open() && r.s.Groups[group].Switchover.ID == first.ID; n++ {
			if n > 150 {
				r.T.Fatalf("switchover %d of %s does not end:\n%s", first.ID, group, strings.Join(picture(r.s), "\n"))
			}
			r.fair(group, back)
		}
	}
}

func (r *random) fair(group string, back bool) {
	w := r.s.Groups[group].Switchover
	if tasks := r.s.Next(group); len(tasks) > 0 {
		j := &Journal{Start: &Start{Task: tasks[0]}}
		if token := r.apply(Command{Journal: j}).Token; token != 0 {
			r.apply(Command{Journal: &Journal{Ended: []Ended{{Task: tasks[0], Token: token, Outcome: OutcomeDone}}}})
		}
		return
	}
	var list []Report
	about := map[string]About{}
	for _, name := range memberNames(r.s.Members) {
		r.seq++
		about[name] = About{Boot: 2, Seq: r.seq, Served: r.s.ZoneIndex()}
	}
	for _, app := range r.s.Policy.Group(group).Apps {
		v := r.saw(group, app.Name, VerdictUp)
		if app.Name == w.From && !back {
			v = r.saw(group, app.Name, VerdictDown)
		}
		list = append(list, r.reports(memberNames(r.s.Members), group, app.Name, v)...)
	}
	r.apply(Command{Reports: &Reports{Reports: list, About: about}})
	for _, timer := range r.s.Timers() {
		if strings.Contains(timer.Key, "/"+group+"/") {
			r.apply(Command{Due: &Due{Key: timer.Key}})
		}
	}
}

// TestFairRunnerWithFailingHands ends every switchover although each attempt fails a few times first.
func TestFairRunnerWithFailingHands(t *testing.T) {
	for _, database := range []bool{false, true} {
		for fails := range 8 {
			t.Run(fmt.Sprintf("database=%v,fails=%d", database, fails), func(t *testing.T) {
				p := defaultPlot()
				p.database, p.rules.ConfirmFor, p.hooks = database, 0, []string{"promote:after", "maintenance-off:after", "switch-dns:before", "verify:before"}
				w := begin(t, p)
				w.allUp()
				w.down("main")
				failsToTheEnd(t, w, fails)
			})
		}
	}
}

func failsToTheEnd(t *testing.T, w *world, fails int) {
	failed := map[StepName]int{}
	for range 400 {
		g := w.group("shop")
		if len(g.History) > 0 && g.History[len(g.History)-1].Result != ResultUndone {
			return
		}
		tasks := w.s.Next("shop")
		if len(tasks) == 0 {
			for _, task := range w.s.Keep("shop") { // what an undo left is taken back before the next try
				if token := w.apply(Command{Journal: &Journal{Start: &Start{Task: task}}}).Token; token != 0 {
					w.apply(Command{Journal: &Journal{Ended: []Ended{{Task: task, Token: token, Outcome: OutcomeDone}}}})
				}
			}
			v := w.saw("shop", "standby", VerdictUp)
			w.say(memberNames(w.s.Members), "standby", v)
			w.served("w1", "w2", "w3")
			for _, timer := range w.s.Timers() {
				w.apply(Command{Due: &Due{Key: timer.Key}})
			}
			continue
		}
		r := w.start(tasks[0].Step, nil, nil)
		if r.Token == 0 {
			t.Fatalf("%+v", r)
		}
		if failed[tasks[0].Step]++; failed[tasks[0].Step] <= fails {
			w.end(tasks[0].Step, OutcomeFailed, "not yet")
		} else {
			w.end(tasks[0].Step, OutcomeDone, "")
		}
	}
	t.Fatalf("it does not end:\n%s", strings.Join(picture(w.s), "\n"))
}
