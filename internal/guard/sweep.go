package guard

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ticksPerSecond is USER_HZ, the unit of /proc/PID/stat; 100 on every Linux architecture that Go supports.
const ticksPerSecond = 100

// killWait bounds how long a watcher whose guard has died looks for processes to kill.
const killWait = 500 * time.Millisecond

// bootTime is now, in nanoseconds of CLOCK_BOOTTIME: equal in all processes, and counting while the machine sleeps.
func bootTime() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) // cannot fail: the clock exists since Linux 2.6.39
	return ts.Nano()
}

func ticks(boot int64) int64 { return boot / (int64(time.Second) / ticksPerSecond) }

// sweep reaps and kills orphans: processes that became the guard's children because their parents died.
func (p *process) sweep() {
	for _, h := range p.hooks {
		h.children = false
	}
	p.strays = 0
	for _, pid := range p.orphans() {
		var status unix.WaitStatus
		if got, _ := unix.Wait4(pid, &status, unix.WNOHANG, nil); got == pid {
			delete(p.stuck, pid)
			continue
		}
		s, ok := readStat(pid)
		if !ok {
			continue
		}
		if p.mayLive(s) {
			p.strays++
			continue
		}
		killTree(pid)
		p.await(s)
	}
}

// mayLive tells whether an orphan belongs to a hook that is running: by its session or, if it has left that, perhaps.
func (p *process) mayLive(s stat) bool {
	maybe := false
	for _, h := range p.hooks {
		if s.session == h.pid {
			return !h.exited
		}
		maybe = maybe || !h.exited && h.started <= s.started
	}
	return maybe
}

// await keeps hooks that may have started this process from being reported before it is dead.
func (p *process) await(s stat) {
	for _, h := range p.hooks {
		if h.exited && h.started <= s.started {
			h.children = true
		}
	}
}

// orphans are our children that are not a hook's first process.
func (p *process) orphans() []int {
	var list []int
	for _, pid := range children(os.Getpid()) {
		if !p.isHook(pid) {
			list = append(list, pid)
		}
	}
	return list
}

func (p *process) isHook(pid int) bool {
	for _, h := range p.hooks {
		if h.pid == pid && !h.exited {
			return true
		}
	}
	return false
}

// killChildren kills and reaps whatever is below the guard, and returns how many children are left.
func (p *process) killChildren() int {
	left := 0
	for _, pid := range children(os.Getpid()) {
		killTree(pid)
		if got, _ := unix.Wait4(pid, nil, unix.WNOHANG, nil); got != pid {
			left++
		}
	}
	return left
}

// children returns the process's direct children. The kernel lists them by the thread they belong to (proc(5),
// /proc/PID/task/TID/children); where it was built without that list, every process is asked for its parent.
func children(pid int) []int {
	dir := "/proc/" + strconv.Itoa(pid) + "/task/"
	threads, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var list []int
	for _, t := range threads {
		b, err := os.ReadFile(dir + t.Name() + "/children")
		if os.IsNotExist(err) {
			if _, gone := os.Stat(dir + t.Name()); gone == nil {
				return childrenByParent(pid)
			}
			continue
		}
		for f := range strings.FieldsSeq(string(b)) {
			if n, err := strconv.Atoi(f); err == nil {
				list = append(list, n)
			}
		}
	}
	return list
}

func childrenByParent(pid int) []int {
	var list []int
	for _, s := range allStats() {
		if s.parent == pid {
			list = append(list, s.pid)
		}
	}
	return list
}

// killTree kills a process and everything below it. Those below are looked up first: once their parents are dead nobody
// can tell any more whose they were.
func killTree(pid int) {
	for _, d := range descendants(pid) {
		_ = unix.Kill(d, unix.SIGKILL)
	}
	_ = unix.Kill(pid, unix.SIGKILL)
}

// descendants returns everything below a process. A tree that grows while it is read is cut at a bound; what is missed
// then becomes the guard's child and is swept.
func descendants(pid int) []int {
	const most = 4096
	list := children(pid)
	for i := 0; i < len(list) && len(list) < most; i++ {
		list = append(list, children(list[i])...)
	}
	return list
}

// killSessions kills every process of the given sessions and waits until they are dead, for the watcher whose guard has
// died. The groups first: that is atomic, a fork cannot slip through.
func killSessions(sessions []int) {
	dead := make(map[int]bool, len(sessions))
	for _, pid := range sessions {
		dead[pid] = true
		_ = unix.Kill(-pid, unix.SIGKILL)
	}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for until := time.Now().Add(killWait); len(dead) > 0 && time.Now().Before(until); <-tick.C {
		found := false
		for _, s := range allStats() {
			if dead[s.session] && s.state != 'Z' && s.state != 'X' {
				found = true
				_ = unix.Kill(s.pid, unix.SIGKILL)
			}
		}
		if !found {
			return
		}
	}
}

// stat is the part of /proc/PID/stat that is needed here; see proc(5).
type stat struct {
	pid, parent, session int
	state                byte
	started              int64 // clock ticks since boot
}

func readStat(pid int) (stat, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, false
	}
	return parseStat(pid, b)
}

// parseStat looks behind the last parenthesis: the name before it may contain anything.
func parseStat(pid int, b []byte) (stat, bool) {
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 20 { // from field 3, the state, to field 22, the start
		return stat{}, false
	}
	s := stat{pid: pid, state: fields[0][0]}
	var err1, err2, err3 error
	s.parent, err1 = strconv.Atoi(fields[1])
	s.session, err2 = strconv.Atoi(fields[3])
	s.started, err3 = strconv.ParseInt(fields[19], 10, 64)
	return s, err1 == nil && err2 == nil && err3 == nil
}

func allStats() []stat {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var list []stat
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if s, ok := readStat(pid); ok {
			list = append(list, s)
		}
	}
	return list
}
