package guard

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/watchover-ha/watchover/internal/localfile"
)

// lookPath finds a program as execvp(3) does, but in the PATH that the program itself will see, and never in the
// working directory: an empty or relative entry is passed over.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := ""
	for _, v := range env {
		if rest, ok := strings.CutPrefix(v, "PATH="); ok {
			path = rest
		}
	}
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			continue
		}
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("cannot run %q: not found in PATH %q: %w; give its full path", name, path, os.ErrNotExist)
}

// startError explains why a program could not be started. The kernel says ENOENT for a missing program, a missing
// directory and a missing interpreter alike (execve(2)).
func startError(c Command, path string, errno syscall.Errno) error {
	hint := ""
	switch errno {
	case syscall.ENOENT, syscall.ENOTDIR:
		hint = "check the path"
		if info, err := lookAt(dirOf(c)); errors.Is(err, localfile.ErrHangs) {
			break
		} else if err != nil || !info.IsDir() {
			hint = fmt.Sprintf("its working directory %s is missing", dirOf(c))
		} else if _, err := lookAt(resolve(c, path)); err == nil {
			hint = "the file is there, but the interpreter named in its first line is not"
		}
	case syscall.EACCES:
		hint = "make it executable (chmod +x) and its directories accessible to this user"
	case syscall.ENOEXEC:
		hint = "it is neither a program for this machine nor a script that starts with #!"
	case syscall.EAGAIN, syscall.ENOMEM:
		hint = "the system is short of processes or memory"
	case syscall.EBUSY:
		hint = "an earlier start of it was killed and the kernel has not let it die yet (a hung disk or network file system?)"
	default:
		return fmt.Errorf("cannot run %q: %w", path, errno)
	}
	return fmt.Errorf("cannot run %q: %w: %s", path, errno, hint)
}

// lookAt is for a hint, and no hint is worth waiting for a mount that hangs.
func lookAt(path string) (os.FileInfo, error) {
	ctx, cancel := context.WithTimeout(context.Background(), hintPatience)
	defer cancel()
	return localfile.Look(ctx, path, func() (os.FileInfo, error) { return os.Stat(path) })
}

const hintPatience = 100 * time.Millisecond

func dirOf(c Command) string {
	if c.Dir == "" {
		return "/"
	}
	return c.Dir
}

func resolve(c Command, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dirOf(c), path)
}
