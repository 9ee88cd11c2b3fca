// Package dbtest starts real database servers for tests: private ones, of the machine's Debian packages, in temporary
// directories and on free ports of loopback, never the system's service. Each is ended by its process id when its test ends.
//
// It never skips. A server that is not installed fails the test with what to install, since a test that does not run says
// nothing about a promotion that loses writes.
package dbtest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// TB is what of a test this package needs; a measuring program may stand in for one.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
	Failed() bool
	Cleanup(func())
}

// Patience bounds each wait for a server: a loaded machine is slow, but not for ever.
const Patience = time.Minute

// Until waits for a condition, looking every 5 ms, and fails the test when Patience is over.
func Until(t TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", Patience, what)
			return
		}
		<-time.After(5 * time.Millisecond)
	}
}

// Ports of servers lie below those that the kernel gives to outgoing connections (from 32768 on), and beside those of the
// tests of processes: a server takes seconds to start and may be started again, and nobody may have taken its port meanwhile.
const firstPort, ports = 10_000, 10_000

// claims is the address of loopback on which a port is held until the test ends, so that no other test takes the same one.
const claims = "127.77.0.1"

// Port is a port of loopback that is this test's until it ends.
func Port(t TB) int {
	t.Helper()
	for i := range ports {
		port := firstPort + (os.Getpid()*97+i)%ports
		claim, err := net.Listen("tcp", fmt.Sprintf("%s:%d", claims, port))
		if err != nil {
			continue
		}
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			_ = l.Close()
			t.Cleanup(func() { _ = claim.Close() })
			return port
		}
		_ = claim.Close()
	}
	t.Fatalf("no free port from %d on", firstPort)
	return 0
}

// Dir is a new directory that belongs to the account, removed when the test ends.
func Dir(t TB, a Account) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "watchover-db-")
	if err != nil {
		t.Fatalf("cannot make a directory: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := a.own(dir); err != nil {
		t.Fatalf("%v", err)
	}
	return dir
}

// Account is whom a server runs as.
type Account struct{ credential *syscall.Credential }

// AccountOf is the named user if this process is root, else whoever it is.
func AccountOf(t TB, name string) Account {
	t.Helper()
	if os.Geteuid() != 0 {
		return Account{}
	}
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatalf("cannot run a server as %s: %v; install its Debian package", name, err)
		return Account{}
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	return Account{&syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), Groups: []uint32{}}}
}

func (a Account) own(path string) error {
	if a.credential == nil {
		return nil
	}
	if err := os.Chown(path, int(a.credential.Uid), int(a.credential.Gid)); err != nil {
		return fmt.Errorf("cannot give %s away: %w", path, err)
	}
	return nil
}

func (a Account) command(dir, program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LANG=C", "HOME=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: a.credential, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// Run runs a program to its end, as the account, and fails the test with its output if it fails.
func (a Account) Run(t TB, dir, program string, args ...string) {
	t.Helper()
	if out, err := a.command(dir, program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", filepath.Base(program), err, bytes.TrimSpace(out))
	}
}

// Find is a program in one of the directories, or in PATH. If it is missing the test fails with the package to install.
func Find(t TB, pkg, program string, dirs ...string) string {
	t.Helper()
	for _, dir := range dirs {
		if found, _ := filepath.Glob(filepath.Join(dir, program)); len(found) > 0 {
			return found[len(found)-1]
		}
	}
	if path, err := exec.LookPath(program); err == nil {
		return path
	}
	t.Fatalf("%s is not installed: apt-get install --no-install-recommends %s", program, pkg)
	return ""
}

// Process is a server's process with its children.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has been waited for
	log  string

	mu     sync.Mutex // guards frozen
	frozen bool
}

// Start starts a server whose output goes to the file log. It is killed when the test ends; if that failed, the log's end is
// shown.
func (a Account) Start(t TB, dir, log, program string, args ...string) *Process {
	t.Helper()
	file, err := os.OpenFile(log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatalf("cannot open log: %v", err)
	}
	defer func() { _ = file.Close() }()
	p := &Process{cmd: a.command(dir, program, args...), done: make(chan struct{}), log: log}
	p.cmd.Stdout, p.cmd.Stderr = file, file
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("cannot start %s: %v", program, err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(log), p.Tail())
		}
	})
	return p
}

// Tail is the end of its log.
func (p *Process) Tail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-6000):])
}

// Ended reports whether the process is gone.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Kill kills the server and its children at once, as if its machine had lost power, and waits.
func (p *Process) Kill() {
	if p.Ended() {
		return
	}
	p.signal(syscall.SIGKILL)
	<-p.done
}

// Signal sends a signal to the server alone.
func (p *Process) Signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// Freeze stops the server and its children where they stand: connections are taken and nothing is answered.
func (p *Process) Freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = true
	p.signal(syscall.SIGSTOP)
}

// Thaw lets them go on.
func (p *Process) Thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = false
	p.signal(syscall.SIGCONT)
}

// Wait waits for the server's end and fails the test if it does not come.
func (p *Process) Wait(t TB) {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(Patience):
		t.Fatalf("the server does not end: %s", p.Tail())
	}
}

// signal reaches the parent first, so that it makes no more children, then those that it has.
func (p *Process) signal(s syscall.Signal) {
	pid := p.cmd.Process.Pid
	if s == syscall.SIGKILL {
		_ = syscall.Kill(pid, syscall.SIGSTOP)
	}
	children := children(pid)
	_ = syscall.Kill(pid, s)
	for _, child := range children {
		_ = syscall.Kill(child, s)
	}
}

func children(pid int) (list []int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil
	}
	for _, word := range strings.Fields(string(text)) {
		if n, err := strconv.Atoi(word); err == nil {
			list = append(list, n)
		}
	}
	return list
}
