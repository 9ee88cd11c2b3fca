package proctest

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/watchover-ha/watchover/pkg/client"
)

// place is where a watcher runs that is not as prepare made it.
type place struct {
	port, dns int    // raft's and the name server's, above the cluster's base
	dir       string // data directory; default as named
}

func (c *cluster) at(port int) string { return fmt.Sprintf("127.0.0.1:%d", c.base+port) }

// writeOther writes the file of a watcher that knows the first three and itself.
func (c *cluster) writeOther(file, name string, p place) {
	c.t.Helper()
	text := c.config("w3")
	watchers := ""
	for i, peer := range names {
		if peer != name && p.port != 8+i {
			watchers += fmt.Sprintf("    %s: {address: \"%s\", dns: [127.0.0.%d]}\n", peer, c.at(8+i), i+1)
		}
	}
	watchers += fmt.Sprintf("    %s: {address: \"%s\", dns: [127.0.0.%d]}\n", name, c.at(p.port), p.dns)
	head, rest, _ := strings.Cut(text, "  watchers:\n")
	_, tail, _ := strings.Cut(rest, "  timing:")
	head = strings.NewReplacer("name: w3\n", "name: "+name+"\n", c.path("w3.sock"), c.path(file+".sock"),
		"data_dir: "+c.path("w3"), "data_dir: "+c.path(orElse(p.dir, name)), c.dnsAddress("w3"), c.at(p.dns)).Replace(head)
	must(c.t, os.WriteFile(c.configPath(file), []byte(head+"  watchers:\n"+watchers+"  timing:"+tail), 0o600))
}

// say runs an order and shows it, so that a verbose run reads like a terminal.
func (c *cluster) say(watcher string, args ...string) string {
	c.t.Helper()
	var exit int
	var output string
	eventually(c.t, "a leader takes the order", func() (bool, any) { // giving one of these orders again is harmless
		exit, output = c.order(watcher, args...)
		if strings.Contains(output, "there is no watcher") {
			exit = 0 // removed, but the answer was lost
		}
		return exit != 4 && !strings.Contains(output, "cannot tell"), output
	})
	c.t.Logf("%s$ watchover %s\n%s(exit %d)", watcher, strings.Join(args, " "), output, exit)
	if exit != 0 {
		c.t.Fatalf("watchover %s exited %d", strings.Join(args, " "), exit)
	}
	return output
}

// waitMembers waits until a watcher knows of exactly these voters and of no change under way.
func (c *cluster) waitMembers(watcher string, voters ...string) {
	c.t.Helper()
	eventually(c.t, fmt.Sprintf("%s knows of %v", watcher, voters), func() (bool, any) {
		_, text := c.order(watcher, "members", "list", "-o", "json")
		var m client.Members
		if json.Unmarshal([]byte(text), &m) != nil {
			return false, text
		}
		var list []string
		for _, w := range m.Members {
			if w.Voter && !w.Silent {
				list = append(list, w.Name)
			}
		}
		return m.Change == nil && slices.Equal(list, voters), text
	})
}

