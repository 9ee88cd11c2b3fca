package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// mapping hands out the keys of a YAML mapping and remembers which were asked for, so that done can tell the others
// apart from those that the format knows. It thereby needs no list of known keys beside the code that reads them.
type mapping struct {
	value
	fields map[string]value
	keys   []string // in the file's order
	known  []string // asked for
	broken bool     // not a mapping: said once, nothing else is missing from it

	refused []string // of the format but not of this version, so not suggested either
}

// mapping reads v as a mapping, complaining if it is none and about keys that come twice.
func (v value) mapping() *mapping {
	m := &mapping{value: v, fields: map[string]value{}}
	if v.node == nil {
		m.broken = true
		return m
	}
	if v.node.Kind != yaml.MappingNode {
		v.fault("want a mapping of keys, got %s", describe(v.node))
		m.broken = true
		return m
	}
	for i := 0; i+1 < len(v.node.Content); i += 2 {
		key, node := v.node.Content[i], v.node.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			v.r.fault(key.Line, v.path, "want a plain key, got %s", describe(key))
			continue
		}
		name := key.Value
		field := value{r: v.r, node: node, path: join(v.path, printable(name)), line: key.Line}
		if first, twice := m.fields[name]; twice {
			field.fault("is given twice, first in line %d", first.line)
			continue
		}
		m.fields[name] = field
		m.keys = append(m.keys, name)
	}
	return m
}

// get returns the value of key. A key with nothing behind it is a fault and counts as absent: who wrote it meant
// something, and whether that was the default or an empty list is not ours to guess.
func (m *mapping) get(key string) (value, bool) {
	m.known = append(m.known, key)
	v, ok := m.fields[key]
	if !ok {
		return m.at(key), false
	}
	if isNull(v.node) {
		v.fault("has no value; write one or leave the key out")
		return v, false
	}
	return v, true
}

// need is get for a key without a default; what says what belongs there.
func (m *mapping) need(key, what string) (value, bool) {
	v, ok := m.get(key)
	if _, present := m.fields[key]; !present && !m.broken {
		v.fault("is missing: %s", what)
	}
	return v, ok
}

// refuse is for keys of the format that this version cannot act on.
func (m *mapping) refuse(key, message string) {
	m.refused = append(m.refused, key)
	if v, ok := m.fields[key]; ok {
		v.fault("%s", message)
	}
}

// done complains about every key that nobody asked for.
func (m *mapping) done() {
	if tell := m.r.options.keys; tell != nil {
		tell(m.value.path, m.known, m.refused)
	}
	for _, key := range m.keys {
		if !slices.Contains(m.known, key) && !slices.Contains(m.refused, key) {
			m.fields[key].fault("%s", m.unknown(key))
		}
	}
}

// misplaced are keys that people expect, with what to write instead.
var misplaced = map[string]string{
	"password":      "secrets stay out of the file: use password_file or password_env",
	"headers":       "headers stay out of the file, they may hold secrets: use header_file or header_env",
	"header":        "headers stay out of the file, they may hold secrets: use header_file or header_env",
	"authorization": "secrets stay out of the file: use header_file or header_env",
	"token":         "secrets stay out of the file: use header_file or header_env",
}

func (m *mapping) unknown(key string) string {
	if near, ok := nearest(key, m.known); ok {
		return fmt.Sprintf("unknown key; did you mean %q?", near)
	}
	if hint, ok := misplaced[strings.ToLower(key)]; ok {
		return "unknown key; " + hint
	}
	return "unknown key; known here: " + strings.Join(slices.Sorted(slices.Values(m.known)), ", ")
}

// list reads v as a list of at most limit items.
func (v value) list(limit int) []value {
	if v.node == nil {
		return nil
	}
	if v.node.Kind != yaml.SequenceNode {
		v.fault("want a list in [brackets], got %s", describe(v.node))
		return nil
	}
	if len(v.node.Content) > limit {
		v.fault("has %d items, at most %d are allowed", len(v.node.Content), limit)
		return nil
	}
	items := make([]value, len(v.node.Content))
	for i, n := range v.node.Content {
		items[i] = value{r: v.r, node: n, path: v.path + "[" + strconv.Itoa(i) + "]", line: n.Line}
	}
	return items
}

// child looks key up without a complaint; its node is nil if v is no mapping with that key.
func (v value) child(key string) value {
	if v.node != nil && v.node.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(v.node.Content); i += 2 {
			if k := v.node.Content[i]; k.Value == key {
				return value{r: v.r, node: v.node.Content[i+1], path: join(v.path, key), line: k.Line}
			}
		}
	}
	return v.at(key)
}

func (v value) has(key string) bool { return v.child(key).node != nil }

func (v value) isList() bool { return v.node != nil && v.node.Kind == yaml.SequenceNode }

func (v value) emptyList() bool { return v.isList() && len(v.node.Content) == 0 }

// nearest returns the candidate that differs from s by a typing slip or two, if there is one.
func nearest(s string, candidates []string) (string, bool) {
	best, bestDistance := "", min(2, len(s)/3)+1
	normal := strings.ReplaceAll(strings.ToLower(s), "-", "_")
	for _, c := range candidates {
		if d := distance(normal, strings.ReplaceAll(c, "-", "_"), bestDistance); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best, best != ""
}

// distance is the number of insertions, deletions, replacements and swaps of neighbours between a and b (optimal
// string alignment), or limit where it is that or more.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	before, last, row := []int(nil), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, make([]int, len(b)+1)
	}
	return min(last[len(b)], limit)
}
