package proctest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Change is one change of an app or its database, in the order of the file.
type Change struct {
	App  string `json:"app"`
	What string `json:"what"` // maintenance, role, frozen, receiving, app (started, killed)
	To   string `json:"to"`
	By   Hands  `json:"by"`
}

// Database is an app's database: a directory with the files role, frozen and receiving. It answers only while its app's
// process lives, as if both were one machine.
type Database struct {
	Dir, App, Peer string
	By             Hands

	hears func() bool // whether the peer's database can be reached; nil: while it is alive
}

// UntoldFile in an app's directory makes its database never tell that it is frozen.
const UntoldFile = "untold"

var errDead = errors.New("connection refused")

// verbs are what a database can be told, besides role: the file, the value it gets.
var verbs = map[string][2]string{
	"freeze": {"frozen", "yes"}, "unfreeze": {"frozen", "no"},
	"stop-replication": {"receiving", "no"}, "resume-replication": {"receiving", "yes"},
	"promote": {"role", "primary"},
}

func (d *Database) do(verb string) error {
	if !alive(d.Dir, d.App) {
		return errDead
	}
	if verb == "role" {
		fmt.Println(d.role())
		return nil
	}
	if text, err := os.ReadFile(filepath.Join(d.Dir, d.App, "fail-"+verb)); err == nil {
		return fmt.Errorf("made to fail: %s", text)
	}
	if err := appendLine(filepath.Join(d.Dir, ActsFile), HookLine{Hands: d.By, At: time.Now(), Phase: verb, PID: os.Getpid(), Env: os.Environ()}); err != nil {
		return err
	}
	springTrap(d.Dir, "act:"+verb+":before", d.By.Watcher)
	if verb == "catch-up" {
		if !d.hearsPeer() {
			return errDead
		}
	} else if set, ok := verbs[verb]; !ok {
		return fmt.Errorf("cannot %s", verb)
	} else if err := d.Set(set[0], set[1]); err != nil {
		return err
	}
	springTrap(d.Dir, "act:"+verb+":after", d.By.Watcher)
	return nil
}

func (d *Database) role() string {
	words := []string{d.get(d.App, "role")}
	if _, err := os.Stat(filepath.Join(d.Dir, d.App, UntoldFile)); err != nil && d.get(d.App, "frozen") == "yes" {
		words = append(words, "frozen")
	}
	if words[0] == "replica" {
		if d.get(d.App, "receiving") == "yes" && d.get(d.Peer, "role") == "primary" && d.hearsPeer() {
			words = append(words, "streaming")
		}
		words = append(words, "lag_bytes=0")
	}
	return strings.Join(words, " ")
}

func (d *Database) hearsPeer() bool {
	if d.hears != nil {
		return d.hears()
	}
	return alive(d.Dir, d.Peer)
}

// Set changes one of the database's files, if it is not so yet, and says so in the journal.
func (d *Database) Set(file, value string) error {
	c := Change{App: d.App, What: file, To: value, By: d.By}
	return change(d.Dir, c, func() (bool, error) {
		if d.get(d.App, file) == value {
			return false, nil
		}
		if err := announce(d.Dir, c); err != nil {
			return false, err
		}
		path := filepath.Join(d.Dir, d.App, file)
		if err := os.WriteFile(path+".new", []byte(value), 0o600); err != nil {
			return false, err
		}
		return true, os.Rename(path+".new", path)
	})
}

func (d *Database) get(app, file string) string {
	text, _ := os.ReadFile(filepath.Join(d.Dir, app, file))
	return string(text)
}

// change does something and journals it, alone among all programs of the stage. act reports whether it changed anything.
func change(dir string, c Change, act func() (bool, error)) error {
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	if err := completeJournal(dir); err != nil {
		return err
	}
	changed, err := act()
	if err != nil || !changed {
		return err
	}
	if err := appendLine(filepath.Join(dir, ChangesFile), c); err != nil {
		return err
	}
	return withdraw(dir)
}

// announcedFile holds the change of a file that is about to be made. A program may be killed between the change and its line
// in the journal; without that line the judge would take a frozen database for a writable one.
const announcedFile = "announced"

func announce(dir string, c Change) error {
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, announcedFile)
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func withdraw(dir string) error {
	if err := os.Remove(filepath.Join(dir, announcedFile)); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

// completeJournal writes the line of a change whose program was killed after it and before its line.
func completeJournal(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, announcedFile))
	if os.IsNotExist(err) {
		return nil
	}
	var c Change
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil {
		return err
	}
	made, err := os.ReadFile(filepath.Join(dir, c.App, c.What))
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	told, err := ReadLines[Change](filepath.Join(dir, ChangesFile))
	if err != nil {
		return err
	}
	if string(made) == c.To && (len(told) == 0 || told[len(told)-1] != c) {
		if err := appendLine(filepath.Join(dir, ChangesFile), c); err != nil {
			return err
		}
	}
	return withdraw(dir)
}

// alive reports whether an app's process holds its lock; a killed one has lost it.
func alive(dir, app string) bool {
	f, err := os.OpenFile(filepath.Join(dir, app, "alive"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}
