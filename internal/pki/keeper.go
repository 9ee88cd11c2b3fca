package pki

import (
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Keeper holds the identity in use and takes a new one from the files when they change. New files that are broken leave
// the old identity in use.
type Keeper struct {
	name    string
	current atomic.Pointer[Identity]

	mu    sync.Mutex
	files Files     // guarded by mu
	seen  [3]stamps // guarded by mu: the files as they were when last read
}

// stamps tell that a file has changed. The inode does so for one that was replaced within the clock's resolution.
type stamps struct {
	modified time.Time
	size     int64
	info     os.FileInfo
}

// Open loads the identity of the watcher called name.
func Open(f Files, name string, now time.Time) (*Keeper, error) {
	k := &Keeper{name: name}
	if _, err := k.Reload(f, now); err != nil {
		return nil, err
	}
	return k, nil
}

// Current is the identity in use.
func (k *Keeper) Current() *Identity { return k.current.Load() }

// Reload reads the files, whether they changed or not, and tells whether the identity is another one now. With an error
// the old one stays in use.
func (k *Keeper) Reload(f Files, now time.Time) (changed bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.files = f
	return k.load(look(f), now)
}

// Look is Reload if the files differ from what was last read; an error is told once for each change.
func (k *Keeper) Look(now time.Time) (changed bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if seen := look(k.files); !same(seen, k.seen) {
		return k.load(seen, now)
	}
	return false, nil
}

// load is called with mu held. What was seen is from before the files are read: a change meanwhile is found next time.
func (k *Keeper) load(seen [3]stamps, now time.Time) (changed bool, err error) {
	k.seen = seen
	id, err := Load(k.files, k.name, now)
	if err != nil {
		return false, err
	}
	old := k.current.Swap(id)
	return old == nil || !old.Leaf.Equal(id.Leaf) || !old.Authorities.Equal(id.Authorities), nil
}

func look(f Files) (seen [3]stamps) {
	for i, path := range []string{f.CA, f.Cert, f.Key} {
		if info, err := stat(path); err == nil {
			seen[i] = stamps{modified: info.ModTime(), size: info.Size(), info: info}
		}
	}
	return seen
}

func same(a, b [3]stamps) bool {
	for i := range a {
		if !a[i].modified.Equal(b[i].modified) || a[i].size != b[i].size || !os.SameFile(a[i].info, b[i].info) && a[i].info != nil {
			return false
		}
	}
	return true
}
