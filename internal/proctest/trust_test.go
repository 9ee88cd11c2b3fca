package proctest

import (
	"context"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/pkg/client"
)

// pki runs a verb of `watchover pki` for a directory of the test.
func (c *cluster) pki(dir string, args ...string) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	text, err := exec.CommandContext(ctx, watcherBinary, append([]string{"pki"}, append(args, "--dir", c.path(dir))...)...).CombinedOutput()
	if err != nil {
		c.t.Fatalf("watchover pki %v: %v: %s", args, err, text)
	}
	return string(text)
}

// issueAll makes an authority and a certificate for every watcher.
func (c *cluster) issueAll(dir string) {
	c.t.Helper()
	c.pki(dir, "init")
	for _, name := range names {
		c.pki(dir, "issue", name)
	}
}

// give copies a watcher's files to where its configuration has them.
func (c *cluster) give(watcher, from string) {
	c.t.Helper()
	must(c.t, os.MkdirAll(c.path(watcher+".tls"), 0o700))
	for _, file := range []string{"ca.pem", watcher + ".pem", watcher + ".key"} {
		text, err := os.ReadFile(c.path(from, file))
		must(c.t, err)
		must(c.t, os.WriteFile(c.path(watcher+".tls", file), text, 0o600))
	}
}

// Over TLS the watchers do all that they do in plain. A watcher with a certificate of a foreign authority takes no part
// until it gets one of its own.
func TestWatchersOverTLS(t *testing.T) {
	t.Parallel()
	c := newCluster(t, settings{tls: true})
	c.issueAll("foreign")
	leader, follower := c.leader()
	c.watchers[follower].kill()
	c.give(follower, "foreign")
	c.startWatcher(follower)
	c.on(leader, follower+" silent", func(s *client.Status, _ *client.Group) bool { return silent(s, follower) })
	during(t, 2*time.Second, follower+" is not let in", func() (bool, any) {
		s := c.status(leader)
		return s != nil && silent(s, follower), s
	})
	c.give(follower, "pki")
	c.watchers[follower].signal(t, syscall.SIGHUP)
	c.waitReady("standby")
	during(t, 750*time.Millisecond, "every watcher runs", c.allRun) // as in begin: what it sees counts now
	c.watchers[leader].kill()
	c.killApp("main")
	c.waitEnded(1)
	c.waitRecord("standby")
	c.judge()
}

func silent(s *client.Status, watcher string) bool {
	for _, w := range s.Cluster.Watchers {
		if w.Name == watcher {
			return w.Silent
		}
	}
	return false
}
