package probe

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// A script is a list of results, "A+" for a success of probe A, "B-" for a failure of probe B, "A?" for one that could
// not be carried out; ">up" checks the verdict at that point. "A*" begins a check of A that "A2-" ends, if it was A's
// second: all checks are counted.
func TestDetector(t *testing.T) {
	tests := []struct {
		name   string
		probes int
		fall   int
		rise   int
		script string
	}{
		{"starts unknown", 1, 3, 2, ">unknown"},
		{"one full round is up", 1, 3, 2, "A+ >up"},
		{"a round is full when every probe answered", 2, 3, 2, "A+ >unknown A+ >unknown B+ >up"},
		{"failures below fall leave it up", 1, 3, 2, "A+ A- A- >up"},
		{"fall failures in a row are down", 1, 3, 2, "A+ A- A- A- >down"},
		{"a success begins the count again", 1, 3, 2, "A+ A- A- A+ A- A- >up A- >down"},
		{"failures of two probes do not add up", 2, 3, 2, "A+ B+ A- B- A- B- >up A- >down"},
		{"one probe is enough for down", 2, 2, 1, "A+ B+ B- A+ B- A+ >down"},
		{"from unknown to down", 1, 3, 2, "A- A- >unknown A- >down"},
		{"from unknown a late success is up", 1, 3, 2, "A- A- A+ >up"},
		{"not up while another fails", 2, 3, 2, "A- B+ >unknown A+ >up"},
		{"rise successes end it", 1, 1, 2, "A- >down A+ >down A+ >up"},
		{"a failure begins rise again", 1, 2, 2, "A- A- >down A+ A- A+ >down A+ >up"},
		{"rise counts rounds, not single results", 2, 1, 2, "A+ B- >down A+ A+ B+ >down B+ >up"},
		{"fall 1", 1, 1, 1, "A+ A- >down A+ >up"},
		{"down stays while another probe began to fail", 2, 3, 1, "A+ B- B- B- >down B+ A- >up"},
		{"our own fault is unknown", 1, 3, 2, "A+ A? >unknown A+ >up"},
		{"our own fault does not hide a dead probe", 2, 2, 2, "A? B- >unknown B- >down"},
		{"our own fault is no failure", 1, 2, 2, "A+ A- A? A- >unknown A- >down"},
		{"a dead probe that cannot be asked any more", 1, 2, 2, "A- A- >down A? >unknown"},

		{"overlapping failures count", 1, 3, 2, "A+ A* A* A* A2- A3- >up A4- >down"},
		{"in whatever order they end", 1, 3, 2, "A+ A* A* A* A4- A2- >up A3- >down"},
		{"a later success cancels what began before it", 1, 2, 2, "A+ A* A* A* A2- A4+ A3- >up A- >up A- >down"},
		{"also what had failed in great number", 1, 2, 1, "A+ A* A* A* A2- A3- >down A4+ >up"},
		{"an earlier success leaves what began after it", 1, 2, 2, "A+ A* A* A* A3- A2+ A4- >down"},
		{"and cancels only what began before it", 1, 3, 2, "A+ A* A* A* A* A2- A4- A5- >down A3+ A- >down"},
		{"a success between failures parts them", 1, 3, 2, "A+ A* A* A* A* A2- A4- A3+ >up A5- >up A- >down"},
		{"of two late successes the newer one counts", 1, 2, 2, "A+ A* A* A* A4+ A2+ A- >up A3- >up A- >down"},
		{"a late failure does not end a run of successes", 1, 1, 2, "A- >down A* A+ A2- A+ >up"},
		{"answers that had piled up are one success", 1, 1, 2, "A* A* A* A* A1- >down A2+ A3+ A4+ >down A+ >up"},
		{"nor are they one for each check in between", 1, 1, 3, "A* A* A* A1- A2+ A+ >down A3+ >down A+ >up"},
		{"a late fault of our own is ignored", 1, 3, 2, "A+ A* A+ A2? >up"},
		{"a late fault of our own parts failures", 1, 2, 2, "A+ A* A* A* A2- A3? A4- >unknown A- >down"},
		{"our own fault hides what began before it", 1, 2, 2, "A+ A* A* A* A4? >unknown A2- A3- >unknown A+ >up"},
		{"our own fault does not hide what began after it", 1, 3, 2, "A+ A* A* A3- A2? >up A- >up A- >down"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDetector(tt.probes, tt.fall, tt.rise)
			for i, word := range strings.Fields(tt.script) {
				if want, ok := strings.CutPrefix(word, ">"); ok {
					if d.verdict != failover.Verdict(want) {
						t.Fatalf("word %d of %q: verdict %s", i, tt.script, d.verdict)
					}
					continue
				}
				play(t, &d, word)
			}
		})
	}
}

