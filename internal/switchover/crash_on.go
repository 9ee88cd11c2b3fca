//go:build crashpoints

package switchover

import (
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// crashFile names a file that holds the point at which a watcher is to kill itself. Whoever removes the file dies, so
// that of several watchers that share it one dies once. crashList names a file to which every point passed is appended.
const (
	crashFile = "WATCHOVER_TEST_CRASH"
	crashList = "WATCHOVER_TEST_CRASH_LIST"
)

// crashPoint kills this process with SIGKILL if a test has asked for that here. when is "before" an entry is proposed or
// "after" its answer has come. An entry that holds several records is as many points, all at the same place.
func crashPoint(when string, j *failover.Journal) {
	for i := range j.Ended {
		e := &j.Ended[i]
		passPoint(fmt.Sprintf("%s:ended:%s:%s", when, pointName(e.Task), e.Outcome))
	}
	if j.Start != nil {
		passPoint(fmt.Sprintf("%s:start:%s", when, pointName(j.Start.Task)))
	}
}

func pointName(t failover.Task) string {
	switch {
	case t.Release:
		return "release:" + string(t.Part)
	case t.Switchover == 0:
		return "keep:" + string(t.Part)
	case t.Work == failover.WorkAct:
		return string(t.Step)
	}
	return string(t.Work) + ":" + string(t.Step)
}

func passPoint(name string) {
	if list := os.Getenv(crashList); list != "" {
		if f, err := os.OpenFile(list, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
			fmt.Fprintln(f, name)
			f.Close()
		}
	}
	file := os.Getenv(crashFile)
	if file == "" {
		return
	}
	wanted, err := os.ReadFile(file)
	if err != nil || strings.TrimSpace(string(wanted)) != name || os.Remove(file) != nil {
		return
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // no further instruction of this watcher's is to be seen
}
