// Package hung makes files hang for tests, as those on a mount whose server is gone do.
package hung

import (
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// File makes open(2) of the regular file at path hang, in this process too, until free is called or the test ends: somebody
// else holds a lease on it and does not give it back (fcntl(2), "Leases"). The kernel loses its patience after
// /proc/sys/fs/lease-break-time, 45 s. stat(2) is answered. The file must not be open.
func File(t testing.TB, path string) (free func()) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	free = sync.OnceFunc(func() { _ = f.Close() })
	t.Cleanup(free)
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Fatalf("the file system of %s has no leases, which this test needs; set TMPDIR to one that has: %v", path, err)
	}
	return free
}
