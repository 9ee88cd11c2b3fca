package main

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/pkg/client"
	"github.com/watchover-ha/watchover/pkg/failover"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// golden compares text with testdata/name.
func golden(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("%s differs (go test -rewrite writes it anew); got\n%s\nwant\n%s", path, text, want)
	}
}

func render(rows []row, width int) string {
	var b strings.Builder
	for _, r := range rows {
		b.WriteString(r.render(width, false) + "\n")
	}
	return b.String()
}

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func ms(n int) time.Time { return noon.Add(time.Duration(n) * time.Millisecond) }

// calm is a scene before the kill, switching one in the middle of the steps, served one after them.
func calm() scene {
	s := scene{
		act:      "a customer orders",
		shops:    []shopView{{"main", mainAddress, true, condition{true, "primary", false, 41}}, {"standby", nextAddress, true, condition{false, "replica", false, 41}}},
		customer: customerView{taken: 41, at: mainAddress, last: ms(-5), marks: []bool{true, true, true}},
	}
	for _, name := range []string{"w1", "w2", "w3"} {
		s.watchers = append(s.watchers, watcherView{name: name, leader: name == "w2", ready: true, verdict: "up", answer: mainAddress, ttl: 300, answering: ms(-900)})
	}
	for _, name := range failover.Plan {
		s.steps = append(s.steps, stepView{name: string(name), state: "pending"})
	}
	return s
}

func switching() scene {
	s := calm()
	s.strike(noon)
	s.act = "main is killed"
	s.shops[0].reachable = false
	s.watchers[0].failed, s.watchers[0].down, s.watchers[0].verdict = ms(12), ms(410), "down"
	s.watchers[1].failed, s.watchers[1].down, s.watchers[1].verdict = ms(9), ms(402), "down"
	s.watchers[2].failed, s.watchers[2].verdict = ms(180), "unknown"
	s.opened, s.result = ms(418), "running"
	s.customer.refused, s.customer.marks = 20, append(s.customer.marks, make([]bool, 20)...)
	for i := range s.steps {
		s.steps[i].app = "standby"
	}
	s.steps[0] = stepView{"maintenance-on", "main", "marked", ms(420), ms(432)}
	s.steps[1] = stepView{"freeze", "main", "marked", ms(425), ms(445)}
	s.steps[2].state, s.steps[2].ended = "skipped", ms(445)
	s.steps[3].state, s.steps[3].started = "running", ms(450)
	return s
}

func served() scene {
	s := switching()
	s.act = "standby is the shop now"
	s.shops[1].condition = condition{true, "primary", false, 49}
	for i, name := range []int{475, 500, 510, 511, 550} {
		s.steps[3+i] = stepView{string(failover.Plan[3+i]), "standby", "done", ms(name - 20), ms(name)}
	}
	for i := range s.watchers {
		s.watchers[i].down, s.watchers[i].answer, s.watchers[i].answering = ms(402+4*i), nextAddress, ms(515+i)
	}
	s.switched, s.ended, s.result = ms(511), ms(552), "done"
	s.ordered(ms(530), nextAddress, true)
	s.back = &comeback{answered: ms(2000), closed: ms(2090), frozen: ms(2120)}
	return s
}

func TestFrame(t *testing.T) {
	for name, s := range map[string]scene{"calm": calm(), "switching": switching(), "served": served()} {
		t.Run(name, func(t *testing.T) {
			rows := frame(&s, ms(460), unicodeSigns)
			golden(t, "frame-"+name+".txt", render(rows, frameWidth))
			if len(rows) > frameHeight {
				t.Errorf("the frame has %d lines, which a terminal of 24 cannot redraw", len(rows))
			}
		})
	}
}

func TestTimeline(t *testing.T) {
	whole, half := served(), switching()
	golden(t, "timeline.txt", render(timeline(&whole, 79, unicodeSigns), 79))
	golden(t, "timeline-narrow.txt", render(timeline(&whole, 63, asciiSigns), 200))
	golden(t, "timeline-unfinished.txt", render(timeline(&half, 79, asciiSigns), 79))
}

