package proctest

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const (
	askPause    = 20 * time.Millisecond
	askPatience = 2 * time.Second // a query that has no answer by then is unanswered
)

// asker asks one watcher's name server from one host, again and again.
type asker struct {
	from, watcher string
	stop          func()

	mu         sync.Mutex // guards what follows
	queries    int
	unanswered int
	slowest    time.Duration
	turns      []turn // whenever the answer was another one than before
}

type turn struct {
	at time.Time
	answer
}

// askFrom begins to ask.
func (c *cluster) askFrom(from, watcher string) *asker {
	c.t.Helper()
	conn, err := c.dialDNS(from, watcher)
	must(c.t, err)
	a := &asker{from: from, watcher: watcher}
	end := make(chan struct{})
	var asking sync.WaitGroup
	a.stop = sync.OnceFunc(func() { close(end); asking.Wait(); conn.Close() })
	c.t.Cleanup(a.stop)
	asking.Go(func() {
		tick := time.NewTicker(askPause)
		defer tick.Stop()
		for {
			a.ask(conn)
			select {
			case <-tick.C:
			case <-end:
				return
			}
		}
	})
	return a
}

// ask sends one query. An answer to an earlier one, that came too late, is passed over.
func (a *asker) ask(conn *dns.Conn) {
	q := question()
	sent := time.Now()
	_ = conn.SetDeadline(sent.Add(askPatience))
	err := conn.WriteMsg(q)
	var r *dns.Msg
	for err == nil {
		if r, err = conn.ReadMsg(); err == nil && r.Id == q.Id {
			break
		}
	}
	took := time.Since(sent)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.queries++
	a.slowest = max(a.slowest, took)
	if err != nil {
		a.unanswered++
		return
	}
	said, err := readAnswer(r)
	if err != nil {
		said.address = err.Error()
	}
	if len(a.turns) == 0 || !a.turns[len(a.turns)-1].same(said) {
		a.turns = append(a.turns, turn{time.Now(), said})
	}
}

// same leaves out the TTL, which may count down.
func (t turn) same(other answer) bool {
	return t.address == other.address && t.ede == other.ede && (t.ttl > 30) == (other.ttl > 30)
}

func (a *asker) snapshot() (queries, unanswered int, slowest time.Duration, turns []turn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.queries, a.unanswered, a.slowest, slices.Clone(a.turns)
}

// judgeAnswered fails the test if a query was not answered.
func (a *asker) judgeAnswered(t *testing.T) {
	t.Helper()
	queries, unanswered, slowest, _ := a.snapshot()
	t.Logf("%s asked %s: %d queries, %d unanswered, slowest answer %s", a.from, a.watcher, queries, unanswered, slowest.Round(10*time.Microsecond))
	if unanswered > 0 || queries == 0 {
		t.Errorf("%s asked %s: %d of %d queries were not answered", a.from, a.watcher, unanswered, queries)
	}
}

// logLine is what the tests read of a watcher's log.
type logLine struct {
	Time    time.Time `json:"time"`
	Message string    `json:"message"`
	Term    uint64    `json:"term"`
	watcher string
	text    string
}

func (c *cluster) logOf(watcher string) (lines []logLine) {
	c.t.Helper()
	text, err := os.ReadFile(c.path(watcher + ".log"))
	must(c.t, err)
	for one := range strings.Lines(string(text)) {
		l := logLine{watcher: watcher, text: one}
		if json.Unmarshal([]byte(one), &l) == nil {
			lines = append(lines, l)
		}
	}
	return lines
}

// said reports whether a watcher has logged a message since a moment, and the first such line.
func (c *cluster) said(watcher, message string, since time.Time) (logLine, bool) {
	c.t.Helper()
	for _, l := range c.logOf(watcher) {
		if !l.Time.Before(since) && strings.Contains(l.Message, message) {
			return l, true
		}
	}
	return logLine{}, false
}

// transcript shows what all watchers logged since a moment, and how their answers changed.
func (c *cluster) transcript(since time.Time, askers ...*asker) {
	type row struct {
		at   time.Time
		text string
	}
	var rows []row
	for _, name := range names {
		for _, l := range c.logOf(name) {
			if !l.Time.Before(since) && l.Message != "raft reports" && l.Message != "connection between watchers failed" {
				rows = append(rows, row{l.Time, name + " " + tell(l.text)})
			}
		}
	}
	for _, a := range askers {
		_, _, _, turns := a.snapshot()
		for _, t := range turns {
			if !t.at.Before(since) {
				rows = append(rows, row{t.at, fmt.Sprintf("   %s asks %s: %s ttl %d extended error %d", a.from, a.watcher, t.address, t.ttl, t.ede)})
			}
		}
	}
	slices.SortStableFunc(rows, func(a, b row) int { return a.at.Compare(b.at) })
	var b strings.Builder
	for _, r := range rows {
		fmt.Fprintf(&b, "%+7.2f s %s\n", r.at.Sub(since).Seconds(), r.text)
	}
	c.t.Logf("what was logged and answered:\n%s", b.String())
}

// tell is a line of the log in short: its message, then its data in order of their keys.
func tell(line string) string {
	var fields map[string]any
	if json.Unmarshal([]byte(line), &fields) != nil {
		return line
	}
	text := fmt.Sprint(fields["message"])
	for _, known := range []string{"message", "time", "level", "component", "watcher", "group", "seq"} {
		delete(fields, known)
	}
	var keys []string
	for key := range fields {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		text += fmt.Sprintf(" %s=%v", key, fields[key])
	}
	return text
}
