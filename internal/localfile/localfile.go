// Package localfile reads the small files of a watcher's machine that its configuration and policy name: secrets,
// authorities, certificates, records. It is the one place that does, because such a file may lie on a mount that hangs.
// open(2), read(2) and stat(2) then do not return and cannot be called off, so whoever waits for them stands still for as
// long: a watcher that waited for another group's secret told its own name server of no switchover any more.
//
// So the kernel is asked in a goroutine of its own, and the caller waits for it no longer than its context lasts. The
// goroutine stays behind until the kernel lets it go. That is bounded: a path is looked at by one goroutine at a time, and
// whoever comes while an earlier look still hangs waits for that one instead of starting another. A path whose look never
// returns, although the mount is well again, is read again by a new process only.
package localfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Patience is how long those wait for a file who have no deadline of their own. One that is well answers in microseconds.
const Patience = 3 * time.Second

// ErrHangs is wrapped by the error of a look that had not ended when its time was over. It is not the context's: it says
// nothing of whoever was to be asked with what is in the file.
var ErrHangs = errors.New("its file system does not answer")

// Read returns what is in the regular file at path, which must not be larger than limit bytes.
func Read(ctx context.Context, path string, limit int64) ([]byte, error) {
	return Look(ctx, path, func() ([]byte, error) { return read(path, limit) })
}

// ReadSoon is Read for those who have no deadline of their own.
func ReadSoon(path string, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	return Read(ctx, path, limit)
}

// looks are the paths that are being looked at, by anybody in this process; so two bubbles of testing/synctest must not look at
// the same one.
var looks = struct {
	sync.Mutex
	under map[string]chan struct{} // guarded by Mutex; each is closed by whoever looks, when the kernel has answered
}{under: map[string]chan struct{}{}}

// Look asks the kernel something about the file at path. look may be left behind, so it must touch nothing of its caller's.
func Look[T any](ctx context.Context, path string, look func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	var none T
	ended, err := begin(ctx, path)
	if err != nil {
		return none, err
	}
	answers := make(chan answer, 1)
	go func() { // nobody waits for it if the kernel does not answer: see above
		value, err := look()
		end(path, ended)
		answers <- answer{value, err}
	}()
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
		return none, late(ctx, path)
	}
}

// begin waits until nobody looks at path.
func begin(ctx context.Context, path string) (ended chan struct{}, err error) {
	for ctx.Err() == nil {
		looks.Lock()
		earlier := looks.under[path]
		if earlier == nil {
			ended = make(chan struct{})
			looks.under[path] = ended
		}
		looks.Unlock()
		if earlier == nil {
			return ended, nil
		}
		select {
		case <-earlier:
		case <-ctx.Done():
		}
	}
	return nil, late(ctx, path)
}

func end(path string, ended chan struct{}) {
	looks.Lock()
	delete(looks.under, path)
	looks.Unlock()
	close(ended)
}

// late says why nobody waits for the file any more.
func late(ctx context.Context, path string) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", path, ErrHangs)
	}
	return fmt.Errorf("%s: %w", path, ctx.Err())
}

func read(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // a fifo would block until somebody writes, a directory has a puzzling error of its own
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("%s is larger than %d KiB", path, limit>>10)
	}
	return text, nil
}