// waitSays waits until a watcher's log has a text, and shows the line.
func (c *cluster) waitSays(file, text string) {
	c.t.Helper()
	eventually(c.t, file+" logs "+text, func() (bool, any) {
		log, _ := os.ReadFile(c.path(file + ".log"))
		for _, line := range strings.Split(string(log), "\n") {
			if strings.Contains(line, text) {
				c.t.Logf("%s says: %s", file, line)
				return true, nil
			}
		}
		return false, lastLines(string(log), 5)
	})
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// waitEnd waits until a watcher's process has ended by itself.
func (c *cluster) waitEnd(file string) {
	c.t.Helper()
	eventually(c.t, file+" ends", func() (bool, any) { return !c.watchers[file].alive(), nil })
	if c.watchers[file].err == nil {
		c.t.Errorf("%s ended with exit code 0", file)
	}
}

// stopWatcher ends a watcher in order.
func (c *cluster) stopWatcher(name string) {
	c.t.Helper()
	c.watchers[name].signal(c.t, syscall.SIGTERM)
	<-c.watchers[name].done
}

// nameServers are the NS records that a name server gives, and the serial.
func (c *cluster) nameServers(port int) (list []string, glue int, serial uint32) {
	for _, kind := range []uint16{dns.TypeNS, dns.TypeSOA} {
		q := new(dns.Msg).SetQuestion("ha.example.com.", kind)
		r, _, err := (&dns.Client{Timeout: 2 * time.Second}).Exchange(q, c.at(port))
		if err != nil {
			return nil, 0, 0
		}
		for _, rr := range r.Answer {
			switch record := rr.(type) {
			case *dns.NS:
				list = append(list, record.Ns)
			case *dns.SOA:
				serial = record.Serial
			}
		}
		if kind == dns.TypeNS {
			for _, rr := range r.Extra {
				if _, ok := rr.(*dns.A); ok {
					glue++
				}
			}
		}
	}
	slices.Sort(list)
	return list, glue, serial
}

// A fourth watcher is added to three: it is sent the log, counts once it has it, and the zone names it.
func TestFourthWatcherIsAdded(t *testing.T) {
	t.Parallel()
	c := newCluster(t, settings{mode: "manual", timing: "lan"})
	_, _, before := c.nameServers(4)
	c.say("w2", "members", "add", "w4", c.at(11), "--dns", "127.0.0.4")
	c.say("w1", "members", "list")
	c.writeOther("w4", "w4", place{port: 11, dns: 7})
	c.startWatcher("w4")
	for _, name := range []string{"w1", "w3", "w4"} {
		c.waitMembers(name, "w1", "w2", "w3", "w4")
	}
	c.say("w4", "members", "list")
	for _, port := range []int{4, 7} { // w1's and w4's
		eventually(t, "the zone names w4", func() (bool, any) {
			list, glue, serial := c.nameServers(port)
			return len(list) == 4 && list[3] == "w4.ha.example.com." && glue == 4 && serial > before, fmt.Sprint(list, glue, serial, before)
		})
	}
	c.say("w1", "members", "transfer", "w4")
	c.waitSays("w4", `"leading"`)
	// It is as good as the others: the group can be moved by it.
	c.mustOrder("w1", "switchover", group, "--yes")
	c.waitRecord("standby")
	c.say("w1", "members", "remove", "w4", "--yes")
	c.waitEnd("w4")
	c.waitSays("w4", "was removed from the cluster")
	for _, name := range names {
		c.waitMembers(name, names...)
	}
	eventually(t, "the zone names w4 no more", func() (bool, any) {
		list, _, _ := c.nameServers(5)
		return len(list) == 3, list
	})
	c.judge()
}

// A watcher whose data directory was lost says what to do, and is back once that was done.
func TestWipedWatcherComesBack(t *testing.T) {
	t.Parallel()
	c := newCluster(t, settings{mode: "manual", timing: "lan"})
	c.watchers["w3"].kill()
	must(t, os.RemoveAll(c.path("w3")))
	c.startWatcher("w3")
	c.waitSays("w3", "watchover members remove w3")
	// Without a leader all are silent; w3 may have been it.
	silent := func(s *client.Status, _ *client.Group) bool {
		return s.Cluster.Leader != nil && s.Cluster.Watchers[2].Silent
	}
	c.on("w1", "w3 silent", silent)
	during(t, 500*time.Millisecond, "it takes no part", func() (bool, any) {
		s := c.status("w1")
		return s == nil || silent(s, nil), s
	})
	c.say("w1", "members", "remove", "w3", "--yes")
	c.say("w1", "members", "add", "w3", c.at(10), "--dns", "127.0.0.3")
	for _, name := range names {
		c.waitMembers(name, names...)
	}
	c.say("w3", "members", "list")
	c.waitReady("standby")
}

// A new machine with another name takes the place of one that is gone for good.
func TestReplacedByAnotherMachine(t *testing.T) {
	t.Parallel()
	c := newCluster(t, settings{mode: "manual", timing: "lan"})
	c.watchers["w3"].kill()
	c.writeOther("w4", "w4", place{port: 11, dns: 7})
	c.startWatcher("w4")
	c.waitSays("w4", "watchover members add w4 "+c.at(11)+" --dns 127.0.0.7")
	c.say("w1", "members", "add", "w4", c.at(11), "--dns", "127.0.0.4")
	eventually(t, "w4 counts", func() (bool, any) {
		_, text := c.order("w1", "members", "list", "-o", "json")
		return strings.Contains(text, `"change":null`), text
	})
	c.say("w1", "members", "remove", "w3", "--yes")
	for _, name := range []string{"w1", "w2", "w4"} {
		c.waitMembers(name, "w1", "w2", "w4")
	}
	c.say("w4", "members", "list")
	// The old machine is found in a cupboard and switched on.
	c.startWatcher("w3")
	c.waitEnd("w3")
	c.waitSays("w3", "was removed from the cluster")
	c.waitMembers("w1", "w1", "w2", "w4")
}

// A changed name, or another watcher's directory, is refused at the start.
func TestRenamedAndSwappedDirectories(t *testing.T) {
	t.Parallel()
	c := newCluster(t, settings{mode: "manual", timing: "lan"})
	c.stopWatcher("w3")
	c.writeOther("w9", "w9", place{port: 10, dns: 6, dir: "w3"})
	c.startWatcher("w9")
	c.waitEnd("w9")
	c.waitSays("w9", "to rename a watcher: `watchover members remove w3`, then `watchover members add w9")
	c.stopWatcher("w2")
	c.writeOther("w3", "w3", place{port: 10, dns: 6, dir: "w2"})
	c.startWatcher("w3")
	c.waitEnd("w3")
	c.waitSays("w3", `it belongs to watcher "w2" of cluster "test"`)
}

// A watcher that moves to another address says nothing new of itself; the others are told where it is.
func TestMovedWatcher(t *testing.T) {
	t.Parallel()
	c := newCluster(t, settings{mode: "manual", timing: "lan"})
	c.stopWatcher("w3")
	c.writeOther("w3", "w3", place{port: 11, dns: 6})
	c.startWatcher("w3")
	c.on("w1", "w3 silent", func(s *client.Status, _ *client.Group) bool { return s.Cluster.Watchers[2].Silent })
	c.waitSays("w3", "looks for this watcher at "+c.at(10))
	c.say("w1", "members", "add", "w3", c.at(11))
	for _, name := range names {
		c.waitMembers(name, names...)
	}
	c.say("w3", "members", "list")
	c.waitReady("standby")
	// The two others' files still have the old address: the members count.
	c.stopWatcher("w1")
	c.startWatcher("w1")
	c.waitSays("w1", "w3 is at "+c.at(11)+", not ")
	c.waitMembers("w1", names...)
}

// A data directory that was copied and started beside its original, and one that was copied and started later.
func TestCopiedDirectory(t *testing.T) {
	t.Parallel()
	c := newCluster(t, settings{mode: "manual", timing: "lan"})
	c.stopWatcher("w3")
	for _, copied := range []string{"copy", "old"} {
		must(t, os.CopyFS(c.path(copied), os.DirFS(c.path("w3"))))
	}
	told := func() int {
		log, _ := os.ReadFile(c.path("w1.log"))
		return strings.Count(string(log), "w3 finds main up")
	}
	before := told()
	c.startWatcher("w3")
	c.waitMembers("w1", names...)
	// A directory is an old copy once the log has a later life of the original.
	eventually(t, "the original's new life is in the log", func() (bool, any) { return told() > before, told() })
	c.writeOther("copy", "w3", place{port: 11, dns: 7, dir: "copy"})
	c.startWatcher("copy")
	c.waitEnd("copy")
	c.waitSays("copy", "runs already with another copy of this data directory")
	c.waitMembers("w1", names...)
	c.stopWatcher("w3")
	c.writeOther("old", "w3", place{port: 10, dns: 6, dir: "old"})
	c.startWatcher("old")
	c.waitEnd("old")
	c.waitSays("old", "this is an old copy of watcher w3's data directory")
	c.startWatcher("old")
	c.waitEnd("old")
	c.waitSays("old", "it takes part no more")
	c.startWatcher("w3")
	c.waitMembers("w1", names...)
}
