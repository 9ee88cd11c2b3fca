package sim

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seeds   = flag.Uint64("seeds", 0, "how many seeds TestSeeds plays; 0: a few, for go test")
	first   = flag.Uint64("first", 1, "the first one")
	cover   = flag.Bool("rules", false, "print which rules were reached")
	shrink  = flag.Bool("shrink", true, "tell a short story of what breaks a guarantee; false: only say which seed")
	tellOne = flag.String("tell", "", "TestTell: a script's file whose story is printed, or a seed")
)

// play runs a script in a bubble of its own; one that is paired, in two.
func play(t *testing.T, s *Script, tell bool) Outcome {
	return Compare(s, tell, func(s *Script, tell bool) (o Outcome) {
		synctest.Test(t, func(*testing.T) { o = Play(s, tell) })
		return o
	})
}

// report shrinks a script that breaks a rule and tells its story.
func report(t *testing.T, s *Script, v *Violation) {
	t.Helper()
	short := Shrink(s, v.Rule, 600, func(c *Script) string {
		if o := play(t, c, false); o.Broken != nil {
			return o.Broken.Rule
		}
		return ""
	})
	o := play(t, short, true)
	if o.Broken == nil {
		t.Errorf("a guarantee was broken, but not again when the script was played once more: %v\n\n%s", v, s)
		return
	}
	t.Errorf("a guarantee is broken: %v\n\n%s\n\nThe script, shrunken from %d events to %d (a file in testdata/ with it is played by TestScripts):\n\n%s",
		o.Broken, o.Story, len(s.Events), len(short.Events), short)
}

// TestSeeds plays the scripts of many seeds, on all processors.
func TestSeeds(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	b := &batch{next: *first, end: *first + *seeds, began: time.Now(), count: tally{}, loud: *seeds > 0}
	if *seeds == 0 {
		b.end = *first + fewSeeds
	}
	t.Run("workers", func(t *testing.T) {
		for i := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				for seed, ok := b.take(); ok; seed, ok = b.take() {
					b.done(seed, play(t, Generate(seed), false))
				}
			})
		}
	})
	b.sum(t)
	if *cover {
		known := knownRules(t)
		known.merge(b.count)
		fmt.Print(known.table())
	}
	switch {
	case b.broken != nil && *shrink:
		report(t, Generate(b.seed), b.broken)
	case b.broken != nil:
		t.Error(b.broken)
	}
}

// batch is a number of seeds that several workers play.
type batch struct {
	mu        sync.Mutex // guards what follows
	next, end uint64
	began     time.Time
	told      time.Time
	loud      bool
	played    int
	stats     Stats
	count     tally
	seed      uint64 // that broke something
	broken    *Violation
}

func (b *batch) take() (seed uint64, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next >= b.end || b.broken != nil {
		return 0, false
	}
	b.next++
	return b.next - 1, true
}

func (b *batch) done(seed uint64, o Outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.played++
	b.stats.Simulated += o.Stats.Simulated
	b.stats.Entries += o.Stats.Entries
	b.stats.Programs += o.Stats.Programs
	b.count.merge(o.Count)
	if o.Broken != nil && (b.broken == nil || seed < b.seed) {
		b.seed, b.broken = seed, o.Broken
	}
	if now := time.Now(); b.loud && now.Sub(b.told) > time.Minute {
		if !b.told.IsZero() {
			fmt.Println(b.line())
		}
		b.told = now
	}
}

func (b *batch) line() string {
	took := time.Since(b.began)
	return fmt.Sprintf("%d seeds, %.0f simulated hours, %d entries, %d programs in %s: %.0f seeds and %.0f simulated hours a minute", b.played,
		b.stats.Simulated.Hours(), b.stats.Entries, b.stats.Programs, took.Round(time.Second), float64(b.played)/took.Minutes(), b.stats.Simulated.Hours()/took.Minutes())
}

func (b *batch) sum(t *testing.T) {
	if b.loud {
		fmt.Println(b.line())
	}
	t.Log(b.line())
	if b.broken != nil {
		t.Logf("seed %d breaks a guarantee: go test ./internal/sim -run TestTell -v -tell %d prints it whole", b.seed, b.seed)
	}
}

// TestTell prints the story of one script or seed.
func TestTell(t *testing.T) {
	if *tellOne == "" {
		return
	}
	var s *Script
	var seed uint64
	if _, err := fmt.Sscanf(*tellOne, "%d", &seed); err == nil {
		s = Generate(seed)
	} else {
		text, err := os.ReadFile(*tellOne)
		if err != nil {
			t.Fatal(err)
		}
		if s, err = Parse(string(text)); err != nil {
			t.Fatal(err)
		}
	}
	o := play(t, s, true)
	fmt.Printf("%s\n%s\n%v\n", s, o.Story, o.Broken)
}

// TestScripts plays the scripts of testdata: what was once broken stays mended.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.sim")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Parse(string(text))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if o := play(t, s, false); o.Broken != nil {
			t.Errorf("%s:", file)
			report(t, s, o.Broken)
		}
	}
}

// TestReplay plays seeds twice: a script is worth something only if it gives the same run each time.
func TestReplay(t *testing.T) {
	differ := 0
	for seed := uint64(1); seed <= fewSeeds/5; seed++ {
		s := Generate(seed)
		again, err := Parse(s.String())
		if err != nil {
			t.Fatal(err)
		}
		a, b := play(t, s, true), play(t, again, true)
		if a.Trace != b.Trace || a.Story != b.Story {
			t.Logf("seed %d: two runs differ: %s", seed, firstDifference(a.Story, b.Story))
			differ++
		}
	}
	if differ > 0 {
		t.Errorf("%d of %d seeds are not replayed as they were", differ, fewSeeds/5)
	}
}

func firstDifference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return fmt.Sprintf("\n%s\n or\n%s", x[i], y[i])
		}
	}
	return fmt.Sprintf("one tells %d lines, the other %d", len(x), len(y))
}
