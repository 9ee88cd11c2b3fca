package failover

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var rewrite = flag.Bool("rewrite", false, "write what the scripts in testdata print into them")

// TestScripts plays every story in testdata. A line that begins with ">" is a command, what follows it is what it must
// print: the answer if it is not a plain yes, the events, and every line of the picture (see picture_test.go) that
// changed. After ">>" nothing is printed: the story has been told elsewhere up to there. After a deliberate change: go test ./pkg/failover -run TestScripts -rewrite, and read the difference.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 40 {
		t.Fatalf("found %d scripts: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			old, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			text := play(t, string(old))
			if text == string(old) {
				return
			}
			if *rewrite {
				if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			t.Errorf("%s", firstDifference(file, string(old), text))
		})
	}
}

func firstDifference(file, want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(a), len(b)) {
		x, y := lineOf(a, i), lineOf(b, i)
		if x != y {
			return fmt.Sprintf("%s:%d:\nwant %s\ngot  %s\n\nfrom there on it prints:\n%s", file, i+1, x, y, strings.Join(b[min(i, len(b)):min(i+12, len(b))], "\n"))
		}
	}
	return "no difference"
}

func lineOf(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(end of file)"
}

// play runs a script and returns it with what it printed.
func play(t *testing.T, text string) string {
	s := &script{world: newWorld(t), plot: defaultPlot()}
	var out strings.Builder
	for _, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		switch {
		case strings.HasPrefix(line, ">>"):
			fmt.Fprintln(&out, line)
			s.run(io.Discard, strings.TrimPrefix(line, ">>"))
		case strings.HasPrefix(line, ">"):
			fmt.Fprintln(&out, line)
			s.run(&out, strings.TrimPrefix(line, ">"))
		case strings.HasPrefix(line, "#"), line == "":
			fmt.Fprintln(&out, line)
		}
	}
	s.replay()
	return out.String()
}

// script is a world with the words that a story is told in.
type script struct {
	*world
	plot plot
}

func (s *script) run(out io.Writer, line string) {
	words, err := split(line)
	if err != nil || len(words) == 0 {
		s.t.Fatalf("%s: %v", line, err)
	}
	before, r := s.s, Result{Accepted: true}
	a := arguments(words[1:])
	a.verb = words[0]
	verb, known := verbs[words[0]]
	if !known {
		s.t.Fatalf("%s: there is no such command", line)
	}
	if said := verb(s, a, &r); said != "" {
		fmt.Fprint(out, indent(said))
	}
	fmt.Fprint(out, indent(answer(r)+changes(before, s.s)))
	if left := a.unused(); len(left) > 0 {
		s.t.Fatalf("%s: nothing uses %v", line, left)
	}
}

// replay applies the whole log again, once from the start and once through a snapshot after each entry: the end must be
// the same to the last bit.
func (s *script) replay() {
	s.t.Helper()
	if err := replays(s.log, s.s, func(int) bool { return true }); err != nil {
		s.t.Fatal(err)
	}
}

func replays(log []Entry, end *State, snapshot func(i int) bool) error {
	plain, restored := NewState(), NewState()
	for i, e := range log {
		plain, _ = plain.Apply(e)
		if !snapshot(i) {
			restored, _ = restored.Apply(e)
			continue
		}
		text, err := restored.Encode()
		if err != nil {
			return err
		}
		if restored, err = DecodeState(text); err != nil {
			return fmt.Errorf("before entry %d: %w\n%s", e.Index, err, text)
		}
		restored, _ = restored.Apply(e)
		if plain.Hash() != restored.Hash() {
			return fmt.Errorf("after entry %d a restored state differs from a replayed one", e.Index)
		}
	}
	if plain.Hash() != end.Hash() || restored.Hash() != end.Hash() {
		return errors.New("a replay ends differently")
	}
	return nil
}

// args are a command's words: "name=value", or words alone, in order.
type args struct {
	verb  string
	words []string
	named map[string]string
	used  map[string]bool
}

func arguments(words []string) *args {
	a := &args{named: map[string]string{}, used: map[string]bool{}}
	for _, word := range words {
		if name, value, ok := strings.Cut(word, "="); ok && !strings.ContainsAny(name, " \"/:") {
			a.named[name] = value
		} else {
			a.words = append(a.words, word)
		}
	}
	return a
}

func (a *args) word(i int) string {
	if i < len(a.words) {
		a.used[a.words[i]] = true
		return a.words[i]
	}
	return ""
}

func (a *args) has(word string) bool {
	if slices.Contains(a.words, word) {
		a.used[word] = true
		return true
	}
	return false
}

func (a *args) get(name, other string) string {
	if v, ok := a.named[name]; ok {
		a.used[name+"="] = true
		return v
	}
	return other
}

func (a *args) list(name string, other []string) []string {
	v, ok := a.named[name]
	switch a.used[name+"="] = true; {
	case !ok:
		return other
	case v == "":
		return []string{}
	}
	return strings.Split(v, ",")
}

func (a *args) duration(name string, other time.Duration) time.Duration {
	v, ok := a.named[name]
	if !ok {
		return other
	}
	a.used[name+"="] = true
	d, err := time.ParseDuration(v)
	if err != nil {
		panic(err)
	}
	return d
}

func (a *args) number(name string, other int) int {
	v, ok := a.named[name]
	if !ok {
		return other
	}
	a.used[name+"="] = true
	n, err := strconv.Atoi(v)
	if err != nil {
		panic(err)
	}
	return n
}

func (a *args) unused() []string {
	var left []string
	for _, word := range a.words {
		if !a.used[word] {
			left = append(left, word)
		}
	}
	for name := range a.named {
		if !a.used[name+"="] {
			left = append(left, name+"=")
		}
	}
	return left
}

// split cuts a line into words; a double-quoted part may hold spaces.
func split(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	quoted, any := false, false
	for _, c := range line {
		switch {
		case c == '"':
			quoted, any = !quoted, true
		case c == ' ' && !quoted:
			if any {
				words = append(words, word.String())
			}
			word.Reset()
			any = false
		default:
			word.WriteRune(c)
			any = true
		}
	}
	if any {
		words = append(words, word.String())
	}
	if quoted {
		return nil, errors.New("a quote is open")
	}
	return words, nil
}

func indent(text string) string {
	if text == "" {
		return ""
	}
	return "  " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n  ") + "\n"
}
