package proctest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// Files of a stage, below its directory.
const (
	ChangesFile = "changes" // one Change a line
	HooksFile   = "hooks"   // one HookLine a line
	TurnsFile   = "turns"   // one HookLine at the begin and the end of a maintenance switch that is a program
	ActsFile    = "acts"    // one HookLine for each action; Env holds the headers of an HTTP one
	TrapFile    = "trap"    // signal and point; removed by whoever springs it. Signal: kill, stop, or hold
	ReleaseFile = "release" // ends the waiting of a program that was held

	// SurvivorsFile holds the points, one JSON string a line, at which a program sprang the trap and lived on: an app
	// may, a program that the watcher started must not.
	SurvivorsFile = "survivors"
)

// Play is one program of the stage:
//
//	app DIR NAME ADDRESS open|closed    an app that serves until it is killed
//	db DIR NAME PEER VERB               one thing told to the app's database
//	hook DIR before|after               a hook
//	turn DIR METHOD URL                 a maintenance switch, turned by a program
//	db-at ADDRESS VERB                  one thing told to a database that is reached over the network
//
// An app gets three more words if its database is to be reached over the network and no other way:
//
//	app DIR NAME ADDRESS open|closed DATABASE-ADDRESS PEER PEERS-DATABASE-ADDRESS
//
// It returns the exit code.
func Play(args []string) int {
	var err error
	switch {
	case len(args) == 5 && args[0] == "app":
		err = serveApp(args[1], args[2], args[3], args[4] == "open")
	case len(args) == 8 && args[0] == "app":
		err = serveBoth(args[1:])
	case len(args) == 4 && args[0] == "turn":
		err = playTurn(args[1], args[2], args[3])
	case len(args) == 3 && args[0] == "db-at":
		err = tellDatabase(args[1], args[2])
	case len(args) == 5 && args[0] == "db":
		err = (&Database{Dir: args[1], App: args[2], Peer: args[3], By: hands()}).do(args[4])
	case len(args) == 3 && args[0] == "hook":
		err = playHook(args[1], args[2])
	default:
		err = fmt.Errorf("cannot play %q", args)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// Hands are whose they are: what the watcher told about its attempt. The zero value: the test itself.
type Hands struct {
	Watcher    string `json:"watcher,omitempty"`
	Step       string `json:"step,omitempty"`
	Switchover uint64 `json:"switchover,omitempty"`
	Token      uint64 `json:"token,omitempty"`
	Attempt    int    `json:"attempt,omitempty"`
}

func hands() Hands {
	return handsFrom(func(name string) string { return os.Getenv("WATCHOVER_" + name) })
}

func handsFrom(get func(string) string) Hands {
	number := func(name string) uint64 {
		n, _ := strconv.ParseUint(get(name), 10, 64)
		return n
	}
	return Hands{Watcher: get("WATCHER"), Step: get("STEP"), Switchover: number("SWITCHOVER"), Token: number("TOKEN"), Attempt: int(number("ATTEMPT"))}
}

// HookLine is what a hook writes when it begins and when it ends.
type HookLine struct {
	Hands
	At    time.Time `json:"at"`
	Phase string    `json:"phase"` // before, after; of an action its verb
	End   bool      `json:"end,omitempty"`
	PID   int       `json:"pid"`
	Env   []string  `json:"env,omitempty"`
}

func playHook(dir, phase string) error {
	line := HookLine{Hands: hands(), At: time.Now(), Phase: phase, PID: os.Getpid(), Env: os.Environ()}
	if err := appendLine(filepath.Join(dir, HooksFile), line); err != nil {
		return err
	}
	springTrap(dir, "hook:"+phase+":"+line.Step, line.Watcher)
	if text, err := os.ReadFile(filepath.Join(dir, "fail-hook-"+phase+"-"+line.Step)); err == nil {
		return fmt.Errorf("made to fail: %s", text)
	}
	line.End, line.At, line.Env = true, time.Now(), nil
	return appendLine(filepath.Join(dir, HooksFile), line)
}

// springTrap sends the trap's signal to the watcher if the trap is set at this point, then waits long enough for the
// guard to end this process too.
func springTrap(dir, point, watcher string) {
	file := filepath.Join(dir, TrapFile)
	text, err := os.ReadFile(file)
	if err != nil {
		return
	}
	var signal, wanted string
	if n, _ := fmt.Sscan(string(text), &signal, &wanted); n != 2 || wanted != point || os.Remove(file) != nil {
		return
	}
	if signal == "hold" {
		hold(dir)
		return
	}
	pid, err := os.ReadFile(filepath.Join(dir, watcher+".pid"))
	if err != nil {
		return
	}
	n, err := strconv.Atoi(string(bytes.TrimSpace(pid)))
	if err != nil || n <= 1 {
		return
	}
	sent, wait := syscall.SIGKILL, time.Second
	if signal == "stop" {
		sent, wait = syscall.SIGSTOP, 5*time.Second // past the attempt's deadline
	}
	_ = syscall.Kill(n, sent)
	<-time.After(wait)
	_ = appendLine(filepath.Join(dir, SurvivorsFile), point)
}

// hold waits until it is released, for a minute at most.
func hold(dir string) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 3000 {
		if _, err := os.Stat(filepath.Join(dir, ReleaseFile)); err == nil {
			return
		}
		<-tick.C
	}
}

// appendLine appends a line to a journal in one write, on disk when it returns.
func appendLine(file string, line any) error {
	text, err := json.Marshal(line)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(append(text, '\n')); err != nil {
		return err
	}
	return f.Sync()
}

// ReadLines reads a journal; a file that is not there is empty.
func ReadLines[T any](file string) ([]T, error) {
	text, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	var lines []T
	for line := range bytes.Lines(text) {
		var v T
		if err := json.Unmarshal(line, &v); err != nil {
			return nil, fmt.Errorf("cannot read line %d of %s: %w", len(lines)+1, file, err)
		}
		lines = append(lines, v)
	}
	return lines, nil
}
