package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const (
	rolePrimary = "primary"
	roleReplica = "replica"

	maxLog  = 64 << 20 // bytes; a shop window, not a warehouse
	maxLine = 16 << 10 // bytes of one entry
)

// refusal is an answer that repeating the question will not change; HTTP 409.
type refusal struct{ text string }

func (r refusal) Error() string { return r.text }

func refuse(format string, args ...any) error { return refusal{fmt.Sprintf(format, args...)} }

// order is what customers write.
type order struct {
	Name string `json:"name"`
	Item string `json:"item"`
}

// entry is one line of the log. Sum covers the entry and, through the sum before it, everything that came before: two
// logs with the same sum at the same place are the same up to there.
type entry struct {
	Seq      int       `json:"seq"` // from 1
	Timeline int       `json:"timeline"`
	Time     time.Time `json:"time"`
	Order    order     `json:"order"`
	Sum      string    `json:"sum"`
}

func (e entry) sumAfter(before string) string {
	e.Sum = before
	b, _ := json.Marshal(e) // strings, numbers and a time: cannot fail
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// meta is everything that must survive a reboot beside the log.
type meta struct {
	ID          string            `json:"id"` // of the data set; "" in a replica that has received nothing yet
	Role        string            `json:"role"`
	Timeline    int               `json:"timeline"` // raised by each promotion
	Frozen      bool              `json:"frozen"`
	Stopped     bool              `json:"stopped"` // replication
	Maintenance bool              `json:"maintenance"`
	Peer        string            `json:"peer"`
	Tokens      map[string]uint64 `json:"tokens"` // the highest seen, for each of the things they guard
}

// store is an append-only log and its meta data, both on disk before anything about them is answered.
type store struct {
	dir  string
	lock *os.File // keeps a second process out

	mu      sync.Mutex
	meta    meta
	log     *os.File
	entries []entry
	ends    []int64 // where each entry ends in the file
	changed chan struct{}
	stream  stream
}

func openStore(dir, role, peer string) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the data directory: %w", err)
	}
	s := &store{dir: dir, changed: make(chan struct{})}
	var err error
	if s.lock, err = os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, fmt.Errorf("cannot lock the data directory: %w", err)
	}
	if err := syscall.Flock(int(s.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		s.close()
		return nil, fmt.Errorf("cannot lock %s, another process uses it: %w", dir, err)
	}
	if err := s.load(role, peer); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *store) close() {
	if s.log != nil {
		s.log.Close()
	}
	s.lock.Close()
}

func (s *store) load(role, peer string) error {
	b, err := os.ReadFile(s.file("meta.json"))
	switch {
	case errors.Is(err, os.ErrNotExist):
		s.meta = meta{Role: role, Timeline: 1}
		if role == rolePrimary {
			s.meta.ID = rand.Text()[:12]
		}
	case err != nil:
		return fmt.Errorf("cannot read the store: %w", err)
	default:
		if err := json.Unmarshal(b, &s.meta); err != nil {
			return fmt.Errorf("cannot read %s: %w", s.file("meta.json"), err)
		}
	}
	if peer != "" {
		s.meta.Peer = peer
	}
	if s.log, err = os.OpenFile(s.file("log.jsonl"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return fmt.Errorf("cannot open the log: %w", err)
	}
	if err := s.loadLog(); err != nil {
		return err
	}
	return s.save(s.meta)
}

// loadLog reads the log. A last line without its end was never confirmed to anybody and is cut off; any other fault is
// damage, and the store does not open.
func (s *store) loadLog() error {
	r := bufio.NewReaderSize(s.log, maxLine)
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			if errors.Is(err, bufio.ErrBufferFull) {
				return fmt.Errorf("cannot read %s: entry %d is too long", s.log.Name(), len(s.entries)+1)
			}
			return s.cut(len(s.entries))
		}
		var e entry
		if err := json.Unmarshal(line, &e); err != nil || !s.fits(e) {
			return fmt.Errorf("cannot read %s: entry %d is damaged", s.log.Name(), len(s.entries)+1)
		}
		s.entries, s.ends = append(s.entries, e), append(s.ends, s.size()+int64(len(line)))
	}
}