func TestBarStaysInItsRoom(t *testing.T) {
	for _, test := range []struct {
		name            string
		from, to, whole time.Duration
		want            string
	}{
		{"all", 0, 10, 10, "##########"},
		{"half", 5, 10, 10, "     #####"},
		{"nothing is seen too", 3, 3, 10, "   #"},
		{"at the end", 10, 10, 10, "         #"},
		{"beyond", 12, 15, 10, "         #"},
		{"before", -5, 2, 10, "##"},
		{"no scale", 0, 0, 0, ""},
	} {
		if got := bar(test.from, test.to, test.whole, 10, asciiSigns); got != test.want {
			t.Errorf("%s: bar(%d, %d, %d) = %q, want %q", test.name, test.from, test.to, test.whole, got, test.want)
		}
	}
}

func TestNewsTellsEachThingOnce(t *testing.T) {
	b := board{now: calm(), changed: make(chan struct{})}
	steps := []scene{b.blank(), calm(), switching(), served()}
	var told []string
	for i := range steps[1:] {
		told = append(told, news(&steps[i], &steps[i+1])...)
		if again := news(&steps[i+1], &steps[i+1]); len(again) > 0 {
			t.Errorf("told twice: %q", again)
		}
	}
	golden(t, "news.txt", strings.Join(told, "\n")+"\n")
}

func TestRender(t *testing.T) {
	r := row{{good, "abc"}, {plain, "→de"}, {bad, "f"}}
	for _, test := range []struct {
		width  int
		colour bool
		want   string
	}{
		{10, false, "abc→def"},
		{5, false, "abc→d"},
		{3, true, "\x1b[32mabc\x1b[0m"},
		{10, true, "\x1b[32mabc\x1b[0m→de\x1b[31mf\x1b[0m"},
		{0, true, ""},
	} {
		if got := r.render(test.width, test.colour); got != test.want {
			t.Errorf("render(%d, %t) = %q, want %q", test.width, test.colour, got, test.want)
		}
	}
}

func TestSignsFollowTheLocale(t *testing.T) {
	for _, test := range []struct {
		env  map[string]string
		want signs
	}{
		{nil, asciiSigns},
		{map[string]string{"LANG": "de_DE.UTF-8"}, unicodeSigns},
		{map[string]string{"LANG": "C.utf8"}, unicodeSigns},
		{map[string]string{"LANG": "de_DE.UTF-8", "LC_ALL": "C"}, asciiSigns},
		{map[string]string{"LANG": "C", "LC_CTYPE": "en_US.UTF-8"}, unicodeSigns},
	} {
		if got := signsFor(func(name string) string { return test.env[name] }); got != test.want {
			t.Errorf("signs for %v: %v, want %v", test.env, got, test.want)
		}
	}
}

func TestStageRedrawsInPlace(t *testing.T) {
	var out strings.Builder
	g := stage{out: &out, size: func() (int, int) { return 5, 4 }}
	g.draw([]row{{{plain, "abcdefg"}}, {{plain, "2"}}})
	g.draw([]row{{{plain, "3"}}, nil, nil, nil, nil})
	if want := "\rabcd\x1b[K\n2\x1b[K\n\x1b[J" + "\x1b[2A\r3\x1b[K\n\x1b[K\n\x1b[K\n\x1b[J"; out.String() != want {
		t.Errorf("drawn %q, want %q", out.String(), want)
	}
	if g.fits() {
		t.Error("a frame fits on 5x4")
	}
}

