// Command importrule fails when a package of this module imports what the architecture forbids: the rules in
// pkg/failover import only the standard library; packages in internal/ do not import one another, only daemon (and
// the simulator) brings them together, and all may read files with internal/localfile; pkg/ imports nothing of internal/.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

const module = "github.com/watchover-ha/watchover"

// pkg is what go list tells of a package.
type pkg struct {
	ImportPath string
	Imports    []string
}

func main() {
	packages, err := list()
	if err != nil {
		fmt.Fprintf(os.Stderr, "importrule: %v\n", err)
		os.Exit(1)
	}
	faults := check(packages)
	for _, fault := range faults {
		fmt.Fprintln(os.Stderr, "importrule: "+fault)
	}
	if len(faults) > 0 {
		os.Exit(1)
	}
}

func list() ([]pkg, error) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("cannot list packages: %w", err)
	}
	var packages []pkg
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, fmt.Errorf("cannot read the list of packages: %w", err)
		}
		packages = append(packages, p)
	}
}

func check(packages []pkg) []string {
	var faults []string
	for _, p := range packages {
		from := strings.TrimPrefix(p.ImportPath, module+"/")
		for _, imported := range p.Imports {
			to, own := strings.CutPrefix(imported, module+"/")
			if why := forbidden(from, to, own, strings.Contains(strings.Split(imported, "/")[0], ".")); why != "" {
				faults = append(faults, fmt.Sprintf("%s imports %s: %s", from, to, why))
			}
		}
	}
	return faults
}

// forbidden says why from may not import to; empty if it may.
func forbidden(from, to string, own, external bool) string {
	switch {
	case from == "pkg/failover" && (own || external):
		return "the rules import only the standard library"
	case strings.HasPrefix(from, "pkg/") && own && !strings.HasPrefix(to, "pkg/"):
		return "what others may import imports nothing of ours but pkg/"
	case room(to) == "internal/localfile" && !strings.HasPrefix(from, "pkg/"):
		return "" // no part of the machinery: the one reader of the machine's small files, for whoever has some
	case from == "internal/bench" && to == "internal/dbtest":
		return "" // it measures watchers that move real servers
	case strings.HasPrefix(from, "internal/") && !joins(from) && own && strings.HasPrefix(to, "internal/") && room(from) != room(to):
		return "packages in internal/ do not import one another; daemon brings them together"
	}
	return ""
}

// joins reports whether a package may bring others of internal/ together: the daemon, and the simulator, which plays with
// the parts that need no sockets and files.
func joins(from string) bool { return from == "internal/daemon" || from == "internal/sim" }

// room is the part of the path that names what belongs together: internal/control for internal/control/controltest.
func room(path string) string {
	parts := strings.SplitN(path, "/", 3)
	return strings.Join(parts[:min(len(parts), 2)], "/")
}