func play(t *testing.T, d *detector, word string) {
	t.Helper()
	index, end := int(word[0]-'A'), word[len(word)-1]
	var check uint64
	if middle := word[1 : len(word)-1]; middle == "" {
		check = d.begin(index)
	} else if number, err := strconv.Atoi(middle); err == nil {
		check = uint64(number)
	} else {
		t.Fatalf("word %q: %v", word, err)
	}
	if end != '*' {
		d.observe(index, check, map[byte]outcome{'+': success, '-': failure, '?': unable}[end])
	}
}

// However overlapping results come in, it is the order in which the checks began that counts: a detector that gets them
// in another order ends with the same failures, if no check was overtaken by a success.
func TestDetectorFailuresInAnyOrder(t *testing.T) {
	for _, order := range [][]uint64{{1, 2, 3, 4, 5}, {5, 4, 3, 2, 1}, {3, 5, 1, 4, 2}} {
		d := newDetector(1, 3, 2)
		for range order {
			d.begin(0)
		}
		for _, check := range order {
			d.observe(0, check, failure)
		}
		if got := d.streaks[0].failures; !slices.Equal(got, []uint64{3, 4, 5}) {
			t.Errorf("order %v leaves failures %v", order, got)
		}
	}
}

func TestDetectorForgetsWhatIsUnderWay(t *testing.T) {
	d := newDetector(1, 1, 1)
	old := d.begin(0)
	d.reset()
	d.observe(0, old, failure)
	if d.verdict != failover.VerdictUnknown {
		t.Errorf("%s by a check from before the reset", d.verdict)
	}
	d.observe(0, d.begin(0), failure)
	if d.verdict != failover.VerdictDown {
		t.Errorf("%s by a check from after the reset", d.verdict)
	}
}

func TestDetectorSettled(t *testing.T) {
	d := newDetector(2, 3, 2)
	check := func(when string, settled, failing bool) {
		t.Helper()
		if d.settled() != settled || d.failing() != failing {
			t.Errorf("%s: settled %v, failing %v", when, d.settled(), d.failing())
		}
	}
	check("at first", false, false)
	d.observe(0, d.begin(0), success)
	d.observe(1, d.begin(1), success)
	check("up", true, false)
	d.observe(1, d.begin(1), failure)
	check("up with a failure", false, true)
	d.observe(1, d.begin(1), success)
	check("up again", true, false)
	for range 3 {
		d.observe(0, d.begin(0), failure)
	}
	d.observe(0, d.begin(0), success)
	check("down, answering again", false, false)
	d.reset()
	check("reset", false, false)
	if d.verdict != failover.VerdictUnknown {
		t.Errorf("reset leaves %s", d.verdict)
	}
	d.observe(0, d.begin(0), success)
	if d.verdict != failover.VerdictUnknown {
		t.Error("a reset must forget the successes of all probes")
	}
}

func TestDetectorWithoutProbes(t *testing.T) {
	if d := newDetector(0, 1, 1); d.next() != failover.VerdictUnknown {
		t.Errorf("verdict %s without a probe", d.next())
	}
}