func TestReadLog(t *testing.T) {
	b := board{now: calm(), changed: make(chan struct{})}
	line := func(i, at int, rest string) {
		b.readLog(i, []byte(`{"time":"`+ms(at).Format(time.RFC3339Nano)+`",`+rest+`}`))
	}
	failure, down := `"part":"probe","app":"main","message":"first failure"`, `"part":"probe","app":"main","verdict":"down","message":"verdict changed"`
	line(0, -10, failure) // before the kill: somebody else's
	b.update(func(s *scene) { s.strike(noon) })
	b.readLog(0, []byte("panic: not JSON"))
	line(1, -3, failure) // from before the kill, but read after it
	line(0, 20, `"part":"probe","app":"standby","verdict":"down","message":"verdict changed"`)
	line(0, 30, failure)
	line(0, 35, failure)
	line(1, 25, failure)
	line(0, 100, down)
	line(1, 120, down)
	line(1, 900, down) // again, after the roles changed
	line(2, 118, `"event":"switchover_opened","message":"x"`)
	line(1, 116, `"event":"switchover_opened","message":"x"`)
	s := b.look()
	if who, at := s.firstFailure(); who != "w2" || !at.Equal(ms(25)) {
		t.Errorf("first failure: %s at %v", who, at)
	}
	if !s.watchers[0].failed.Equal(ms(30)) || !s.watchers[0].down.Equal(ms(100)) || !s.watchers[1].down.Equal(ms(120)) {
		t.Errorf("watchers: %+v", s.watchers)
	}
	if !s.majority().Equal(ms(120)) || !s.opened.Equal(ms(116)) {
		t.Errorf("majority at %v, opened at %v", s.majority(), s.opened)
	}
}

func TestReadRunKeepsTheNewestState(t *testing.T) {
	s := calm()
	status := func(index uint64, state string) *client.Status {
		return &client.Status{Index: index, Groups: []client.Group{{Switchover: &client.Switchover{
			Result: "running", Steps: []client.Step{{Name: "maintenance-on", App: "main", State: state}}}}}}
	}
	s.readStatus(0, status(7, "running"))
	s.readStatus(1, status(9, "marked"))
	s.readStatus(2, status(8, "running")) // a watcher that lags behind
	if s.steps[0].state != "marked" {
		t.Errorf("step 1 is %s", s.steps[0].state)
	}
}

func TestAllAnswer(t *testing.T) {
	s := served()
	if at := s.allAnswer(nextAddress); !at.Equal(ms(517)) {
		t.Errorf("all answer since %v", at)
	}
	s.watchers[1].answer = mainAddress
	if at := s.allAnswer(nextAddress); !at.IsZero() {
		t.Errorf("all answer, though one does not, since %v", at)
	}
	if !s.served().IsZero() {
		t.Error("served, though one watcher answers main")
	}
}

func TestCustomerStripStandsStillAfterTheKill(t *testing.T) {
	s := calm()
	for i := range 200 {
		s.ordered(ms(i-300), mainAddress, true)
	}
	s.strike(noon)
	for i := range 200 {
		s.ordered(ms(i), nextAddress, i >= 30)
	}
	if n := len(s.customer.marks); n != marksShown || !s.customer.marks[marksLead-1] || s.customer.marks[marksLead] || !s.customer.marks[marksLead+30] {
		t.Errorf("%d marks: %v", n, s.customer.marks)
	}
	if s.customer.gap != 131*time.Millisecond || !s.customer.again.Equal(ms(30)) || s.customer.refused != 30 {
		t.Errorf("%+v", s.customer)
	}
}

func TestBoardWaits(t *testing.T) {
	b := board{now: calm(), changed: make(chan struct{})}
	done := make(chan bool, 1)
	go func() { done <- b.wait(t.Context(), func(s *scene) bool { return s.idle }) }()
	b.update(func(s *scene) { s.act = "not yet" })
	b.update(func(s *scene) { s.idle = true })
	if !<-done {
		t.Error("the condition came true and was not seen")
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if b.wait(ended, func(*scene) bool { return false }) {
		t.Error("a condition that never holds held")
	}
}

func TestAgreed(t *testing.T) {
	for _, test := range []struct {
		name    string
		answers []string
		want    string
	}{
		{"all", []string{nextAddress, nextAddress, nextAddress}, "shop.ha.example.com. is standby (127.0.0.12)"},
		{"in the middle of a switch", []string{nextAddress, mainAddress, nextAddress}, ""},
		{"one is gone", []string{"", mainAddress, mainAddress}, "shop.ha.example.com. is main (127.0.0.11); silent: w1"},
		{"none", []string{"", "", ""}, "no watcher answers"},
	} {
		s := calm()
		for i, a := range test.answers {
			s.watchers[i].answer = a
		}
		if got := agreed(&s); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
