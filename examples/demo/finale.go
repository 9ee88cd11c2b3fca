package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// finish prints what took how long and the proofs, and then keeps the cluster running for whoever wants to try things.
func (st *story) finish(ctx context.Context, once bool) error {
	s, g := st.board.look(), st.stage
	proofs, missing := proofRows(st.prove(ctx), g.signs)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	g.print(slices.Concat([]row{nil}, timeline(&s, g.width()-1, g.signs), []row{nil}, headline(&s), proofs, comebackRows(&s), []row{nil}))
	if once {
		return missing
	}
	g.print(st.commands())
	st.board.update(func(s *scene) { s.idle = true })
	st.linger(ctx)
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return errors.Join(cause, missing)
	}
	g.print([]row{nil, {{faint, "  Ending three watchers and two shops."}}})
	return missing
}

// headline is the one number that people ask for, and what it does not say.
func headline(s *scene) []row {
	all := s.allAnswer(s.shops[1].address)
	return []row{
		{{strong, fmt.Sprintf("  From the kill until all three watchers answer standby: %s", millis(max(0, all.Sub(s.killed))))}},
		{{faint, "  (a resolver may keep the old answer in its cache until its TTL is over)"}},
	}
}

func comebackRows(s *scene) []row {
	b := s.back
	return []row{{{plain, fmt.Sprintf("    Started again, it was closed after %s and its database frozen after %s.",
		millis(b.closed.Sub(b.answered)), millis(b.frozen.Sub(b.answered)))}}}
}

// commands are what a newcomer may want to try now, with the real paths and numbers.
func (st *story) commands() []row {
	standby, watchover := st.lab.standby(), st.tool("watchover")
	first, second := st.lab.watchers[0], st.lab.watchers[1]
	host, port, _ := strings.Cut(first.DNS, ":")
	rows := []row{
		{{strong, "  Everything keeps running; Ctrl-C ends it."}, {plain, " Try this in another terminal:"}},
		{{faint, "  (Quicker than the defaults: confirm_for 0s, a probe each second, cooldown 10s. See"}},
		{{faint, "  " + first.Config + ")"}},
		nil,
		command("export WATCHOVER_SOCKET="+first.Socket, ""),
		command(watchover+" status --watch", ""),
		command(watchover+" explain "+group, "why it would or would not switch now"),
		command(watchover+" history "+group, ""),
		command(fmt.Sprintf("dig @%s -p %s %s", host, port, recordName), "ask a watcher yourself"),
		command("curl "+standby.URL+"/", "the shop; a browser does as well"),
		command(watchover+" pause "+group+" --for 10m --reason lunch", "no automatic failover"),
		command(watchover+" resume "+group, ""),
		nil,
		{{plain, "  And back again: first make the old main a replica of standby, then ask for a planned switchover."}},
		command(watchover+" reprotect "+group, ""),
		command(watchover+" rehearse "+group, "every check of the plan, on every watcher, changing nothing"),
		command(watchover+" switchover "+group+" --yes", "to main, all eight steps"),
		command("kill -USR1 "+strconv.Itoa(second.process.pid()), "the same by signal, to "+second.Name+" (not within a minute of the last)"),
		command("kill -9 "+strconv.Itoa(standby.process.pid()), "or another outage: standby's process"),
		nil,
	}
	return rows
}

func command(text, comment string) row {
	r := row{{plain, "    "}, {good, text}}
	if comment != "" {
		r = append(r, span{faint, "   # " + comment})
	}
	return r
}

// tool is how the program is called from the directory that the demo was started in.
func (st *story) tool(name string) string {
	path := filepath.Join(st.lab.bin, name)
	here, err := os.Getwd()
	if err != nil {
		return path
	}
	if short, err := filepath.Rel(here, path); err == nil && !strings.HasPrefix(short, "..") {
		return "." + string(filepath.Separator) + short
	}
	return path
}

// linger tells of each change of the watchers' answers until the context ends.
func (st *story) linger(ctx context.Context) {
	told := ""
	for ctx.Err() == nil {
		st.board.wait(ctx, func(s *scene) bool { return agreed(s) != "" && agreed(s) != told })
		s := st.board.look()
		if now := agreed(&s); now != "" && now != told {
			told = now
			st.stage.print([]row{{{plain, "  now: " + told}}})
		}
	}
}

// agreed says where the record points; empty while the watchers differ, as they do for a moment in each switch.
func agreed(s *scene) string {
	answer, silent := "", ""
	for _, w := range s.watchers {
		switch {
		case w.answer == "":
			silent += " " + w.name
		case answer != "" && w.answer != answer:
			return ""
		default:
			answer = w.answer
		}
	}
	if answer == "" {
		return "no watcher answers"
	}
	text := fmt.Sprintf("%s is %s (%s)", recordName, s.nameOf(answer), answer)
	if silent != "" {
		text += "; silent:" + silent
	}
	return text
}
