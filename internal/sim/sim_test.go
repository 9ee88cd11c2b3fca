package sim

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seeds   = flag.Uint64("seeds", 300, "how many seeds TestSeeds plays")
	first   = flag.Uint64("first", 1, "the first one")
	cover   = flag.Bool("rules", false, "print which rules were reached")
	tellOne = flag.String("tell", "", "TestTell: a script's file whose story is printed, or a seed")
)

// play runs a script in a bubble of its own.
func play(t *testing.T, s *Script, tell bool) (o Outcome) {
	synctest.Test(t, func(*testing.T) { o = Play(s, tell) })
	return o
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
	t.Errorf("a guarantee is broken: %v\n\n%s\n\nThe script, shrunken from %d events to %d (a file in testdata/ with it is played by TestScripts):\n\n%s",
		o.Broken, o.Story, len(s.Events), len(short.Events), short)
}

// TestSeeds plays the scripts of many seeds, on all processors.
func TestSeeds(t *testing.T) {
	var next, played, simulated, entries, programs atomic.Int64
	next.Store(int64(*first))
	var mu sync.Mutex
	count := tally{}
	broken := map[uint64]*Violation{}
	began := time.Now()
	t.Run("workers", func(t *testing.T) {
		for i := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				for {
					seed := uint64(next.Add(1) - 1)
					if seed >= *first+*seeds || len(broken) > 0 {
						return
					}
					o := play(t, Generate(seed), false)
					played.Add(1)
					simulated.Add(int64(o.Stats.Simulated))
					entries.Add(int64(o.Stats.Entries))
					programs.Add(int64(o.Stats.Programs))
					mu.Lock()
					count.merge(o.Count)
					if o.Broken != nil {
						broken[seed] = o.Broken
					}
					mu.Unlock()
				}
			})
		}
	})
	minutes := time.Since(began).Minutes()
	t.Logf("%d seeds, %.0f simulated hours, %d entries, %d programs in %s: %.0f seeds and %.0f simulated hours a minute", played.Load(),
		time.Duration(simulated.Load()).Hours(), entries.Load(), programs.Load(), time.Since(began).Round(time.Millisecond),
		float64(played.Load())/minutes, time.Duration(simulated.Load()).Hours()/minutes)
	if *cover {
		for _, k := range sortedKeys(count) {
			fmt.Printf("%8d  %s\n", count[k], k)
		}
	}
	for seed, v := range broken {
		t.Logf("seed %d", seed)
		report(t, Generate(seed), v)
		break
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
	for seed := uint64(1); seed <= 60; seed++ {
		s := Generate(seed)
		again, err := Parse(s.String())
		if err != nil {
			t.Fatal(err)
		}
		a, b := play(t, s, false), play(t, again, false)
		if a.Trace != b.Trace {
			t.Logf("seed %d: two runs end with different logs: %d and %d entries", seed, a.Stats.Entries, b.Stats.Entries)
			differ++
		}
	}
	if differ > 0 {
		t.Errorf("%d of 60 seeds are not replayed as they were", differ)
	}
}
