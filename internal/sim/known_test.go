package sim

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// source is the rules' own text: it says what there is to be reached, so that no list has to be kept beside it.
type source struct {
	values map[string]string   // of constants
	typed  map[string][]string // values of constants, by type
	files  []*ast.File
}

func readRules(t *testing.T) *source {
	t.Helper()
	names, err := filepath.Glob("../../pkg/failover/*.go")
	if err != nil {
		t.Fatal(err)
	}
	s := &source{values: map[string]string{}, typed: map[string][]string{}}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		s.files = append(s.files, file)
	}
	s.each(func(n ast.Node) {
		if d, ok := n.(*ast.GenDecl); ok && d.Tok == token.CONST {
			s.constants(d)
		}
	})
	return s
}

func (s *source) each(f func(ast.Node)) {
	for _, file := range s.files {
		ast.Inspect(file, func(n ast.Node) bool {
			f(n)
			return true
		})
	}
}

func (s *source) constants(d *ast.GenDecl) {
	for _, spec := range d.Specs {
		c := spec.(*ast.ValueSpec)
		for i, name := range c.Names {
			if i >= len(c.Values) {
				continue
			}
			value, ok := s.text(c.Values[i])
			if !ok {
				continue
			}
			s.values[name.Name] = value
			if kind, ok := c.Type.(*ast.Ident); ok && value != "" {
				s.typed[kind.Name] = append(s.typed[kind.Name], value)
			}
		}
	}
}

// text is what an expression says: a literal or a constant.
func (s *source) text(e ast.Expr) (string, bool) {
	switch x := e.(type) {
	case *ast.BasicLit:
		value, err := strconv.Unquote(x.Value)
		return value, err == nil && x.Kind == token.STRING
	case *ast.Ident:
		value, ok := s.values[x.Name]
		return value, ok
	}
	return "", false
}

// called are the texts that stand as an argument of calls of a function.
func (s *source) called(function string, argument int) []string {
	var list []string
	s.each(func(n ast.Node) {
		call, ok := n.(*ast.CallExpr)
		if !ok || argument >= len(call.Args) || nameOf(call.Fun) != function {
			return
		}
		if value, ok := s.text(call.Args[argument]); ok && value != "" {
			list = append(list, value)
		}
	})
	return list
}

// assigned are the texts that a variable of that name is given.
func (s *source) assigned(name string) []string {
	var list []string
	s.each(func(n ast.Node) {
		if a, ok := n.(*ast.AssignStmt); ok && len(a.Lhs) == 1 && nameOf(a.Lhs[0]) == name {
			if value, ok := s.text(a.Rhs[0]); ok {
				list = append(list, value)
			}
		}
	})
	return list
}

func nameOf(e ast.Expr) string {
	switch x := e.(type) {
	case *ast.Ident:
		return x.Name
	case *ast.SelectorExpr:
		return x.Sel.Name
	}
	return ""
}

func (s *source) prefixed(prefix string) []string {
	var list []string
	for name, value := range s.values {
		if strings.HasPrefix(name, prefix) {
			list = append(list, value)
		}
	}
	return list
}

// knownRules counts everything that the rules can bring as reached 0 times.
func knownRules(t *testing.T) tally {
	s, known := readRules(t), tally{}
	add := func(kind string, lists ...[]string) {
		for _, name := range slices.Concat(lists...) {
			known[kind+"  "+name] = 0
		}
	}
	codes := s.typed["code"]
	for name, value := range s.values {
		if strings.HasPrefix(name, "Code") {
			codes = append(codes, value)
		}
	}
	rules := slices.Concat(s.called("refuse", 1), s.called("no", 0), s.called("no", 1), s.called("failedTry", 3), s.assigned("rule"), s.prefixed("NotReady"))
	add("refusal", slices.DeleteFunc(rules, func(rule string) bool { return slices.Contains(codes, rule) || strings.ContainsAny(rule, " %") }))
	add("event", s.called("event", 0))
	for _, outcome := range s.typed["Outcome"] {
		add("event", []string{"step_" + outcome})
	}
	add("blocker", slices.DeleteFunc(s.called("condition", 0), func(code string) bool { return code == failover.ConditionActiveDown }))
	add("not ready", s.prefixed("NotReady"))
	add("phase", s.typed["Phase"])
	add("timer", s.typed["StepName"], []string{"confirm", "pause", "held", "cooldown", "again", "asked"})
	for _, field := range reflect.VisibleFields(reflect.TypeFor[failover.Command]()) {
		if field.Type.Kind() == reflect.Pointer {
			add("command", []string{field.Name})
		}
	}
	for _, kind := range s.typed["Kind"] {
		for _, result := range s.typed["SwitchoverResult"] {
			if result != string(failover.ResultRunning) {
				add("switchover", []string{kind + " " + result})
			}
		}
	}
	for _, step := range s.typed["StepName"] {
		for _, state := range s.typed["StepState"] {
			add("step", []string{step + " " + state})
		}
		for _, outcome := range s.typed["Outcome"] {
			add("attempt", []string{step + " " + outcome, "after:" + step + " " + outcome, "undo:" + step + " " + outcome})
		}
	}
	for _, part := range s.typed["Part"] {
		for _, outcome := range s.typed["Outcome"] {
			add("attempt", []string{"keep:" + part + " " + outcome, "release:" + part + " " + outcome})
		}
	}
	for name := range known {
		if cannot(name) {
			delete(known, name)
		}
	}
	return known
}

// cannot names what is made of two words that do not go together.
func cannot(name string) bool {
	_, name, _ = strings.Cut(name, "  ")
	what, state, two := strings.Cut(name, " ")
	step := failover.StepName(what[strings.IndexByte(what, ':')+1:])
	place := slices.Index(failover.Plan, step)
	first := step == failover.StepMaintenanceOn || step == failover.StepFreeze
	switch {
	case !two:
		return false
	case strings.HasPrefix(what, "keep:"):
		return step == "replication" // what is resumed is released
	case strings.HasPrefix(what, "release:"):
		return step == "reprotect"
	case place < 0, strings.HasPrefix(what, "after:"):
		return false
	case strings.HasPrefix(what, "undo:"), state == string(failover.StepUndone): // only what is before the point of no return
		return place >= slices.Index(failover.Plan, failover.StepPromote)
	case state == string(failover.StepMarked):
		return !first
	case state == string(failover.StepSkipped): // by rule, or by hand when it is halted
		return step == failover.StepFreeze || step == failover.StepStopReplication || step == failover.StepSwitchDNS || step == failover.StepVerify
	}
	return false
}

// The rules' text still has the form that is looked for.
func TestKnownRules(t *testing.T) {
	of := map[string]int{}
	for name := range knownRules(t) {
		kind, _, _ := strings.Cut(name, "  ")
		of[kind]++
	}
	for kind, least := range map[string]int{"refusal": 50, "event": 35, "blocker": 13, "not ready": 6, "command": 20, "switchover": 15, "step": 40, "attempt": 60, "timer": 14, "phase": 5} {
		if of[kind] < least {
			t.Errorf("%d of kind %s are found, there are at least %d", of[kind], kind, least)
		}
	}
}
