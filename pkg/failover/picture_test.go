package failover

import (
	"fmt"
	"strings"
	"time"
)

// answer prints what a proposer learned, if it is more than a yes.
func answer(r Result) string {
	switch {
	case !r.Accepted:
		text := "refused"
		for _, part := range []string{r.Code, r.Rule} {
			if part != "" {
				text += " " + part
			}
		}
		text += ": " + r.Detail
		if r.Hint != "" {
			text += " (" + r.Hint + ")"
		}
		return text + "\n"
	case r.Note != "":
		return "ok: " + r.Note + "\n"
	case r.Token != 0:
		return fmt.Sprintf("token %d\n", r.Token)
	}
	return ""
}

// changes prints the new events and the lines of the picture that are not as before.
func changes(before, after *State) string {
	var out strings.Builder
	for _, e := range after.Events {
		if e.Seq > before.EventSeq && !quietEvents[e.Type] {
			fmt.Fprintf(&out, "* %s: %s\n", e.Type, e.Text)
		}
	}
	old := map[string]bool{}
	for _, line := range picture(before) {
		old[line] = true
	}
	for _, line := range picture(after) {
		if !old[line] {
			fmt.Fprintln(&out, line)
		}
	}
	return out.String()
}

// quietEvents are left out: the picture's own lines say the same.
var quietEvents = map[string]bool{"verdict": true, "step_started": true, "step_done": true, "step_failed": true, "step_interrupted": true}

// picture is a state as a person would want it, one line for each thing.
func picture(s *State) []string {
	var lines []string
	for _, name := range s.GroupNames() {
		g := s.Groups[name]
		prefix := ""
		if len(s.Groups) > 1 {
			prefix = name + " "
		}
		add := func(format string, args ...any) { lines = append(lines, prefix+fmt.Sprintf(format, args...)) }
		add("%s: active %s, writer %s, epoch %d", s.Phase(name), g.Active, g.Writer, g.Epoch)
		for _, app := range s.Policy.Group(name).Apps {
			add("%s", appText(g, g.Apps[app.Name]))
		}
		add("%s", switchoverText(g))
		if w := g.Switchover; w.Open() {
			for _, step := range w.Steps {
				add("  %s", stepText(step))
			}
			add("  at risk: %s", riskText(w.AtRisk))
		}
		add("next: %s", tasksText(s.Next(name)))
		add("keep: %s", tasksText(s.Keep(name)))
		add("held back by: %s", blockersText(g.Blockers, true))
		if g.Switched != nil && g.Switched.CachesExpireAt != nil {
			add("caches expire at %s", g.Switched.CachesExpireAt.Format(time.TimeOnly))
		}
	}
	var timers []string
	for _, t := range s.Timers() {
		timers = append(timers, fmt.Sprintf("%s in %s", t.Key, t.After))
	}
	return append(lines, "waits for: "+orElse(strings.Join(timers, ", "), "nothing"))
}

func appText(g *GroupState, a *AppState) string {
	text := fmt.Sprintf("%s is %s", a.Name, a.Health)
	if a.Name != g.Active {
		text += ", " + orElse(strings.Replace(blockersText(a.NotReady, false), "nothing", "", 1), "ready")
	}
	for _, m := range []struct {
		name string
		mark *Mark
	}{{"marked", a.Mark}, {"to be released", a.Release}} {
		if m.mark == nil {
			continue
		}
		text += fmt.Sprintf(", %s (%s)", m.name, m.mark.parts())
		if m.mark.Open != nil {
			text += fmt.Sprintf(" attempt %d on %s", m.mark.Open.Token, m.mark.Open.Part)
		}
	}
	return text
}

func (m *Mark) parts() string {
	var parts []string
	for part, on := range map[Part]bool{PartMaintenance: m.Maintenance} {
		if on {
			parts = append(parts, string(part))
		}
	}
	if m.Database {
		parts = append(parts, string(PartDatabase))
	}
	if m.Replication {
		parts = append(parts, string(PartReplication))
	}
	if m.Reprotect.Open() {
		parts = append(parts, string(PartReprotect))
	}
	return strings.Join(parts, "+")
}

func switchoverText(g *GroupState) string {
	w := g.Switchover
	if !w.Open() {
		return "no switchover is open"
	}
	text := fmt.Sprintf("%s %d from %s to %s is %s, by %s", w.Kind, w.ID, w.From, w.To, w.Result, w.By)
	if w.Undoing != "" {
		text += ", being undone: " + w.Undoing
	}
	if w.Held != 0 {
		text += ", held"
	}
	return text
}

func stepText(step Step) string {
	text := fmt.Sprintf("%s on %s: %s", step.Name, step.App, step.State)
	if step.Open != "" {
		text += fmt.Sprintf(", attempt %d with token %d to %s", step.Attempts, step.Token, step.Open)
	}
	if step.Error != "" {
		text += ", " + step.Error
	}
	if step.After != "" {
		text += fmt.Sprintf(", after hook %s", step.After)
	}
	return text
}

func riskText(r AtRisk) string {
	text := "bytes unknown"
	if r.Bytes != nil {
		text = fmt.Sprintf("%s%d bytes", map[bool]string{true: "", false: "at least "}[r.BytesExact], *r.Bytes)
	}
	if r.Seconds == nil {
		return text + ", seconds unknown"
	}
	return text + fmt.Sprintf(", at most %g s", *r.Seconds)
}

func tasksText(tasks []Task) string {
	var list []string
	for _, t := range tasks {
		switch {
		case t.Step != "":
			list = append(list, fmt.Sprintf("%s %s on %s", t.Work, t.Step, t.App))
		case t.Release:
			list = append(list, fmt.Sprintf("release %s of %s", t.Part, t.App))
		default:
			list = append(list, fmt.Sprintf("fence %s of %s", t.Part, t.App))
		}
	}
	return orElse(strings.Join(list, ", "), "nothing")
}

func blockersText(blockers []Blocker, details bool) string {
	var list []string
	for _, b := range blockers {
		if details {
			list = append(list, fmt.Sprintf("%s (%s)", b.Code, b.Detail))
		} else {
			list = append(list, fmt.Sprintf("%s: %s", b.Code, b.Detail))
		}
	}
	return orElse(strings.Join(list, ", "), "nothing")
}

// explain [group=shop]: the whole rule as it stands.
func (s *script) explain(a *args, _ *Result) string {
	e, _ := s.s.Explain(a.get("group", "shop"))
	lines := []string{fmt.Sprintf("would switch: %v", e.WouldSwitch)}
	for _, c := range e.Conditions {
		lines = append(lines, fmt.Sprintf("%s %s: %s", map[bool]string{true: "+", false: "-"}[c.Met], c.Code, c.Evidence))
	}
	return strings.Join(lines, "\n")
}

// history [group=shop]: the switchovers that have ended.
func (s *script) history(a *args, _ *Result) string {
	var lines []string
	for _, w := range s.group(a.get("group", "shop")).History {
		lines = append(lines, fmt.Sprintf("%s %d from %s to %s: %s %s; at risk %s", w.Kind, w.ID, w.From, w.To, w.Result, strings.Join(w.Exceptions, ", "), riskText(w.AtRisk)))
	}
	return orElse(strings.Join(lines, "\n"), "none")
}
