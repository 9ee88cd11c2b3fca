package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What these pages name exists: tests, scripts of the rules, files, and functions in them. A page that says which tests keep a
// promise must not outlive the tests.
func TestGuaranteesNameWhatExists(t *testing.T) {
	tests := testNames(t, "../..")
	for page, least := range map[string]int{"guarantees.md": 50, "simulator.md": 10} {
		t.Run(page, func(t *testing.T) { checkNames(t, page, least, tests) })
	}
}

func checkNames(t *testing.T, file string, least int, tests map[string]bool) {
	const root = "../.."
	page, err := os.ReadFile(filepath.Join(root, "docs", file))
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, match := range regexp.MustCompile("`([^`\n]+)`").FindAllStringSubmatch(string(page), -1) {
		name := match[1]
		file, function, ofFile := strings.Cut(name, ".go:")
		switch {
		case regexp.MustCompile(`^(Test|Fuzz)\w+$`).MatchString(name):
			if !tests[name] {
				t.Errorf("there is no test %s", name)
			}
		case strings.HasSuffix(name, ".txt"):
			if _, err := os.Stat(filepath.Join(root, "pkg/failover/testdata", name)); err != nil {
				t.Error(err)
			}
		case ofFile:
			text, err := os.ReadFile(filepath.Join(root, file+".go"))
			if err != nil {
				t.Error(err)
			} else if !regexp.MustCompile(`(?m)^func (\([^)]*\) )?` + function + `\(`).Match(text) {
				t.Errorf("there is no function %s in %s.go", function, file)
			}
		case strings.HasSuffix(name, ".go"):
			if !strings.Contains(name, "/") {
				name = "internal/sim/" + name // as that page has it
			}
			if _, err := os.Stat(filepath.Join(root, name)); err != nil {
				t.Error(err)
			}
		default:
			continue
		}
		named++
	}
	if named < least {
		t.Errorf("only %d names were found; has the page another form?", named)
	}
}

func testNames(t *testing.T, root string) map[string]bool {
	names := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, match := range regexp.MustCompile(`(?m)^func ((Test|Fuzz)\w+)\(`).FindAllStringSubmatch(string(text), -1) {
			names[match[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
