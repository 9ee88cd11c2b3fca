package main

// mutant is one way to break one guarantee: a text in a file that is replaced by another.
type mutant struct {
	guarantee int // its number in docs/guarantees.md
	name      string
	file      string
	old, new  string
}

const rules = "pkg/failover/"

var mutants = []mutant{
	{1, "a request opens beside an open switchover", rules + "request.go", "if w := g.Switchover; w.Open() {\n\t\trule := BlockOpen", "if w := g.Switchover; w.Open() && s == nil {\n\t\trule := BlockOpen"},
	{1, "the quorum opens beside an open switchover", rules + "decide.go", "if !w.Open() || w.Result == ResultHalted {\n\t\treturn condition(BlockOpen, true", "if true {\n\t\treturn condition(BlockOpen, true"},

	{2, "stale verdicts count", rules + "health.go", "r.Boot >= m.About.Boot && s.IsFresh(m.Name)", "r.Boot >= m.About.Boot"},
	{2, "one verdict is enough", rules + "health.go", "return max(s.Majority(), p.Failover.Quorum)", "return 1"},
	{2, "verdicts on old probes or roles count", rules + "apply.go", "if r.Revision != a.Revision || old != nil", "if old != nil"},

	{3, "hands act though the log refused", "internal/switchover/attempt.go", "case !got.result.Accepted || got.result.Token == 0:", "case got.err != nil:"},
	{3, "a takeover reuses the token", rules + "journal.go", "step.Token, step.Open, step.OpenTerm = s.Token(s.Index), st.Work, s.Term", "if step.Open == \"\" {\n\t\tstep.Token = s.Token(s.Index)\n\t}\n\tstep.Open, step.OpenTerm = st.Work, s.Term"},
	{3, "an old term's command is applied", rules + "apply.go", "if c.Term != e.Term {", "if c.Term > e.Term {"},
	{3, "an end with an old token closes the attempt", rules + "journal.go", "if step == nil || step.Open == \"\" || step.Token != e.Token {", "if step == nil || step.Open == \"\" {"},

	{3, "an act that was called off is told to be over", "internal/switchover/attempt.go", "d.loose && !waitFor(leading, time.Until(a.id.deadline))", "d.loose && !waitFor(leading, 0)"},

	{3, "a recovery gives tokens out again", rules + "recovery.go", "generation := max(s.Generation, o.Above) + 1", "generation := max(s.Generation, o.Above)"},
	{4, "a successor does not wait for foreign hands", "internal/switchover/performer.go", "return max(wait, time.Until(p.began.Add(state.Timeout(open))))", "return wait"},
	{4, "an undo leaves out steps that were only begun", rules + "undo.go", "if undoable(step.Name) && step.Acted && step.State != StepUndone", "if undoable(step.Name) && step.State == StepDone"},
	{4, "a command is applied twice", rules + "apply.go", "if r, seen := n.seen(c.ID); seen {", "if r, seen := n.seen(c.ID); seen && c.Request == nil && c.Pause == nil && c.Resume == nil {"},

	{5, "no look before the point of no return", rules + "lastlook.go", "case writable:\n\t\treturn s.holdBack", "case writable && s == nil:\n\t\treturn s.holdBack"},
	{5, "a promotion tried again does not fence first", rules + "lastlook.go", "case st.Step != StepPromote || promoted || w.unfenced():", "case st.Step != StepPromote || promoted || w.unfenced() || third == \"\":"},
	{5, "a promotion tried again does not look at a third app", rules + "lastlook.go", "case !writable && third != \"\":", "case !writable && third != \"\" && s == nil:"},
	{5, "a freeze is believed though its keeper fails to make it", rules + "journal.go", "m.Refreeze = e.Outcome != OutcomeDone", "m.Refreeze = m.Refreeze && e.Outcome != OutcomeDone"},
	{5, "the target is opened beside an old app that answers open", rules + "lastlook.go", "if st.Step == StepMaintenanceOff && st.FromOpen {", "if st.Step == StepMaintenanceOff && st.FromOpen && s == nil {"},
	{5, "a restore does not wait for a keeper's hands", rules + "restore.go", "if app := s.keptNow(); app != \"\" {", "if app := s.keptNow(); app != \"\" && s == nil {"},
	{5, "an earlier leader may still be opening the old app", rules + "next.go", "busy(w.From) || r != nil && r.Open != nil {", "busy(w.From) || r != nil && false {"},
	{5, "a failure past the point of no return is undone", rules + "journal.go", "case w.PastNoReturn():\n\t\ts.halt(g, w, step)", "case w.PastNoReturn() && step.Tries > 1000:\n\t\ts.halt(g, w, step)"},
	{5, "an abort past the point of no return is taken", rules + "request.go", "case w.PastNoReturn():\n\t\treturn refuse", "case w.PastNoReturn() && s == nil:\n\t\treturn refuse"},
	{5, "the writer is fenced", rules + "next.go", "if a.Mark != nil && a.Name != g.Writer {", "if a.Mark != nil || a.Name == g.Writer && g.Apps[g.Active].Health == HealthDown {\n\t\t\tif a.Mark == nil {\n\t\t\t\ta.Mark = &Mark{}\n\t\t\t}"},
	{5, "a mark is washed off when its app answers", rules + "undo.go", "if s.verifiedReplica(g, p, a) < s.Majority() {", "if a.Health != HealthUp {"},

	{6, "the serial follows the clock alone", rules + "apply.go", "if now := s.Time.Unix(); now > int64(next) &&", "if now := s.Time.Unix(); now > 0 &&"},
	{6, "a watcher out of touch answers as ever", "internal/nameserver/respond.go", "case table.stale, isolated && since >= policy.After:", "case table.stale:"},
	{6, "a switch does not raise the serial", rules + "switchover.go", "s.changeRoles(g, w.To)\n\ts.bumpSerial()", "s.changeRoles(g, w.To)"},

	{7, "a pause holds nothing back", rules + "decide.go", "return condition(BlockPaused, false, \"%s\", text)", "return condition(BlockPaused, true, \"%s\", text)"},
	{7, "a switchover goes on before its restored state is confirmed", rules + "next.go", "if g == nil || !g.Switchover.Open() || g.Unconfirmed != nil {", "if g == nil || !g.Switchover.Open() {"},
	{7, "marks are kept before the restored state is confirmed", rules + "next.go", "if g == nil || g.Unconfirmed != nil {\n\t\treturn nil // an old mark", "if g == nil {\n\t\treturn nil // an old mark"},
	{7, "a minority opens what a person asks for", rules + "request.go", "if !s.HasQuorum() {", "if !s.HasQuorum() && s == nil {"},
	{7, "the quorum is of those heard", rules + "health.go", "func Majority(members int) int { return members/2 + 1 }", "func Majority(members int) int { return max(1, members/2) }"},

	{8, "no cooldown", rules + "switchover.go", "if w.Result != ResultUndone && w.Policy.Failover.Cooldown > 0 {", "if w.Result == ResultAborted {"},
	{8, "the cooldown counts from the beginning", rules + "switchover.go", "For: w.Policy.Failover.Cooldown}", "For: max(1, w.Policy.Failover.Cooldown-s.Time.Sub(w.StartedAt))}"},
	{8, "a snapshot forgets that the active app was up", rules + "state.go", "`json:\"up_once\"`", "`json:\"-\"`"},
	{8, "a new state shares its reports with the old one", rules + "clone.go", "n.Reports = maps.Clone(a.Reports)", "n.Reports = a.Reports; _ = maps.Clone[map[string]int]"},
	{8, "a snapshot forgets which commands were applied", rules + "state.go", "`json:\"applied\"`", "`json:\"-\"`"},
	{8, "a halted step is never tried again", rules + "next.go", "case step.State == StepFailed && w.Undoing == \"\":\n\t\treturn haltedRetry", "case step.State == StepFailed && w.Undoing == \"\":\n\t\treturn 1000000 * haltedRetry"},
	{8, "an attempt nobody's hands are on stays open", "internal/switchover/performer.go", "if step.Open == \"\" || step.OpenTerm != state.Term || state.Term != p.term {\n\t\treturn false", "if true {\n\t\treturn false"},
}
