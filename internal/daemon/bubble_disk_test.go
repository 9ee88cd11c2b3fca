package daemon

import (
	"maps"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// memDisk is what one life of a watcher keeps its log on. What was written when the life ends is what the next one finds.
type memDisk struct {
	slow   func() time.Duration // how long the next write takes
	stored func([]*raft.Log)    // is told of what was written

	mu        sync.Mutex // guards what follows
	logs      map[uint64]*raft.Log
	low, high uint64
	values    map[string][]byte
	numbers   map[string]uint64
}

func newMemDisk(slow func() time.Duration) *memDisk {
	return &memDisk{slow: slow, logs: map[uint64]*raft.Log{}, values: map[string][]byte{}, numbers: map[string]uint64{}}
}

// kept is a disk with the same content, for the next life.
func (d *memDisk) kept() *memDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &memDisk{slow: d.slow, stored: d.stored, logs: maps.Clone(d.logs), low: d.low, high: d.high, values: maps.Clone(d.values), numbers: maps.Clone(d.numbers)}
}

// entry is the log's entry at an index; nil: there is none.
func (d *memDisk) entry(index uint64) *raft.Log {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.logs[index]
}

func (d *memDisk) write(do func()) error {
	if wait := d.slow(); wait > 0 {
		<-time.After(wait)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	do()
	return nil
}

func (d *memDisk) FirstIndex() (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.low, nil
}

func (d *memDisk) LastIndex() (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.high, nil
}

func (d *memDisk) GetLog(index uint64, into *raft.Log) error {
	l := d.entry(index)
	if l == nil {
		return raft.ErrLogNotFound
	}
	*into = *l
	return nil
}

func (d *memDisk) StoreLog(l *raft.Log) error { return d.StoreLogs([]*raft.Log{l}) }

func (d *memDisk) StoreLogs(logs []*raft.Log) error {
	defer d.stored(logs)
	return d.write(func() {
		for _, l := range logs {
			own := *l
			d.logs[l.Index] = &own
			if d.low == 0 {
				d.low = l.Index
			}
			d.high = max(d.high, l.Index)
		}
	})
}

func (d *memDisk) DeleteRange(from, to uint64) error {
	return d.write(func() {
		for i := from; i <= to; i++ {
			delete(d.logs, i)
		}
		if from <= d.low {
			d.low = to + 1
		}
		if to >= d.high {
			d.high = from - 1
		}
		if d.low > d.high {
			d.low, d.high = 0, 0
		}
	})
}

func (d *memDisk) Set(key, value []byte) error {
	return d.write(func() { d.values[string(key)] = append([]byte(nil), value...) })
}

func (d *memDisk) Get(key []byte) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if v, ok := d.values[string(key)]; ok {
		return v, nil
	}
	return nil, raftboltdb.ErrKeyNotFound
}

func (d *memDisk) SetUint64(key []byte, value uint64) error {
	return d.write(func() { d.numbers[string(key)] = value })
}

func (d *memDisk) GetUint64(key []byte) (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if v, ok := d.numbers[string(key)]; ok {
		return v, nil
	}
	return 0, raftboltdb.ErrKeyNotFound
}

func (d *memDisk) Close() error { return nil }
