package proctest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// process is one that the test started.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has been collected
	err  error         // valid then
}

// start runs a program whose end is waited for, at the latest by the cluster's close. Should the test binary be killed,
// the kernel ends it.
func (c *cluster) start(host, logFile string, env []string, argv ...string) *process {
	c.t.Helper()
	log, err := os.OpenFile(c.path(logFile), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	must(c.t, err)
	defer log.Close()
	p := &process{cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "LANG=C"}, env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	must(c.t, c.startOn(host, p.cmd))
	go func() {
		defer close(p.done)
		p.err = p.cmd.Wait()
	}()
	return p
}

// startOn starts a program on its host, if there are hosts.
func (c *cluster) startOn(host string, cmd *exec.Cmd) (err error) {
	if c.lab == nil {
		return cmd.Start()
	}
	c.lab.hosts[host].do(func() { err = cmd.Start() })
	return err
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	must(t, p.cmd.Process.Signal(s))
}

func (p *process) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// kill ends the process, frozen or not, and waits for its end.
func (p *process) kill() {
	if p == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	<-p.done
}

// freeze stops watchers without a word to them.
func (c *cluster) freeze(watchers ...string) {
	c.t.Helper()
	for _, name := range watchers {
		c.watchers[name].signal(c.t, syscall.SIGSTOP)
		c.frozen[name] = true
	}
}

func (c *cluster) thaw(watchers ...string) {
	c.t.Helper()
	for _, name := range watchers {
		c.watchers[name].signal(c.t, syscall.SIGCONT)
		delete(c.frozen, name)
	}
}

func (c *cluster) startWatcher(name string) {
	c.t.Helper()
	env := c.settings.env
	if file := c.settings.stall[name]; file != "" {
		env = append(slices.Clone(env), "WATCHOVER_TEST_STALL="+file)
	}
	p := c.start(name, name+".log", env, orElse(c.settings.watcher, watcherBinary), "run", "--config", c.configPath(name))
	must(c.t, os.WriteFile(c.path(name+".pid"), fmt.Append(nil, p.cmd.Process.Pid), 0o600))
	c.watchers[name] = p
}

func (c *cluster) startApp(app string, open bool) {
	c.t.Helper()
	state := map[bool]string{true: "open", false: "closed"}[open]
	argv := []string{stageBinary, "app", c.dir, app, c.appAddress(app), state}
	if c.lab != nil {
		argv = append(argv, c.databaseAddress(app), other(app), c.databaseAddress(other(app)))
	}
	c.apps[app] = c.start(app, app+".log", nil, argv...)
}

// killApp ends an app with its database, as a machine that loses power.
func (c *cluster) killApp(app string) {
	c.t.Helper()
	c.apps[app].kill()
	c.journal(app, "killed")
}

// journal writes what the test itself has done to an app into the journal of changes.
func (c *cluster) journal(app, what string) {
	c.t.Helper()
	must(c.t, change(c.dir, Change{App: app, What: "app", To: what}, func() (bool, error) { return true, nil }))
}

// order runs the command line tool against one watcher.
func (c *cluster) order(watcher string, args ...string) (exit int, output string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, watcherBinary, append(args, "--socket", c.path(watcher+".sock"))...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	text, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		c.t.Fatalf("cannot run watchover %s: %v", args, err)
	}
	return cmd.ProcessState.ExitCode(), string(text)
}

// mustOrder fails the test unless the tool exits 0.
func (c *cluster) mustOrder(watcher string, args ...string) string {
	c.t.Helper()
	exit, output := c.order(watcher, args...)
	if exit != 0 {
		c.t.Fatalf("watchover %s on %s exited %d: %s", strings.Join(args, " "), watcher, exit, output)
	}
	return output
}
