package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	stopGrace = 3 * time.Second // between SIGTERM and SIGKILL
	pipeGrace = time.Second     // for what a dead process still has in its pipe
	maxLine   = 256 << 10       // bytes of one log line; the rest of a longer one is dropped
	keptLines = 8               // of each process, for the error message when it fails
)

// processes starts programs that cannot outlive the demo: on every orderly end, Ctrl-C and panic included, they are
// stopped and waited for; when the demo itself is killed, the kernel kills them. Each is in a process group of its own,
// so that a terminal's Ctrl-C reaches only the demo, which then ends them in order.
type processes struct {
	starts chan func()   // run on one thread for ever; closed by close
	ended  chan struct{} // closed when that thread is given up
	mu     sync.Mutex    // guards list
	list   []*process    // in the order of their start
}

// process is one running program.
type process struct {
	name string
	cmd  *exec.Cmd
	out  *lines
	done chan struct{} // closed by the goroutine that has waited for it
}

func newProcesses() *processes {
	p := &processes{starts: make(chan func()), ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		// The kernel ties a child's death signal to the thread that started it, not to the process. Go ends threads
		// as it likes, unless a goroutine holds on to one.
		runtime.LockOSThread()
		for start := range p.starts {
			start()
		}
	}()
	return p
}

// start runs argv. Its output goes to the log file, and line by line to each (which may be nil).
func (p *processes) start(name, logFile string, each func(line []byte), argv ...string) (*process, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot make the log of %s: %w", name, err)
	}
	out := &lines{copy: log, each: each}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = out, out, pipeGrace
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	p.starts <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		_ = log.Close()
		return nil, fmt.Errorf("cannot start %s: %w", name, err)
	}
	one := &process{name: name, cmd: cmd, out: out, done: make(chan struct{})}
	go func() {
		defer close(one.done)
		_ = cmd.Wait() // how it ended does not matter, only that it has
		_ = log.Close()
	}()
	p.mu.Lock()
	p.list = append(p.list, one)
	p.mu.Unlock()
	return one, nil
}

// close stops everything that was started and gives the thread up.
func (p *processes) close() {
	p.mu.Lock()
	list := slices.Clone(p.list)
	p.mu.Unlock()
	for _, one := range list {
		_ = one.cmd.Process.Signal(syscall.SIGTERM)
	}
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	for _, one := range list {
		select {
		case <-one.done:
			continue
		case <-grace.C:
			grace.Reset(0) // the grace is for all of them together
		}
		one.kill()
	}
	close(p.starts)
	<-p.ended
}

// kill ends the process at once (SIGKILL) and waits for it.
func (o *process) kill() {
	_ = o.cmd.Process.Kill()
	<-o.done
}

func (o *process) pid() int { return o.cmd.Process.Pid }

// alive is an error as soon as the process has ended by itself.
func (o *process) alive() error {
	select {
	case <-o.done:
		return fmt.Errorf("%s has ended (%s); its last words:\n%s", o.name, o.cmd.ProcessState, o.out.last())
	default:
		return nil
	}
}

// lines passes output on and cuts it into lines.
type lines struct {
	copy io.Writer
	each func(line []byte)

	mu   sync.Mutex // guards what follows
	part []byte
	kept []string
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.copy.Write(b)
	for rest := b; len(rest) > 0; {
		line, after, whole := bytes.Cut(rest, []byte("\n"))
		l.part = append(l.part, line[:min(len(line), maxLine-len(l.part))]...)
		rest = after
		if !whole {
			break
		}
		l.end()
	}
	return len(b), err
}

func (l *lines) end() {
	if l.each != nil {
		l.each(l.part)
	}
	l.kept = append(l.kept, string(l.part))
	l.kept = l.kept[max(0, len(l.kept)-keptLines):]
	l.part = l.part[:0]
}

func (l *lines) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return "  " + strings.Join(l.kept, "\n  ")
}

// crew is the demo's goroutines. One that fails or panics ends all, so that the demo can clean up after itself.
type crew struct {
	cancel func(error)
	wait   sync.WaitGroup
}

func (c *crew) add(work func() error) {
	c.wait.Add(1)
	go func() {
		defer c.wait.Done()
		defer func() {
			if fault := recover(); fault != nil {
				stack := make([]byte, 8<<10)
				c.cancel(fmt.Errorf("the demo itself is broken: %v\n%s", fault, stack[:runtime.Stack(stack, false)]))
			}
		}()
		if err := work(); err != nil {
			c.cancel(err)
		}
	}()
}