// fits tells whether the entry continues the log.
func (s *store) fits(e entry) bool {
	return e.Seq == len(s.entries)+1 && e.Sum == e.sumAfter(s.sumAt(len(s.entries)))
}

func (s *store) sumAt(seq int) string {
	if seq == 0 {
		return ""
	}
	return s.entries[seq-1].Sum
}

func (s *store) size() int64 {
	if len(s.ends) == 0 {
		return 0
	}
	return s.ends[len(s.ends)-1]
}

// cut shortens the log to n entries.
func (s *store) cut(n int) error {
	s.entries, s.ends = s.entries[:n], s.ends[:n]
	if err := errors.Join(s.log.Truncate(s.size()), s.log.Sync()); err != nil {
		return fmt.Errorf("cannot shorten the log: %w", err)
	}
	return nil
}

// write appends entries and returns when they are on disk; all or none.
func (s *store) write(entries ...entry) error {
	var b bytes.Buffer
	ends := make([]int64, 0, len(entries))
	for _, e := range entries {
		line, err := json.Marshal(e)
		if err != nil || len(line) >= maxLine {
			return refuse("entry %d cannot be stored: %d bytes, at most %d", e.Seq, len(line), maxLine)
		}
		b.Write(append(line, '\n'))
		ends = append(ends, s.size()+int64(b.Len()))
	}
	if s.size()+int64(b.Len()) > maxLog {
		return refuse("the store is full")
	}
	_, err := s.log.WriteAt(b.Bytes(), s.size())
	if err = errors.Join(err, s.log.Sync()); err != nil {
		return errors.Join(fmt.Errorf("cannot write the log: %w", err), s.cut(len(s.entries)))
	}
	s.entries, s.ends = append(s.entries, entries...), append(s.ends, ends...)
	s.wake()
	return nil
}

// add stores a new order.
func (s *store) add(o order) (entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.meta.Role != rolePrimary:
		return entry{}, refuse("this is the replica, orders are taken by the primary")
	case s.meta.Frozen:
		return entry{}, refuse("the database is frozen")
	}
	e := entry{Seq: len(s.entries) + 1, Timeline: s.meta.Timeline, Time: time.Now().UTC().Truncate(time.Millisecond), Order: o}
	e.Sum = e.sumAfter(s.sumAt(len(s.entries)))
	return e, s.write(e)
}

// update changes the meta data: on disk first. A lower token than one seen before is refused; tokens guard maintenance
// and database separately, since Watchover turns on the one and freezes the other at the same time.
func (s *store) update(guarded string, token uint64, change func(m *meta) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.updateLocked(guarded, token, change)
}

func (s *store) updateLocked(guarded string, token uint64, change func(m *meta) error) error {
	m := s.meta
	m.Tokens = map[string]uint64{guarded: 0}
	for k, v := range s.meta.Tokens {
		m.Tokens[k] = v
	}
	if token != 0 && token < m.Tokens[guarded] {
		return refuse("token %d is lower than %d, which was seen before: somebody newer is at work", token, m.Tokens[guarded])
	}
	m.Tokens[guarded] = max(token, m.Tokens[guarded])
	if err := change(&m); err != nil {
		return err
	}
	if err := s.save(m); err != nil {
		return err
	}
	s.meta = m
	s.wake()
	return nil
}

// save replaces the file in one step, so that a crash leaves the old or the new one.
func (s *store) save(m meta) error {
	b, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return err
	}
	f, err := os.OpenFile(s.file("meta.tmp"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("cannot save: %w", err)
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), s.file("meta.json"))
	}
	if err == nil {
		err = syncDir(s.dir)
	}
	if err != nil {
		return fmt.Errorf("cannot save: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (s *store) file(name string) string { return filepath.Join(s.dir, name) }

// wake tells whoever waits that something changed, and has replication look at its orders again.
func (s *store) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// wait returns when the condition holds (nil) or the context ends. The condition is called under the lock.
func (s *store) wait(ctx context.Context, cond func() bool) error {
	for {
		s.mu.Lock()
		ok, changed := cond(), s.changed
		s.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// latest returns up to n orders, newest first.
func (s *store) latest(n int) []entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []entry
	for i := len(s.entries) - 1; i >= 0 && len(list) < n; i-- {
		list = append(list, s.entries[i])
	}
	return list
}
