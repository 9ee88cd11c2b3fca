package probe

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/sys/unix"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// maxFile bounds a header or CA file in bytes; a bundle of all public roots is about 220 KiB.
const maxFile = 1 << 20

// watchedFile is a small file that is read again when it changed on disk.
type watchedFile struct {
	path string // absolute
	seen os.FileInfo
}

func newWatchedFile(dir, path string) *watchedFile {
	if path == "" {
		return nil
	}
	return &watchedFile{path: resolve(dir, path)}
}

// changed returns the file's content if it is another one than at the last call that succeeded, else nil. Errors are
// this watcher's fault and say so (errUnable).
func (f *watchedFile) changed() ([]byte, error) {
	info, err := os.Stat(f.path)
	if err != nil {
		return nil, errUnable{fmt.Errorf("cannot read file: %w", err)}
	}
	if f.seen != nil && sameFile(f.seen, info) {
		return nil, nil
	}
	data, err := readFile(f.path)
	if err != nil {
		return nil, errUnable{err}
	}
	f.seen = info
	return data, nil
}

// forget makes the next call of changed return the content again.
func (f *watchedFile) forget() { f.seen = nil }

// sameFile compares what changes when a file is written or replaced. The inode's change time catches a rewrite within
// one tick of the modification time that was set back by hand.
func sameFile(a, b os.FileInfo) bool {
	if !os.SameFile(a, b) || a.Size() != b.Size() || !a.ModTime().Equal(b.ModTime()) {
		return false
	}
	sa, oka := a.Sys().(*syscall.Stat_t)
	sb, okb := b.Sys().(*syscall.Stat_t)
	return !oka || !okb || sa.Ctim == sb.Ctim
}

func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read file: %w", err)
	}
	defer func() { _ = file.Close() }()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("cannot read file %s: it is not a regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read file: %w", err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("cannot read file %s: it is larger than %d bytes", path, maxFile)
	}
	if data == nil {
		data = []byte{}
	}
	return data, nil
}

func resolve(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// parseHeaders reads "Name: value" lines; empty lines and lines that begin with # are left out. Errors name the line's
// number and never its content, because header files hold credentials.
func parseHeaders(data []byte) (http.Header, error) {
	header := make(http.Header)
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, found := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch {
		case !found || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value):
			return nil, fmt.Errorf("line %d is not of the form \"Name: value\"", number)
		case strings.EqualFold(name, "Host"):
			return nil, fmt.Errorf("line %d sets Host; use the probe's key host instead", number)
		case strings.EqualFold(name, "Content-Length"), strings.EqualFold(name, "Transfer-Encoding"):
			return nil, fmt.Errorf("line %d sets a header that follows from the body; leave it out", number)
		}
		header.Add(name, value)
	}
	return header, nil
}

// loadPool returns the certificates of a PEM file if it changed, nil if it did not.
func loadPool(file *watchedFile) (*x509.CertPool, error) {
	data, err := file.changed()
	if err != nil || data == nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		file.forget()
		return nil, errUnable{fmt.Errorf("cannot use %s: no certificate in PEM form in it", file.path)}
	}
	return pool, nil
}

// MissingFile is a file, or a variable, that a probe needs and that this watcher cannot read.
type MissingFile struct {
	Group, App, Probe string
	Path              string // absolute, or what failover.Variable.String says
	Err               error
}

// MissingFilesError says which files are missing. The targets were taken nevertheless: the verdicts of the apps
// concerned stay unknown until the files are there.
type MissingFilesError struct {
	Files []MissingFile
}

func (e *MissingFilesError) Error() string {
	var text strings.Builder
	text.WriteString("cannot carry out all probes on this watcher:")
	for i, f := range e.Files {
		if i > 0 {
			text.WriteByte(';')
		}
		fmt.Fprintf(&text, " %s/%s/%s: %v", f.Group, f.App, f.Probe, f.Err)
	}
	return text.String()
}

// missingFiles lists what the probe needs and cannot read. A program is looked for only if its path is absolute:
// others are found through PATH by whoever runs them.
func missingFiles(dir string, spec failover.Probe) []MissingFile {
	var missing []MissingFile
	for _, path := range []string{spec.CAFile, spec.HeaderFile, spec.PasswordFile} {
		if path == "" {
			continue
		}
		path = resolve(dir, path)
		if _, err := readFile(path); err != nil {
			missing = append(missing, MissingFile{Path: path, Err: err})
		}
	}
	for _, v := range []failover.Variable{spec.HeaderEnv, spec.PasswordEnv} {
		if v == "" {
			continue
		}
		if _, err := v.Read(os.LookupEnv, maxFile); err != nil {
			missing = append(missing, MissingFile{Path: v.String(), Err: err})
		}
	}
	if len(spec.Exec) > 0 && filepath.IsAbs(spec.Exec[0]) {
		if err := executable(spec.Exec[0]); err != nil {
			missing = append(missing, MissingFile{Path: spec.Exec[0], Err: err})
		}
	}
	return missing
}

func executable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("cannot find program: %w", err)
	}
	if err := unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS); info.IsDir() || err != nil {
		return errors.New("cannot run " + path + ": it is not a file that this process may execute")
	}
	return nil
}
