package proctest

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// What the tests run, built once.
var (
	watcherBinary string // as shipped
	crashBinary   string // with the tag crashpoints
	stageBinary   string
)

// sweep removes what real servers' tests keep between one another.
var sweep = func() {}

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	flag.Parse()
	// Each test has ten processes and starts a program for every look at a database. More tests at once than there are
	// processors measure the machine: at six on two, no cluster holds its leader.
	if err := flag.Set("test.parallel", fmt.Sprint(runtime.NumCPU())); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "proctest-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	for _, b := range []struct {
		path *string
		name string
		args []string
	}{
		{&watcherBinary, "watchover", []string{"../../cmd/watchover"}},
		{&crashBinary, "watchover-crash", []string{"-tags", "crashpoints", "../../cmd/watchover"}},
		{&stageBinary, "stage", []string{"./stage"}},
	} {
		*b.path = filepath.Join(dir, b.name)
		build := exec.Command("go", append([]string{"build", "-o", *b.path}, b.args...)...)
		if output, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "cannot build %s: %v\n%s", b.name, err, output)
			return 1
		}
	}
	defer sweep()
	return m.Run()
}
