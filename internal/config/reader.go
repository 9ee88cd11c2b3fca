package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// maxDepth is far above what the format needs (8) and keeps recursion over a hostile file shallow.
const maxDepth = 24

// reader walks one file's tree and collects faults instead of stopping at the first.
type reader struct {
	name     string
	dir      string
	options  Options
	members  []string // names of the cluster's watchers; nil: not known
	trusted  bool     // cluster.tls is there, so watchers may be on several machines
	faults   Errors
	warnings []string
}

func newReader(name, dir string, o Options) *reader {
	return &reader{name: name, dir: dir, options: o}
}

func (r *reader) err() error {
	if len(r.faults) == 0 {
		return nil
	}
	return r.faults.sorted()
}

func (r *reader) fault(line int, path, format string, args ...any) {
	switch {
	case len(r.faults) < maxFaults:
		r.faults = append(r.faults, Fault{File: r.name, Line: max(line, 1), Path: path, Message: fmt.Sprintf(format, args...)})
	case len(r.faults) == maxFaults:
		r.faults = append(r.faults, Fault{File: r.name, Line: max(line, 1), Message: "too many faults, the rest is left out"})
	}
}

// value is one node of the tree with what is needed to complain about it.
type value struct {
	r    *reader
	node *yaml.Node // nil where the file has nothing usable; every getter then stays silent
	path string
	line int // of the key, where there is one
}

func (v value) fault(format string, args ...any) { v.r.fault(v.line, v.path, format, args...) }

// at is the fault of a key of v.
func (v value) at(key string) value {
	return value{r: v.r, path: join(v.path, key), line: v.line}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// document parses text and refuses what the format leaves out of YAML.
func (r *reader) document(text []byte) value {
	none := value{r: r, line: 1}
	if len(text) > maxFileSize {
		none.fault("is larger than %d KiB", maxFileSize>>10)
		return none
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var doc, next yaml.Node
	err := decoder.Decode(&doc)
	if errors.Is(err, io.EOF) || err == nil && (len(doc.Content) == 0 || isNull(doc.Content[0])) {
		none.fault("is empty; `watchover config example` prints a file to start from")
		return none
	}
	if err != nil {
		r.syntax(text, err)
		return none
	}
	switch err := decoder.Decode(&next); {
	case err == nil:
		r.fault(next.Line, "", "a second document begins here; a configuration is one")
	case !errors.Is(err, io.EOF):
		r.syntax(text, err)
	}
	root := value{r: r, node: doc.Content[0], line: doc.Content[0].Line}
	if !r.plain(root.node, 0) {
		root.node = nil
	}
	return root
}

// syntax turns "yaml: line 7: did not find ..." into a fault of the line that breaks the file.
func (r *reader) syntax(text []byte, err error) {
	message, line := splitLine(err)
	if n := breakingLine(text, message); n > 0 {
		line = n
	}
	if tabIndents(text, line) {
		message = "a tab indents this line, want spaces"
	}
	r.fault(line, "", "is not YAML: %s", message)
}

func splitLine(err error) (message string, line int) {
	message = strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(message, "line "); ok {
		if number, text, ok := strings.Cut(rest, ": "); ok {
			if n, err := strconv.Atoi(number); err == nil {
				return text, n
			}
		}
	}
	return message, 1
}

// breakingLine finds the first line with which the text fails by message, or 0. The parser itself names the line where
// the broken mapping or list begins, or the one before, which can be far above the mistake.
func breakingLine(text []byte, message string) int {
	lines := bytes.SplitAfter(text, []byte("\n"))
	ends := make([]int, len(lines))
	for i, end := 0, 0; i < len(lines); i++ {
		end += len(lines[i])
		ends[i] = end
	}
	fails := func(i int) bool {
		decoder := yaml.NewDecoder(bytes.NewReader(text[:ends[i]]))
		for {
			var doc yaml.Node
			if err := decoder.Decode(&doc); err != nil {
				got, _ := splitLine(err)
				return got == message
			}
		}
	}
	i := sort.Search(len(lines), fails)
	if i == len(lines) {
		return 0
	}
	return i + 1
}

func tabIndents(text []byte, line int) bool {
	lines := bytes.SplitN(text, []byte("\n"), line+1)
	if line > len(lines) {
		return false
	}
	l := lines[line-1]
	return bytes.ContainsRune(l[:len(l)-len(bytes.TrimLeft(l, " \t"))], '\t')
}

// plain refuses what would let a small file grow (aliases), hide what it says (merge keys, tags) or nest without end.
// It says whether the tree may be read further.
func (r *reader) plain(n *yaml.Node, depth int) bool {
	ok := true
	switch {
	case depth > maxDepth:
		r.fault(n.Line, "", "is nested too deeply")
		return false
	case n.Kind == yaml.AliasNode:
		r.fault(n.Line, "", "alias *%s: aliases are not supported, write the value out", n.Value)
		return false
	case n.Anchor != "":
		r.fault(n.Line, "", "anchor &%s: anchors are not supported, write the value out where it is needed", n.Anchor)
		ok = false
	case n.Style&yaml.TaggedStyle != 0:
		r.fault(n.Line, "", "tag %s: tags are not supported", n.Tag)
		ok = false
	case n.ShortTag() == "!!merge":
		r.fault(n.Line, "", "merge key <<: merging is not supported, write the keys out")
		ok = false
	}
	for _, child := range n.Content {
		ok = r.plain(child, depth+1) && ok
	}
	return ok
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// describe says in the file's own words what a node is.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!null":
		return "nothing"
	case "!!int", "!!float":
		return "the number " + clip(n.Value)
	case "!!bool":
		return "the truth value " + clip(n.Value)
	case "!!timestamp":
		return "the date " + clip(n.Value)
	}
	return strconv.Quote(clip(n.Value))
}

// printable is a key as a part of a path, which is one line.
func printable(key string) string {
	if strings.ContainsFunc(key, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return strconv.Quote(clip(key))
	}
	return clip(key)
}

// clip keeps a fault readable when the value is a novel.
func clip(s string) string {
	const limit = 80
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "..."
}
