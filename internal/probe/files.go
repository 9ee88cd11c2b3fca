package probe

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/net/http/httpguts"

	"github.com/watchover-ha/watchover/internal/localfile"
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
// this watcher's fault and say so (errUnable), also when the file hangs for as long as ctx lasts.
func (f *watchedFile) changed(ctx context.Context) ([]byte, error) {
	info, err := localfile.Look(ctx, f.path, func() (os.FileInfo, error) { return os.Stat(f.path) })
	if err != nil {
		return nil, errUnable{fmt.Errorf("cannot read file: %w", err)}
	}
	if f.seen != nil && sameFile(f.seen, info) {
		return nil, nil
	}
	data, err := localfile.Read(ctx, f.path, maxFile)
	if err != nil {
		return nil, errUnable{fmt.Errorf("cannot read file: %w", err)}
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
func loadPool(ctx context.Context, file *watchedFile) (*x509.CertPool, error) {
	data, err := file.changed(ctx)
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
