package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// schedules is how many schedules a run of the tests plays by itself; SCHEDULES in the environment asks for another number, and
// `make bubble` does.
const schedules = 60 / raceFactor

// playPlan plays a schedule in a bubble of its own and returns the bubble as it was left.
func playPlan(t *testing.T, p *plan) (w *bubble) {
	base := bubbleDir(t)
	defer os.RemoveAll(base)
	id := ""
	defer func() { // goroutines that raft has left behind would be left in a process that ends
		left := recover()
		if left == nil {
			return
		}
		remains := w != nil && strings.Contains(fmt.Sprint(left), "blocked goroutines remain")
		if !remains || !w.stuck.Load() && !onlyUnanswered(stacks(true), id) {
			panic(left)
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		id = bubbleOf(stacks(false))
		var err error
		if w, err = newBubble(p, base); err != nil {
			t.Fatal(err)
		}
		if os.Getenv("BUBBLE_LOG") != "" {
			w.log = zerolog.SyncWriter(os.Stderr)
		}
		w.play()
	})
	return w
}

// stacks is what the runtime tells of this goroutine, or of all.
func stacks(all bool) string {
	for buf := make([]byte, 1<<16); ; buf = make([]byte, 2*len(buf)) {
		if n := runtime.Stack(buf, all); n < len(buf) {
			return string(buf[:n])
		}
	}
}

var bubbleID = regexp.MustCompile(`^goroutine \d+ [^\n]*\b(synctest bubble \d+)\b`)

// bubbleOf is the bubble that a goroutine runs in, as its stack names it.
func bubbleOf(stack string) string {
	if m := bubbleID.FindStringSubmatch(stack); m != nil {
		return m[1]
	}
	return ""
}

// onlyUnanswered reports whether every goroutine that is left in a bubble waits for raft's answer to what stood in raft's queue when
// raft was shut down. Raft 1.8.0 does not answer that: its loop takes from the queue or sees the shutdown, whichever select draws
// (ApplyLog does as well), and there is no other way to that queue.
func onlyUnanswered(stacks, bubble string) bool {
	left := 0
	for stack := range strings.SplitSeq(stacks, "\n\n") {
		if bubbleOf(stack) != bubble {
			continue
		}
		if left++; !strings.Contains(stack, "raft.(*deferError).Error(") || !strings.Contains(stack, "cluster.(*Node).await.func1(") {
			return false
		}
	}
	return bubble != "" && left > 0
}

func TestOnlyWhatRaftLeftUnansweredMayStay(t *testing.T) {
	waits := "goroutine 7 [select (durable), synctest bubble 36]:\ngithub.com/hashicorp/raft.(*deferError).Error(...)\n\tfuture.go:113\n" +
		"github.com/watchover-ha/watchover/internal/cluster.(*Node).await.func1()\n\tpropose.go:320 +0x25"
	other := "goroutine 8 [chan receive (durable), 2 minutes, synctest bubble 36]:\ngithub.com/watchover-ha/watchover/internal/cluster.(*Node).pokeLoop(...)"
	elsewhere := strings.ReplaceAll(other, "bubble 36", "bubble 361")
	outside := "goroutine 1 [chan receive]:\ntesting.(*T).Run(...)"
	for text, want := range map[string]bool{
		waits + "\n\n" + outside + "\n\n" + elsewhere: true,
		waits + "\n\n" + other:                        false,
		outside:                                       false,
	} {
		if got := onlyUnanswered(text, "synctest bubble 36"); got != want {
			t.Errorf("got %t of\n%s", got, text)
		}
	}
	if onlyUnanswered(outside, "") || bubbleOf(outside) != "" {
		t.Error("a goroutine outside is taken for one of a bubble")
	}
}

// bubbleDir is where the watchers keep their small files: in memory where that can be had.
func bubbleDir(t *testing.T) string {
	for _, parent := range []string{"/dev/shm", ""} {
		if dir, err := os.MkdirTemp(parent, "watchover-bubble-"); err == nil {
			return dir
		}
	}
	t.Fatal("cannot make a directory")
	return ""
}

func (w *bubble) report() string {
	return fmt.Sprintf("%s\n\nThe schedule, to be played again with SCRIPT=FILE:\n\n%s\nThe story:\n\n%s",
		strings.Join(w.faults, "\n"), w.plan, strings.Join(w.story, "\n"))
}

func TestBubbleSchedules(t *testing.T) {
	count, first := uint64(schedules), uint64(1)
	for name, into := range map[string]*uint64{"SCHEDULES": &count, "SEED": &first} {
		if text := os.Getenv(name); text != "" {
			n, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				t.Fatalf("%s is %q, not a number", name, text)
			}
			*into = n
		}
	}
	defer debug.SetGCPercent(debug.SetGCPercent(800)) // little lives long
	began := time.Now()
	var next, simulated, acts, entries atomic.Int64
	var mu sync.Mutex
	ends := map[string]uint64{}
	t.Run("all", func(t *testing.T) {
		for worker := range 2 {
			t.Run(fmt.Sprintf("worker%d", worker), func(t *testing.T) {
				t.Parallel()
				for !t.Failed() {
					n := uint64(next.Add(1)) - 1
					if n >= count {
						return
					}
					w := playPlan(t, newPlan(first+n))
					if len(w.faults) > 0 {
						t.Errorf("seed %d: %s", first+n, w.report())
					}
					simulated.Add(int64(w.lasted))
					acts.Add(int64(w.town.acts))
					entries.Add(int64(w.ledger.read))
					mu.Lock()
					for end, n := range w.ledger.last.Groups[group].Counts {
						ends[end] += n
					}
					mu.Unlock()
				}
			})
		}
	})
	took := time.Since(began)
	t.Logf("%d schedules in %s, %.0f a minute; %d acts, %d log entries, %s of fake time\nswitchovers: %v", count, took.Round(time.Second), float64(count)/took.Minutes(), acts.Load(), entries.Load(), time.Duration(simulated.Load()).Round(time.Minute), ends)
}

// TestBubbleScript plays the schedules that are kept, each for what it once found or is there to find, or the one in the file
// that SCRIPT names.
func TestBubbleScript(t *testing.T) {
	files, err := filepath.Glob("testdata/bubble/*.txt")
	if name := os.Getenv("SCRIPT"); name != "" {
		files = []string{name}
	}
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			p, err := parsePlan(string(text))
			if err != nil {
				t.Fatal(err)
			}
			if w := playPlan(t, p); len(w.faults) > 0 {
				t.Error(w.report())
			} else if os.Getenv("SCRIPT") != "" {
				t.Log(w.report())
			}
		})
	}
}
