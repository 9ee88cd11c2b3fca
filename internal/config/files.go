package config

import (
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// Missing returns what p names and this process cannot use on this machine: local files, resolved in dir, and then variables
// of its environment. Files that exist are not enough, since a switchover would find it out past the point of no return:
// those are named that it cannot read and programs that it may not run.
func Missing(p failover.Policy, dir string) []string {
	files, unset := missing(p, dir)
	return append(files, unset...)
}

// missing keeps apart what a command line can tell for the daemon and what it cannot: files are the machine's, an environment is
// each process's own. Both are sorted, each once.
func missing(p failover.Policy, dir string) (files, unset []string) {
	w := &fileWalk{dir: dir}
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
	slices.Sort(w.missing)
	slices.Sort(w.unset)
	return slices.Compact(w.missing), slices.Compact(w.unset)
}

// fileWalk visits every path and every variable of a policy.
type fileWalk struct {
	dir     string
	missing []string
	unset   []string
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
	if path == "" {
		return
	}
	path = Resolve(w.dir, path)
	if !isRegular(path) || !readable(path) {
		w.missing = append(w.missing, path)
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
	if len(argv) == 0 || argv[0] == "" {
		return
	}
	path := Resolve(w.dir, argv[0])
	if !isRegular(path) || unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS) != nil {
		w.missing = append(w.missing, path)
	}
}

func isRegular(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// readable opens the file rather than judge its mode: access lists and mount options have a say, too.
func readable(path string) bool {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // should it just have become a pipe, without waiting for its writer
	if err != nil {
		return false
	}
	_ = f.Close()
	return true
}
