package proctest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/pkg/client"
)

// smallDisk gives a watcher a file system of its own, which needs root. It is unmounted when the test ends.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pt-disk-")
	must(t, err)
	t.Cleanup(func() { _ = os.Remove(dir) })
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size+",mode=700"); err != nil {
		t.Fatalf("cannot mount a tmpfs of %s on %s: %v; this test needs root with CAP_SYS_ADMIN (sudo make test, or a container run with --cap-add SYS_ADMIN)", size, dir, err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// fill takes all that is left on a disk; the returned func gives it back.
func fill(t *testing.T, disk string) (free func()) {
	t.Helper()
	name := disk + "/filler"
	f, err := os.Create(name)
	must(t, err)
	defer f.Close()
	if _, err := io.Copy(f, zeros{}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk does not fill: %v", err)
	}
	return func() {
		t.Helper()
		must(t, os.Remove(name))
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// lead makes the named watcher lead.
func (c *cluster) lead(want string) {
	c.t.Helper()
	eventually(c.t, want+" leads", func() (bool, any) {
		leader, _ := c.leader()
		if leader == want {
			return true, nil
		}
		_, text := c.order(leader, "members", "transfer", want)
		return false, text
	})
}

// diary notes, from now on, when things were first seen.
type diary struct {
	t     *testing.T
	began time.Time
}

func (d diary) note(text string) {
	d.t.Helper()
	d.t.Logf("%6.2f s  %s", time.Since(d.began).Seconds(), text)
}

// keepAsking asks a watcher's name server all the time, until the returned func is called, which fails the test if it was
// ever silent and returns how often it was asked.
func (c *cluster) keepAsking(watcher string) (stop func() int) {
	c.t.Helper()
	over, done := make(chan struct{}), make(chan struct{})
	asked := 0
	var silent error
	go func() {
		defer close(done)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-over:
				return
			}
			asked++
			if a, err := c.ask(watcher); err != nil || a.address == "" {
				silent = errors.Join(silent, err)
			}
		}
	}()
	return func() int {
		c.t.Helper()
		close(over)
		<-done
		if silent != nil {
			c.t.Errorf("the name server of %s was silent: %v", watcher, silent)
		}
		return asked
	}
}

// answersAll checks that every watcher's name server answers, sitting out or not.
func (c *cluster) answersAll() (bool, any) {
	for _, name := range names {
		if a, err := c.ask(name); err != nil || a.address == "" {
			return false, err
		}
	}
	return true, nil
}

// A disk that is full costs its watcher the vote, not its voice, and the cluster nothing. The switchover that was being
// carried out is ended by another one.
func TestLeaderWhoseDiskIsFullSitsOutASwitchover(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, "40m")
	c := prepare(t, settings{mode: "manual", dataDir: map[string]string{"w1": disk + "/w1"}, steps: "timeout: 5s, tries: 10, backoff: 100ms"})
	c.begin()
	c.lead("w1")
	c.waitReady("standby")
	mend := c.fail("standby", "promote") // so that it is in the middle
	askSwitchover(c, "main")
	c.on("w2", "promote is tried", func(_ *client.Status, g *client.Group) bool { return stepOf(g.Switchover, "promote").Attempts > 1 })
	d := diary{t, time.Now()}
	stopAsking := c.keepAsking("w1")
	free := fill(t, disk)
	d.note("w1 leads, promote is being tried, its disk is full")
	c.waitLogged("w1", "this watcher sits out")
	d.note("w1 sits out")
	c.on("w2", "another leader", func(s *client.Status, _ *client.Group) bool {
		return s.Cluster.Leader != nil && *s.Cluster.Leader != "w1"
	})
	d.note("another one leads")
	mend()
	c.on("w2", "the end of the switchover", func(_ *client.Status, g *client.Group) bool { return g.LastSwitchover != nil && g.Switchover == nil })
	d.note("the switchover has ended: " + c.history("w2")[0].Result)
	during(t, time.Second, "every watcher answers", c.answersAll)
	c.on("w1", "it says what is wrong", func(s *client.Status, g *client.Group) bool {
		return s.Cluster.Leader == nil && !s.Cluster.HasQuorum && warned(g, "low_disk")
	})
	d.note("w1 still answers DNS, and its status warns of low_disk")
	if !c.watchers["w1"].alive() {
		t.Error("w1 has ended while its disk is full")
	}
	d.note(fmt.Sprintf("w1's name server was asked %d times and always answered", stopAsking()))
	free()
	d.note("there is room again")
	<-c.watchers["w1"].done
	d.note("w1 has ended, to be started again")
	c.startWatcher("w1")
	c.waitEnded(1)
	c.waitRecord("standby")
	d.note("w1 follows again and answers the new record")
	c.judge()
}

func warned(g *client.Group, code string) bool {
	for _, w := range g.Warnings {
		if w.Code == code {
			return true
		}
	}
	return false
}

// A watcher cannot be started on a full disk. It says why.
func TestStartOnAFullDiskSaysWhy(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, "4m")
	c := prepare(t, settings{dataDir: map[string]string{"w1": disk + "/w1"}})
	free := fill(t, disk)
	defer free()
	c.startWatcher("w1")
	<-c.watchers["w1"].done
	log, err := os.ReadFile(c.path("w1.log"))
	must(t, err)
	if !strings.Contains(string(log), "no space left on device") || !strings.Contains(string(log), disk) {
		t.Errorf("it said: %s", log)
	}
}

// A leader whose disk hangs goes on sending heartbeats, so nobody would ever take over.
func TestLeaderWhoseDiskHangsSitsOutASwitchover(t *testing.T) {
	t.Parallel()
	c := prepare(t, settings{mode: "manual", watcher: crashBinary, steps: "timeout: 5s, tries: 10, backoff: 100ms"})
	c.settings.stall = map[string]string{"w1": c.path("stall")}
	c.begin()
	c.lead("w1")
	c.waitReady("standby")
	mend := c.fail("standby", "promote")
	askSwitchover(c, "main")
	c.on("w2", "promote is tried", func(_ *client.Status, g *client.Group) bool { return stepOf(g.Switchover, "promote").Attempts > 1 })
	d := diary{t, time.Now()}
	stopAsking := c.keepAsking("w1")
	must(t, os.WriteFile(c.path("stall"), nil, 0o600))
	d.note("w1 leads, promote is being tried, its disk hangs")
	c.waitLogged("w1", "this watcher sits out")
	d.note("w1 sits out")
	c.on("w2", "another leader", func(s *client.Status, _ *client.Group) bool {
		return s.Cluster.Leader != nil && *s.Cluster.Leader != "w1"
	})
	d.note("another one leads")
	mend()
	c.on("w2", "the end of the switchover", func(_ *client.Status, g *client.Group) bool { return g.LastSwitchover != nil && g.Switchover == nil })
	d.note("the switchover has ended: " + c.history("w2")[0].Result)
	during(t, time.Second, "every watcher answers", c.answersAll)
	d.note(fmt.Sprintf("w1's name server was asked %d times and always answered", stopAsking()))
	must(t, os.Remove(c.path("stall")))
	d.note("the disk goes on")
	<-c.watchers["w1"].done
	d.note("w1 has ended, to be started again")
	c.startWatcher("w1")
	c.waitEnded(1)
	c.waitRecord("standby")
	d.note("w1 follows again and answers the new record")
	c.judge()
}
