package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of the socket.
const (
	socketMode     = 0o660
	maxSocketPath  = 107 // bytes of sun_path without its final zero, unix(7)
	newSuffix      = ".new"
	staleAfter     = time.Second // to get an answer from whoever may still own an old socket
	maxConnections = 64
	// reserved connections are kept for callers who may change things, so that readers cannot lock an operator out.
	reserved = 8
)

// listenSocket binds the socket at path with mode 0660 and, if group is not empty, that group. A socket that nobody
// answers on is taken over; anything else in its place is an error. The socket appears under its name only once its
// rights are set.
func listenSocket(path, group string) (*net.UnixListener, os.FileInfo, error) {
	if len(path)+len(newSuffix) > maxSocketPath {
		return nil, nil, fmt.Errorf("cannot listen on %s: the path is longer than %d bytes; choose a shorter one", path, maxSocketPath-len(newSuffix))
	}
	if err := checkDirectory(filepath.Dir(path)); err != nil {
		return nil, nil, fmt.Errorf("cannot listen on %s: %w", path, err)
	}
	if err := removeStale(path); err != nil {
		return nil, nil, err
	}
	fresh := path + newSuffix
	if err := removeStale(fresh); err != nil {
		return nil, nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, nil, fmt.Errorf("cannot listen on %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false) // it would remove the name it was bound under, not the one it has
	info, err := publish(fresh, path, group)
	if err != nil {
		_ = l.Close()
		_ = os.Remove(fresh)
		return nil, nil, fmt.Errorf("cannot listen on %s: %w", path, err)
	}
	return l, info, nil
}

// publish sets the rights of a bound socket and gives it its name.
func publish(fresh, path, group string) (os.FileInfo, error) {
	if group != "" {
		gid, err := groupID(group)
		if err != nil {
			return nil, err
		}
		if err := os.Chown(fresh, -1, gid); err != nil {
			return nil, fmt.Errorf("cannot give it to group %s: %w", group, err)
		}
	}
	if err := os.Chmod(fresh, socketMode); err != nil {
		return nil, err
	}
	if err := os.Rename(fresh, path); err != nil {
		return nil, err
	}
	return os.Lstat(path)
}

// checkDirectory makes the last element of dir if it is missing, and refuses a directory in which anybody could put a
// socket of his own in the place of ours.
func checkDirectory(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot make its directory: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("cannot look at its directory: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", dir)
	}
	if info.Mode().Perm()&0o002 != 0 && info.Mode()&fs.ModeSticky == 0 {
		return fmt.Errorf("directory %s is writable by everybody; take that right away (chmod o-w)", dir)
	}
	return nil
}

// removeStale removes the socket of a daemon that is gone. It never removes anything but a socket.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot look at socket %s: %w", path, err)
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("cannot listen on %s: it exists and is not a socket; move it away", path)
	}
	c, err := net.DialTimeout("unix", path, staleAfter)
	if err == nil {
		_ = c.Close()
		return fmt.Errorf("cannot listen on %s: another daemon answers on it", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("cannot tell whether a daemon is behind socket %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("cannot remove stale socket %s: %w", path, err)
	}
	return nil
}

// removeOwn removes the socket if it is still the one that was bound: a successor may have put its own there.
func removeOwn(path string, bound os.FileInfo) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(info, bound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot look at socket %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("cannot remove socket %s: %w", path, err)
	}
	return nil
}

func groupID(name string) (int, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, fmt.Errorf("cannot find group %q; make it or change watcher.socket_group: %w", name, err)
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return 0, fmt.Errorf("cannot read id %q of group %q: %w", g.Gid, name, err)
	}
	return gid, nil
}

// peerUID asks the kernel who connected (SO_PEERCRED, unix(7)).
func peerUID(c *net.UnixConn) (uint32, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("cannot ask for the caller's uid: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, fmt.Errorf("cannot ask for the caller's uid: %w", err)
	}
	if credErr != nil {
		return 0, fmt.Errorf("cannot ask for the caller's uid: %w", credErr)
	}
	return cred.Uid, nil
}

// listener hands out connections that know their caller, and closes those beyond the bound at once: a caller who is
// turned away knows it, one who waits in the backlog does not.
type listener struct {
	*net.UnixListener
	uid     func(*net.UnixConn) (uint32, error)
	trusted func(uid uint32) bool // may use the reserved connections

	mu   sync.Mutex // guards open
	open int
}

// Accept waits for a caller for whom there is room.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		uid, err := l.uid(c)
		if err != nil || !l.enter(uid) {
			_ = c.Close()
			continue
		}
		return &conn{UnixConn: c, uid: uid, leave: sync.OnceFunc(l.leave)}, nil
	}
}

func (l *listener) enter(uid uint32) bool {
	room := maxConnections
	if !l.trusted(uid) {
		room -= reserved
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= room {
		return false
	}
	l.open++
	return true
}

func (l *listener) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
}

// conn is a connection whose caller is known.
type conn struct {
	*net.UnixConn
	uid   uint32
	leave func()
}

// Close makes room for another caller.
func (c *conn) Close() error {
	c.leave()
	return c.UnixConn.Close()
}
