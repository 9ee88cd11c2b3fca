package cluster

import (
	"context"
	"fmt"
	"syscall"
	"time"
)

const (
	// lookAtSpace is how often the free space is measured.
	lookAtSpace = 10 * time.Second
	// Space is low when less than this is free, or, on a file system that is smaller than lowBytes/lowShare (5 GiB), less
	// than lowShare of it: log and snapshots together take some ten MiB, and whoever has to make room needs time for it.
	lowBytes = 256 << 20
	lowShare = 0.05
	// enoughAgain is by how much more than that has to be free until it is no longer low. News of it goes into the log, so a
	// value at the edge must not flutter.
	enoughAgain = 1.25
)

// Space is how much room the data directory's file system has.
type Space struct {
	Free  uint64 // bytes that this process may still take
	Total uint64 // bytes
	Low   bool
	Known bool // it could be measured
}

// String is the space as a warning shows it.
func (s Space) String() string {
	return fmt.Sprintf("%d MiB of %d MiB are free", s.Free>>20, s.Total>>20)
}

// Space is how much room there was at the last look.
func (n *Node) Space() Space {
	if s := n.space.Load(); s != nil {
		return *s
	}
	return Space{}
}

// watchSpace measures until ctx ends, and says when space begins and ceases to be low. It also runs while the watcher
// sits out.
func (n *Node) watchSpace(ctx context.Context) {
	for {
		n.noteSpace(n.measure(ctx))
		if !pause(ctx, lookAtSpace) {
			return
		}
	}
}

// measure asks the file system. One that hangs is waited for until ctx ends, away from everything else.
func (n *Node) measure(ctx context.Context) Space {
	measured := make(chan Space, 1)
	go func() {
		var fs syscall.Statfs_t
		if err := syscall.Statfs(n.o.DataDir, &fs); err != nil {
			measured <- Space{}
			return
		}
		measured <- Space{Free: fs.Bavail * uint64(fs.Bsize), Total: fs.Blocks * uint64(fs.Bsize), Known: true}
	}()
	select {
	case s := <-measured:
		return s
	case <-ctx.Done():
		return Space{}
	}
}

// noteSpace publishes a measurement. One that failed leaves the last one.
func (n *Node) noteSpace(s Space) {
	if !s.Known {
		return
	}
	before := n.Space()
	s.Low = isLow(s, before.Low)
	n.space.Store(&s)
	line := n.log.Info()
	switch {
	case s.Low == before.Low:
		return
	case s.Low:
		line = n.log.Warn()
	}
	line.Str("dir", n.o.DataDir).Uint64("free", s.Free).Uint64("total", s.Total).Bool("low", s.Low).Msg("disk space")
}

func isLow(s Space, before bool) bool {
	limit := min(lowBytes, lowShare*float64(s.Total))
	if before {
		limit *= enoughAgain
	}
	return float64(s.Free) < limit
}
