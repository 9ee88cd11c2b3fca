package localfile

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchover-ha/watchover/internal/localfile/hung"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRead(t *testing.T) {
	path := write(t, strings.Repeat("x", 1024))
	if text, err := Read(t.Context(), path, 1024); len(text) != 1024 || err != nil {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	if text, err := ReadSoon(write(t, ""), 1024); len(text) != 0 || err != nil {
		t.Errorf("an empty file: %q, %v", text, err)
	}
	if _, err := Read(t.Context(), write(t, strings.Repeat("x", 1025)), 1024); err == nil || !strings.Contains(err.Error(), "is larger than 1 KiB") {
		t.Errorf("a large file: %v", err)
	}
	for _, path := range []string{filepath.Dir(path), "/dev/zero"} {
		if _, err := Read(t.Context(), path, 1024); err == nil || err.Error() != path+" is not a regular file" {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := Read(t.Context(), path+".none", 1024); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Read(ended, path, 1024); !errors.Is(err, context.Canceled) || errors.Is(err, ErrHangs) {
		t.Errorf("called off: %v", err)
	}
}

// open(2) hangs: whoever reads waits until its deadline, and gets the file once it answers again.
func TestAFileThatHangs(t *testing.T) {
	path := write(t, "x")
	free := hung.File(t, path)
	for range 2 { // the second waits for the first one's open(2)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := Read(ctx, path, 1024)
		cancel()
		if !errors.Is(err, ErrHangs) || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), path) {
			t.Errorf("got %v", err)
		}
	}
	free()
	if text, err := Read(t.Context(), path, 1024); string(text) != "x" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
}

// However often a path that hangs is looked at, one goroutine is left behind; another path has its own.
func TestOneLookAtAPathIsLeftBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var begun atomic.Int32
		kernel := make(chan struct{}) // answers when it is closed
		look := func() (bool, error) {
			begun.Add(1)
			<-kernel
			return true, nil
		}
		var callers sync.WaitGroup
		for range 20 {
			for _, path := range []string{"/a", "/b"} {
				callers.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					if _, err := Look(ctx, path, look); !errors.Is(err, ErrHangs) {
						t.Errorf("got %v", err)
					}
				})
			}
			time.Sleep(500 * time.Millisecond)
		}
		callers.Wait()
		if n := begun.Load(); n != 2 {
			t.Errorf("%d looks at two paths that hang", n)
		}
		close(kernel)
		if ok, err := Look(t.Context(), "/a", look); !ok || err != nil {
			t.Errorf("once the kernel answers: %v, %v", ok, err)
		}
		synctest.Wait()
		if len(looks.under) != 0 {
			t.Errorf("left: %v", looks.under)
		}
	})
}
