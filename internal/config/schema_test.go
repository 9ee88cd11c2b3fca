package config

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// keySet is keys by where they stand, with names and numbers of items left out of the path.
type keySet map[string]map[string]bool

func (k keySet) add(path, key string) {
	if k[path] == nil {
		k[path] = map[string]bool{}
	}
	k[path][key] = true
}

// named are the parts of a path that stand for what a person has named, and for places that hold the same.
var named = strings.NewReplacer("standby_probes[]", "probes[]", ".after[]", ".before[]")

var (
	items  = regexp.MustCompile(`\[[0-9]+\]`)
	groups = regexp.MustCompile(`^groups\.[^.]+`)
	peers  = regexp.MustCompile(`^cluster\.watchers\.[^.]+`)
	steps  = regexp.MustCompile(`\.steps\.[^.]+`)
)

func normal(path string) string {
	path = items.ReplaceAllString(path, "[]")
	path = groups.ReplaceAllString(path, "groups.*")
	path = peers.ReplaceAllString(path, "cluster.watchers.*")
	return named.Replace(steps.ReplaceAllString(path, ".steps.*"))
}

// readerKeys are those that the reader asks for, and those that it refuses as not of this version.
func readerKeys(t *testing.T) (known, refused keySet) {
	t.Helper()
	known, refused = keySet{}, keySet{}
	files, err := filepath.Glob("testdata/good/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, "example.yaml") {
		o := Options{keys: func(path string, asked, refuses []string) {
			path = normal(path)
			if path == "groups" || path == "cluster.watchers" {
				return // their keys are names
			}
			for _, key := range asked {
				known.add(path, key)
			}
			for _, key := range refuses {
				refused.add(path, key)
			}
		}}
		if _, err := o.Load(file); err != nil {
			t.Fatal(err)
		}
	}
	return known, refused
}

// schemaKeys walks the schema.
type schemaKeys struct {
	root map[string]any
	keys keySet
}

func (s *schemaKeys) walk(path string, node any) {
	n, ok := node.(map[string]any)
	if !ok {
		return
	}
	if ref, ok := n["$ref"].(string); ok {
		name := strings.TrimPrefix(ref, "#/definitions/")
		s.walk(path, s.root["definitions"].(map[string]any)[name])
	}
	for _, word := range []string{"oneOf", "allOf"} {
		branches, _ := n[word].([]any)
		for _, branch := range branches {
			s.walk(path, branch)
		}
	}
	s.walk(path, n["then"])
	s.walk(normal(path+"[]"), n["items"])
	if _, open := n["additionalProperties"].(map[string]any); open {
		s.walk(normal(path+".x"), n["additionalProperties"])
	}
	properties, _ := n["properties"].(map[string]any)
	for key, child := range properties {
		s.keys.add(path, key)
		s.walk(normal(join(path, key)), child)
	}
}

// TestSchemaKnowsEveryKey: the schema has each key that the reader knows, in its place, and no other.
func TestSchemaKnowsEveryKey(t *testing.T) {
	known, refused := readerKeys(t)
	s := &schemaKeys{keys: keySet{}}
	if err := json.Unmarshal(Schema(), &s.root); err != nil {
		t.Fatal(err)
	}
	s.walk("", s.root)
	for path, keys := range known {
		for key := range keys {
			if !s.keys[path][key] {
				t.Errorf("the reader takes %q in %q, the schema does not", key, path)
			}
		}
	}
	later := func(path string) bool { // below a key that this version refuses
		for place, keys := range refused {
			for key := range keys {
				if strings.HasPrefix(path, join(place, key)) {
					return true
				}
			}
		}
		return false
	}
	for path, keys := range s.keys {
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			if !known[path][key] && !refused[path][key] && !later(path) {
				t.Errorf("the schema has %q in %q, the reader does not take it", key, path)
			}
		}
	}
	if len(known) < 25 || len(s.keys) < len(known) {
		t.Errorf("only %d places were read, %d are in the schema", len(known), len(s.keys))
	}
}

// compiled is the schema as a validator sees it.
func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	tree, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("watchover.json", tree); err != nil {
		t.Fatal(err)
	}
	s, err := compiler.Compile("watchover.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func validate(t *testing.T, s *jsonschema.Schema, text []byte) error {
	t.Helper()
	var tree any
	if err := yaml.Unmarshal(text, &tree); err != nil {
		return err // no JSON could be made of it, so it is not taken either
	}
	again, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(again))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(value)
}

// TestSchemaAgreesWithTheReader: what the reader takes is valid, what it calls an unknown or missing key is not.
func TestSchemaAgreesWithTheReader(t *testing.T) {
	s := compiled(t)
	good, _ := filepath.Glob("testdata/good/*.yaml")
	for _, file := range append(good, "example.yaml") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(t, s, text); err != nil {
			t.Errorf("%s is valid, but the schema says: %v", file, err)
		}
	}
	wants, _ := filepath.Glob("testdata/bad/*.want")
	judged := 0
	for _, file := range wants {
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(want), "unknown key") && !strings.Contains(string(want), "is missing: ") ||
			strings.Contains(string(want), "either all apps of a group do or none") { // beyond a schema
			continue
		}
		text, err := os.ReadFile(strings.TrimSuffix(file, ".want") + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		judged++
		if validate(t, s, text) == nil {
			t.Errorf("the schema takes %s, which is refused: %s", file, want)
		}
	}
	if judged < 10 {
		t.Errorf("only %d bad files were held against the schema", judged)
	}
}

// TestSchemaWantsAFileOrAVariable: an editor is told of both at once, and of what is no variable's name.
func TestSchemaWantsAFileOrAVariable(t *testing.T) {
	s := compiled(t)
	text, err := os.ReadFile("testdata/good/environment.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{
		"header_env: SHOP_PROBE_HEADERS", "password_env: _pg_password2", "header_env: SHOP_HEADERS", "password_env: SHOP_PG_PASSWORD", "url_env: SLACK_URL",
	} {
		kind, _, _ := strings.Cut(key, "_")
		for what, bad := range map[string]string{"both": key + ", " + kind + "_file: x", "no name": kind + "_env: 9X", "shared": kind + "_env: PATH"} {
			if validate(t, s, []byte(strings.Replace(string(text), key, bad, 1))) == nil {
				t.Errorf("the schema takes %s: %s", what, bad)
			}
		}
	}
}

// fault is a line of a .want file: file, line, path and message.
var fault = regexp.MustCompile(`^[^:]+:[0-9]+: ([^ ]+): `)

// TestEveryKeyHasABadCase: each key of the format is in the path of at least one fault that a bad file must be told.
func TestEveryKeyHasABadCase(t *testing.T) {
	known, refused := readerKeys(t)
	blamed := map[string]bool{}
	wants, _ := filepath.Glob("testdata/bad/*.want")
	for _, file := range wants {
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(want)) {
			if m := fault.FindStringSubmatch(line); m != nil {
				blamed[itemless(normal(m[1]))] = true
			}
		}
	}
	for _, keys := range []keySet{known, refused} {
		for path, set := range keys {
			for key := range set {
				place := itemless(normal(join(path, key)))
				if !blamed[place] && path != "" {
					t.Errorf("no bad file has a fault at %s", place)
				}
			}
		}
	}
}

// itemless lets a list's fault count for the list, and an action's for all places where actions stand.
func itemless(path string) string {
	return strings.TrimSuffix(anyAction.ReplaceAllString(path, "ACTION"), "[]")
}

var anyAction = regexp.MustCompile(`groups\.\*\.(apps\[\]\.maintenance\.(on|off|check)|steps\.\*\.before\[\])`)
