package config

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// mappings returns every mapping below n that has a fixed set of keys, with the path of each.
func mappings(n *yaml.Node, path string, into map[string]*yaml.Node) {
	switch n.Kind {
	case yaml.DocumentNode:
		mappings(n.Content[0], path, into)
	case yaml.SequenceNode:
		for _, item := range n.Content {
			mappings(item, path+"[]", into)
		}
	case yaml.MappingNode:
		if path != "cluster.watchers" && path != "groups" { // their keys are names
			into[path] = n
		}
		for i := 0; i < len(n.Content); i += 2 {
			mappings(n.Content[i+1], join(path, n.Content[i].Value), into)
		}
	}
}

// TestUnknownKeyEverywhere puts a key that nobody knows into each mapping of a full file in turn. A section that
// forgets to refuse it would ignore a misspelled setting.
func TestUnknownKeyEverywhere(t *testing.T) {
	text, err := os.ReadFile("testdata/good/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	found := map[string]*yaml.Node{}
	mappings(&doc, "", found)
	if len(found) < 25 {
		t.Fatalf("found %d mappings in the full file, want 25 or more", len(found))
	}
	for path, n := range found {
		before := n.Content
		n.Content = append(n.Content[:len(before):len(before)],
			&yaml.Node{Kind: yaml.ScalarNode, Value: "zzzzzz"}, &yaml.Node{Kind: yaml.ScalarNode, Value: "x"})
		changed, err := yaml.Marshal(&doc)
		n.Content = before
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse("f", changed, "testdata/good"); err == nil || !strings.Contains(err.Error(), "zzzzzz: unknown key") {
			t.Errorf("unknown key in %q: got %v", path, err)
		}
	}
}

// TestEdgesAreAccepted: the last value inside each bound, by replacing a piece of the minimal file.
func TestEdgesAreAccepted(t *testing.T) {
	text, err := os.ReadFile("testdata/good/minimal.yaml")
	if err != nil {
		t.Fatal(err)
	}
	const group, watcher = "    record: shop\n", "watcher: {name: w1}"
	for _, tt := range []struct{ old, replacement string }{
		{group, group + "    failover: {quorum: 0}\n"},
		{group, group + "    failover: {quorum: 2}\n"},
		{group, group + "    failover: {quorum: 3, confirm_for: 1h, cooldown: 0s, max_lag: {bytes: 0, time: 0s}}\n"},
		{group, group + "    probe: {interval: 50ms, retry_interval: 50ms, timeout: 60s, fall: 100, rise: 1}\n"},
		{group, group + "    steps: {verify: {timeout: 100ms, tries: 100, backoff: 0s}}\n"},
		{"record: shop", `record: "@"`},
		{"record: shop", "record: a.b-c._d"},
		{"name: ha.example.com", "name: ha.example.com, ttl: 1s"},
		{"name: ha.example.com", "name: ha.example.com, ttl: 24h, isolation: {ttl: 24h, after: 1s, servfail_after: 1s}"},
		{"name: prod", "name: prod\n  timing: {heartbeat: 20ms, election: 20ms, lease: 20ms}"},
		{"127.0.0.1:9001", "127.0.0.1:1"},
		{"127.0.0.1:9001", "127.0.0.1:65535"},
		{watcher, `watcher: {name: w1, http_listen: "127.0.0.1:0", dns_listen: ["127.0.0.1:0", "127.0.0.1:0"]}`},
		{watcher, `watcher: {name: w1, http_listen: "[::]:9653", dns_listen: ["[::1]:53"]}`},
		{"- name: main", "- name: " + strings.Repeat("m", 63)},
	} {
		changed := strings.Replace(string(text), tt.old, tt.replacement, 1)
		if changed == string(text) {
			t.Fatalf("%q is not in the minimal file", tt.old)
		}
		if _, err := Parse("f", []byte(changed), ""); err != nil {
			t.Errorf("%s: %v", tt.replacement, err)
		}
	}
}

func TestRecordsFileEdges(t *testing.T) {
	dir := t.TempDir()
	const policy = "zone: {name: a.example, records_file: z}\ngroups: {}\n"
	for _, tt := range []struct {
		text []byte
		want string
	}{
		{bytes.Repeat([]byte(";"), maxRecordsSize), "groups: is empty"},
		{[]byte("\xff\xfe"), `zone.records_file: "z" is not text`},
	} {
		if err := os.WriteFile(filepath.Join(dir, "z"), tt.text, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ParsePolicy("f", []byte(policy), dir)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "cannot read") {
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
}
