package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// roundTrip holds what Format and FormatJSON write against what ParsePolicy reads from it.
func roundTrip(t *testing.T, p failover.Policy) {
	t.Helper()
	yaml, err := Format(p)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := FormatJSON(p)
	if err != nil || !json.Valid(tree) {
		t.Fatalf("JSON: %v", err)
	}
	for shape, text := range map[string][]byte{"YAML": yaml, "JSON": tree} {
		again, err := ParsePolicy("again", text, "")
		if err != nil {
			t.Fatalf("%s is refused: %v\n%s", shape, err, text)
		}
		if !p.Equal(&again) {
			want, _ := json.Marshal(p)
			got, _ := json.Marshal(again)
			t.Fatalf("%s reads as another policy:\n%s\nwant\n%s\n%s", shape, got, want, text)
		}
	}
}

func TestFormatIsReadBack(t *testing.T) {
	files, err := filepath.Glob("testdata/good/*.yaml")
	if err != nil || len(files) < 5 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			f, err := Load(file)
			if err != nil {
				t.Fatal(err)
			}
			roundTrip(t, f.Policy)
		})
	}
	t.Run("example", func(t *testing.T) {
		p, err := ParsePolicy("example", Example(), "")
		if err != nil {
			t.Fatal(err)
		}
		roundTrip(t, p)
	})
}

// Texts that YAML would read as something else, or not at all, come back byte by byte.
func TestFormatKeepsOddTexts(t *testing.T) {
	f, err := Load("testdata/good/minimal.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"on", "null", "010", "1e3", "~", "2026-01-01", "- x", "{a: b}", "# x", "a: b", " begins with a space", "ends with one ", "\ttab",
		"line\nline\n", "line\r\nline\r\n", "no end\nat all", "three\n\n\n", "\nbegins with a line", "  two\n spaces\n", "\u2028\u0085", "\u007f\u0080\u009f\ufeff\U000e0001", "é€😀", "\u0007\u001b[2J", "'\"\\", "%YAML", "@", "`",
	} {
		p := f.Policy
		p.Groups = append([]failover.Group(nil), p.Groups...)
		g := &p.Groups[0]
		g.Apps = append([]failover.App(nil), g.Apps...)
		g.Apps[0].Probes = []failover.Probe{{Kind: "exec", Name: "exec", Exec: []string{"/bin/x", text, ""}}}
		p.Zone.Records = text
		roundTrip(t, p)
	}
}

func TestFormatShowsDefaults(t *testing.T) {
	f, err := Load("testdata/good/minimal.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text, err := Format(f.Policy)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"  ttl: 5m\n", "      cooldown: 10m\n", "      max_lag: {bytes: 16MiB, time: 30s}\n", "        fall: 3\n"} {
		if !strings.Contains(string(text), strings.TrimLeft(line, " ")) {
			t.Errorf("no %q in\n%s", line, text)
		}
	}
	if strings.Contains(string(text), "freeze") {
		t.Errorf("a step that does not run:\n%s", text)
	}
}

func TestDiff(t *testing.T) {
	f, err := Load("testdata/good/minimal.yaml")
	if err != nil {
		t.Fatal(err)
	}
	before := f.Policy
	after := before
	after.Groups = append([]failover.Group(nil), before.Groups...)
	after.Groups[0].Failover.Cooldown = 5 * time.Minute
	got, err := Diff(before, after)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"--- in force\n", "+++ proposed\n", "-      cooldown: 10m\n", "+      cooldown: 5m\n"} {
		if !strings.Contains(got, line) {
			t.Errorf("no %q in\n%s", line, got)
		}
	}
	if strings.HasPrefix(got, "diff") || strings.Count(got, "\n-") != 2-1 {
		t.Errorf("got\n%s", got)
	}
	if same, err := Diff(before, before); err != nil || same != "" {
		t.Errorf("no change: %q, %v", same, err)
	}
}

// A policy that comes over the socket names no file that the daemon would have to read for whoever sent it.
func TestNoFileIsReadWithoutADirectory(t *testing.T) {
	text, err := os.ReadFile("testdata/good/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParsePolicy("policy", text, ""); err == nil || !strings.Contains(err.Error(), "cannot be read here; `watchover apply` sends its text") {
		t.Errorf("got %v", err)
	}
}
