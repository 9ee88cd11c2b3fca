package config

import (
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// Missing returns the local files named in p that this process cannot use on this machine, resolved in dir, sorted and
// each once: header files, CA certificates and password files that it cannot read, programs that it may not run. That
// they exist is not enough: a switchover would find it out past the point of no return.
func Missing(p failover.Policy, dir string) []string {
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
	return slices.Compact(w.missing)
}

// fileWalk visits every path of a policy.
type fileWalk struct {
	dir     string
	missing []string
}

func (w *fileWalk) app(a failover.App) {
	for _, p := range slices.Concat(a.Probes, a.StandbyProbes) {
		w.http(p.HTTP)
		w.file(p.PasswordFile)
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
		}
		w.program(a.Exec)
	}
}

func (w *fileWalk) http(h failover.HTTP) {
	w.file(h.CAFile)
	w.file(h.HeaderFile)
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
