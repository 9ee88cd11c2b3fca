package dbtest

import (
	"context"
	"sync"
	"time"
)

// WriteEvery is how often a Writer writes, and how long it waits before it tries again.
const WriteEvery = 5 * time.Millisecond

// writePatience bounds one write and one connection of a Writer's: who is not answered in this time looks the record up again.
const writePatience = time.Second

// Session is a client's connection to a database.
type Session interface {
	// Write stores a number; nil: the database has acknowledged it.
	Write(ctx context.Context, id int64) error
	// Alive reports whether another write on this connection may succeed.
	Alive() bool
	Close()
}

// Writer is a client that writes one number after another to whatever server the record names, and remembers what was
// acknowledged and when. It looks the record up before it connects and after each failure, as a client without a cache does.
type Writer struct {
	where func() string
	open  func(ctx context.Context, server string) (Session, error)
	stop  context.CancelFunc
	done  chan struct{}

	mu    sync.Mutex // guards what follows
	acks  []Ack
	tried int64
}

// Ack is an acknowledged write.
type Ack struct {
	ID     int64
	At     time.Time
	Server string
}

// StartWriter begins to write. where asks for the server's name, open connects to it.
func StartWriter(where func() string, open func(context.Context, string) (Session, error)) *Writer {
	ctx, cancel := context.WithCancel(context.Background())
	w := &Writer{where: where, open: open, stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		w.run(ctx)
	}()
	return w
}

// Stop ends it and waits.
func (w *Writer) Stop() {
	w.stop()
	<-w.done
}

func (w *Writer) run(ctx context.Context) {
	tick := time.NewTicker(WriteEvery)
	defer tick.Stop()
	var session Session
	server := ""
	for ; ctx.Err() == nil; <-tick.C {
		if session == nil {
			server = w.where()
			session = w.connect(ctx, server)
		}
		if session == nil || w.write(ctx, session, server) {
			continue
		}
		if !session.Alive() || w.where() != server {
			session.Close()
			session = nil
		}
	}
	if session != nil {
		session.Close()
	}
}

func (w *Writer) connect(ctx context.Context, server string) Session {
	if server == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, writePatience)
	defer cancel()
	session, err := w.open(ctx, server)
	if err != nil {
		return nil
	}
	return session
}

func (w *Writer) write(ctx context.Context, session Session, server string) bool {
	ctx, cancel := context.WithTimeout(ctx, writePatience)
	defer cancel()
	w.mu.Lock()
	w.tried++
	id := w.tried
	w.mu.Unlock()
	if session.Write(ctx, id) != nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acks = append(w.acks, Ack{ID: id, At: time.Now(), Server: server})
	return true
}

// Acks are the acknowledged writes so far, in order.
func (w *Writer) Acks() []Ack {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Ack(nil), w.acks...)
}

// Gap is the longest time between two acknowledged writes that follow one another, and when it began.
func Gap(acks []Ack) (longest time.Duration, from time.Time) {
	for i := 1; i < len(acks); i++ {
		if d := acks[i].At.Sub(acks[i-1].At); d > longest {
			longest, from = d, acks[i-1].At
		}
	}
	return longest, from
}

// Lost are the acknowledged numbers that are not among those stored.
func Lost(acks []Ack, stored map[int64]bool) (lost []Ack) {
	for _, a := range acks {
		if !stored[a.ID] {
			lost = append(lost, a)
		}
	}
	return lost
}
