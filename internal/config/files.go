package config

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/watchover-ha/watchover/internal/localfile"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// Missing returns what p names and this process cannot use on this machine: local files, resolved in dir, and then variables
// of its environment.
func Missing(ctx context.Context, p failover.Policy, dir string) []string {
	files, unset := Lacks(ctx, p, dir)
	return append(files, unset...)
}

// Lacks is Missing, but keeps apart what a command line can tell for the daemon and what it cannot: files are the machine's, an
// environment is each process's own. Both are sorted, each once. Files that exist are not enough, since a switchover would
// find it out past the point of no return: those are named that it cannot read and programs that it may not run. Of a file
// that does not answer in time, as on a mount that hangs, nobody knows more than that. All files are looked at side by side,
// so that those that hang take no time from others, and take it once.
func Lacks(ctx context.Context, p failover.Policy, dir string) (files, unset []string) {
	ctx, cancel := context.WithTimeout(ctx, localfile.Patience)
	defer cancel()
	var (
		mu    sync.Mutex // guards files
		looks sync.WaitGroup
	)
	w := walk(p, dir)
	for f := range w.files {
		looks.Go(func() {
			usable, err := localfile.Look(ctx, f.path, func() (bool, error) { return f.usable(), nil })
			if usable && err == nil {
				return
			}
			mu.Lock()
			files = append(files, f.path)
			mu.Unlock()
		})
	}
	looks.Wait()
	slices.Sort(files)
	slices.Sort(w.unset)
	return slices.Compact(files), slices.Compact(w.unset)
}

// namedFile is a file that a policy names.
type namedFile struct {
	path    string // absolute
	program bool
}

func walk(p failover.Policy, dir string) *fileWalk {
	w := &fileWalk{dir: dir, files: map[namedFile]bool{}}
	for _, g := range p.Groups {
		for _, a := range g.Apps {
			w.app(a)
		}
		for _, s := range g.Steps {
			w.actions(s.Before)
			w.actions(s.After)
		}
		w.actions(g.Notify)
	}
	return w
}

// fileWalk visits every path and every variable of a policy.
type fileWalk struct {
	dir   string
	files map[namedFile]bool
	unset []string
}

func (w *fileWalk) app(a failover.App) {
	for _, p := range slices.Concat(a.Probes, a.StandbyProbes) {
		w.http(p.HTTP)
		w.file(p.PasswordFile)
		w.variable(p.PasswordEnv, false)
		w.program(p.Exec)
	}
	if m := a.Maintenance; m != nil {
		w.actions([]failover.Action{m.On, m.Off})
		if m.Check != nil {
			w.actions([]failover.Action{*m.Check})
		}
	}
	if d := a.Database; d != nil {
		w.file(d.PasswordFile)
		w.variable(d.PasswordEnv, false)
		w.program(d.Reprotect)
		w.file(d.CAFile)
		if e := d.Exec; e != nil {
			for _, argv := range [][]string{
				e.Role, e.Freeze, e.Unfreeze, e.CatchUp, e.StopReplication, e.ResumeReplication, e.Promote,
			} {
				w.program(argv)
			}
		}
	}
}

func (w *fileWalk) actions(actions []failover.Action) {
	for _, a := range actions {
		if a.HTTP != nil {
			w.http(*a.HTTP)
		}
		if a.Webhook != nil {
			w.file(a.Webhook.URLFile)
			w.variable(a.Webhook.URLEnv, false)
		}
		w.program(a.Exec)
	}
}

func (w *fileWalk) http(h failover.HTTP) {
	w.file(h.CAFile)
	w.file(h.HeaderFile)
	w.variable(h.HeaderEnv, true)
}

func (w *fileWalk) file(path string) {
	if path != "" {
		w.files[namedFile{path: Resolve(w.dir, path)}] = true
	}
}

// variable looks a secret's variable up. An empty one is no password and no URL, but it may well be no headers.
func (w *fileWalk) variable(v failover.Variable, mayBeEmpty bool) {
	if v == "" {
		return
	}
	value, ok := os.LookupEnv(string(v))
	if !ok || !mayBeEmpty && strings.Trim(value, "\r\n") == "" {
		w.unset = append(w.unset, v.String())
	}
}

func (w *fileWalk) program(argv []string) {
	if len(argv) > 0 && argv[0] != "" {
		w.files[namedFile{path: Resolve(w.dir, argv[0]), program: true}] = true
	}
}

func (f namedFile) usable() bool {
	if f.program {
		return isRegular(f.path) && unix.Faccessat(unix.AT_FDCWD, f.path, unix.X_OK, unix.AT_EACCESS) == nil
	}
	return isRegular(f.path) && readable(f.path)
}

func isRegular(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// readable opens the file rather than judge its mode: access lists and mount options have a say, too.
func readable(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	_ = f.Close()
	return true
}
