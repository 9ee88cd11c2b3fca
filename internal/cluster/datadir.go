package cluster

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// Files of the data directory.
const (
	lockFile     = "lock"
	identityFile = "identity.json"
	bootFile     = "boot"
	logFile      = "raft.db"
	// snapshots are kept in the directory "snapshots", which raft's store makes.
)

// ErrInUse means that another process holds the data directory.
var ErrInUse = errors.New("it is in use")

// maxSmallFile bounds what is read of the small files, in bytes.
const maxSmallFile = 1 << 20

// dataDir is the locked data directory and what it says of itself.
type dataDir struct {
	path     string
	lock     *os.File // held as long as the process uses the directory
	identity identity
	boot     uint64 // how often the directory has been opened
	word     string // random: names this process's use of it
}

// identity says whose directory this is and how far its first start has come.
type identity struct {
	Node      string     `json:"node"` // random; a wiped directory gets another one
	Name      string     `json:"name"`
	Cluster   string     `json:"cluster"`
	Stage     stage      `json:"stage"`
	Agreement *agreement `json:"agreement,omitempty"`
	Lineage   lineage    `json:"lineage"`               // as last applied
	Behind    *behind    `json:"left_behind,omitempty"` // by a recovery: this directory is never to be used again
	// Retired says why this directory never takes part again; empty: it may.
	Retired failover.Standing `json:"retired,omitempty"`
}

// openDataDir makes the directory if need be, locks it, and raises its boot counter.
func openDataDir(path, name, cluster string) (*dataDir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make data directory: %w", err)
	}
	lock, err := lockDir(path)
	if err != nil {
		return nil, err
	}
	d := &dataDir{path: path, lock: lock, word: randomID()[:16]}
	if err := d.load(name, cluster); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// openUsedDir locks a directory that a watcher has used, and changes nothing in it.
func openUsedDir(path, name, cluster string) (*dataDir, error) {
	if _, err := os.Stat(filepath.Join(path, identityFile)); err != nil {
		return nil, fmt.Errorf("cannot open data directory %q: no watcher has used it: %w", path, err)
	}
	lock, err := lockDir(path)
	if err != nil {
		return nil, err
	}
	d := &dataDir{path: path, lock: lock}
	if err := d.loadIdentity(name, cluster); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// lockDir takes the lock that ends with the process, whatever way that ends.
func lockDir(path string) (*os.File, error) {
	name := filepath.Join(path, lockFile)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder := ""
		if pid, readErr := io.ReadAll(io.LimitReader(f, 32)); readErr == nil && len(pid) > 0 {
			holder = " by process " + strings.TrimSpace(string(pid))
		}
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("cannot lock data directory %q: %w%s; stop that one first or give this watcher its own data_dir", path, ErrInUse, holder)
		}
		return nil, fmt.Errorf("cannot lock data directory %q: %w", path, err)
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("cannot write %q: %w", name, err)
	}
	return f, nil
}

func (d *dataDir) load(name, cluster string) error {
	if err := d.loadIdentity(name, cluster); err != nil {
		return err
	}
	text, err := d.read(bootFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil {
		if d.boot, err = strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64); err != nil {
			return fmt.Errorf("cannot read %q: %w; without the counter this watcher's reports would be taken for old ones", filepath.Join(d.path, bootFile), err)
		}
	}
	d.boot++
	return d.write(bootFile, []byte(strconv.FormatUint(d.boot, 10)+"\n"))
}

func (d *dataDir) loadIdentity(name, cluster string) error {
	text, err := d.read(identityFile)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(d.path, logFile)); err == nil {
			return fmt.Errorf("cannot open data directory %q: it has a log but no %s; put that file back or use an empty directory", d.path, identityFile)
		}
		d.identity = identity{Node: randomID(), Name: name, Cluster: cluster}
		return d.save(d.identity)
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &d.identity); err != nil {
		return fmt.Errorf("cannot read %q: %w", filepath.Join(d.path, identityFile), err)
	}
	if d.identity.Name != name || d.identity.Cluster != cluster {
		return fmt.Errorf("cannot open data directory %q: it belongs to watcher %q of cluster %q, not to %q of %q; check watcher.name, cluster.name and data_dir (%s)",
			d.path, d.identity.Name, d.identity.Cluster, name, cluster, renameHint(d.identity, name, cluster))
	}
	if d.identity.Retired != "" {
		return fmt.Errorf("cannot open data directory %q: %s", d.path, retiredText(d.identity.Retired, name, d.path))
	}
	return nil
}

// save makes i durable and then current.
func (d *dataDir) save(i identity) error {
	text, err := json.MarshalIndent(i, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot encode %s: %w", identityFile, err)
	}
	if err := d.write(identityFile, append(text, '\n')); err != nil {
		return err
	}
	d.identity = i
	return nil
}

func (d *dataDir) read(name string) ([]byte, error) {
	f, err := os.Open(filepath.Join(d.path, name))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxSmallFile))
	if err != nil {
		return nil, fmt.Errorf("cannot read %q: %w", f.Name(), err)
	}
	return text, nil
}

// write replaces a small file so that a crash leaves the old or the new one, and returns once the new one is durable.
func (d *dataDir) write(name string, text []byte) error {
	target := filepath.Join(d.path, name)
	f, err := os.OpenFile(target+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("cannot write %q: %w", target, err)
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(target+".tmp", target)
	}
	if err == nil {
		err = syncDir(d.path)
	}
	if err != nil {
		return fmt.Errorf("cannot write %q: %w", target, err)
	}
	return nil
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	return dir.Sync()
}

// close gives the lock back.
func (d *dataDir) close() { _ = d.lock.Close() }

// randomID is 128 random bits in hex.
func randomID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}
