package sim

import (
	"cmp"
	"container/heap"
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"testing/synctest"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// world is one run. All of it belongs to the driver, the goroutine that runs it, but for what mu guards.
type world struct {
	script     *Script
	began      time.Time
	ahead      time.Duration // now
	called     time.Duration // when a runner last wanted something
	leads      []*lead
	queue      queue
	seq        int
	rolls      map[string]uint64
	seed       uint64
	watchers   []*watcher
	apps       []*app
	clients    []*client
	cut        map[[2]string]int // from, to: how many faults keep words from getting there
	log        *ledger
	story      *story
	faults     map[string][]*fault // by app and verb
	traps      []*trap
	pace       time.Duration // how long programs take at most
	active     []*program
	healed     bool
	broken     *Violation
	joined     uint64 // the last change of the members whose watcher was started
	orders     int
	clockMoved bool            // of some watcher
	saved      *failover.State // what a snapshot was made of
	stats      Stats

	mu       sync.Mutex // guards what follows
	incoming []*call
	wakeup   chan struct{} // one slot: the driver has to look
}

// Stats is what a run came to, for the record.
type Stats struct {
	Simulated time.Duration
	Entries   int
	Programs  int
}

// Violation is a guarantee that was seen broken.
type Violation struct {
	Rule   string // its short name
	Detail string
	At     time.Duration
}

func (v *Violation) Error() string { return fmt.Sprintf("%s at %s: %s", v.Rule, v.At, v.Detail) }

// newWorld is called in the bubble that it is to run in.
func newWorld(s *Script, tell bool) *world {
	w := &world{script: s, began: time.Now(), rolls: map[string]uint64{}, cut: map[[2]string]int{}, faults: map[string][]*fault{},
		wakeup: make(chan struct{}, 1), seed: uint64(s.number("seed")), story: &story{on: tell}}
	w.pace = max(s.duration("pace"), time.Millisecond)
	w.log = newLedger(w)
	for i := range s.number("apps") {
		w.apps = append(w.apps, newApp(w, appNames[i], appNames[i] == s.get("primary")))
	}
	w.apps[0].byHand = w.apps[0].closed // the watchers take it for the active one, and leave it as it was
	if first := w.app(s.get("primary")); first != nil && first.db != nil {
		for _, a := range w.apps {
			a.db.from = first.db
		}
		first.db.from = nil
	}
	for i := range s.number("watchers") {
		w.watchers = append(w.watchers, newWatcher(w, fmt.Sprintf("w%d", i+1)))
	}
	for i := range 2 {
		w.clients = append(w.clients, newClient(w, fmt.Sprintf("c%d", i+1)))
	}
	return w
}

// run plays the script to its end and the rest after it, or to the first violation.
func (w *world) run() {
	for _, n := range w.watchers {
		n.start()
	}
	for _, c := range w.clients {
		c.start()
	}
	w.restream()
	for _, e := range w.script.Events {
		w.at(e.At, func() { w.perform(e) })
	}
	end := w.script.duration("end")
	w.at(end, w.heal)
	w.after(w.delay("tick", tickEvery), w.tick)
	w.drive(end + w.rest())
	if w.broken == nil {
		w.checkRest()
	}
	w.stats.Simulated = w.now()
	w.close()
}

// now is the driver's time. It may be ahead of the bubble's as long as no goroutine waits for a moment in between; see quiet.
func (w *world) now() time.Duration { return w.ahead }

func (w *world) moment() time.Time { return w.began.Add(w.ahead) }

// quiet reports whether no runner has anything to do or to wait for, so that the world may go on without it. What a runner
// waits for by itself when there is nothing to do any more, such as to tell an outcome again, comes within calmAfter.
func (w *world) quiet() bool {
	if w.now()-w.called < calmAfter || len(w.active) > 0 {
		return false
	}
	w.leads = slices.DeleteFunc(w.leads, func(l *lead) bool { return isClosed(l.done) })
	for _, l := range w.leads {
		if l.reign.stopped || l.life.n.life != l.life || !l.life.atRest {
			return false
		}
	}
	return true
}

const calmAfter = 5 * time.Second

// meet lets the bubble's time come up to the driver's, before a runner is told anything.
func (w *world) meet() {
	if wait := w.ahead - time.Since(w.began); wait > 0 {
		time.Sleep(wait)
	}
}

// lead is one run of a runner's Lead.
type lead struct {
	life  *life
	reign *reign
	done  chan struct{}
}

// at plans something. A few nanoseconds that differ keep it apart from whatever else happens then.
func (w *world) at(when time.Duration, f func()) {
	w.seq++
	heap.Push(&w.queue, &plan{at: when + time.Duration(w.roll("moment", 997)), seq: w.seq, f: f})
}

func (w *world) after(d time.Duration, f func()) { w.at(w.now()+d, f) }

// drive does what is planned, each at its time, until the end.
func (w *world) drive(end time.Duration) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for w.broken == nil {
		if !w.quiet() {
			w.settle()
		}
		if w.broken != nil || len(w.queue) == 0 || w.queue[0].at > end {
			return
		}
		if w.quiet() {
			w.ahead = max(w.ahead, w.queue[0].at)
			heap.Pop(&w.queue).(*plan).f()
			continue
		}
		w.meet()
		if wait := w.queue[0].at - w.ahead; wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-w.wakeup:
				w.ahead = max(w.ahead, time.Since(w.began))
				continue
			}
			w.ahead = max(w.ahead, time.Since(w.began))
		}
		w.settle()
		heap.Pop(&w.queue).(*plan).f()
	}
}

// settle answers calls until every goroutine is quiet and waits for nothing but time or the driver.
func (w *world) settle() {
	for w.broken == nil {
		synctest.Wait()
		w.killCancelled()
		w.mu.Lock()
		calls := w.incoming
		w.incoming = nil
		w.mu.Unlock()
		if len(calls) == 0 {
			return
		}
		slices.SortStableFunc(calls, func(a, b *call) int { return cmp.Compare(a.key, b.key) })
		w.called = w.now()
		for _, c := range calls {
			w.take(c)
		}
	}
}

// wake has the driver look; anybody may call it.
func (w *world) wake() {
	select {
	case w.wakeup <- struct{}{}:
	default:
	}
}

// roll is a number below n. Each label has a sequence of its own, so that a change in one place leaves the others.
func (w *world) roll(label string, n int) int {
	w.rolls[label]++
	h := fnv.New64a()
	h.Write([]byte(label))
	x := h.Sum64() ^ w.seed*0x9e3779b97f4a7c15 ^ w.rolls[label]*0xbf58476d1ce4e5b9
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	x ^= x >> 31
	return int(x % uint64(n))
}

// delay is between most/10 and most.
func (w *world) delay(label string, most time.Duration) time.Duration {
	return most/10 + time.Duration(w.roll(label, int(most-most/10)))
}

// violate notes the first guarantee that is broken, and ends the run.
func (w *world) violate(rule, format string, args ...any) {
	if w.broken == nil {
		w.broken = &Violation{Rule: rule, Detail: fmt.Sprintf(format, args...), At: w.now()}
		w.tell("VIOLATION of %s: %s", rule, w.broken.Detail)
	}
}

// close ends every process and waits until nothing of them runs any more.
func (w *world) close() {
	w.broken, w.queue = cmp.Or(w.broken, &Violation{Rule: ""}), nil
	for _, n := range w.watchers {
		n.die()
	}
	w.refuseAll()
	for _, n := range w.watchers {
		for _, done := range n.leads {
			<-done
		}
	}
	synctest.Wait()
	if w.broken.Rule == "" {
		w.broken = nil
	}
}

// refuseAll answers what is left of calls when the run is over.
func (w *world) refuseAll() {
	for {
		synctest.Wait()
		w.mu.Lock()
		calls := w.incoming
		w.incoming = nil
		w.mu.Unlock()
		if len(calls) == 0 {
			return
		}
		for _, c := range calls {
			w.resume(c, reply{code: -1, err: errKilled})
		}
	}
}

func (w *world) watcher(name string) *watcher {
	for _, n := range w.watchers {
		if n.name == name {
			return n
		}
	}
	return nil
}

func (w *world) app(name string) *app {
	for _, a := range w.apps {
		if a.name == name {
			return a
		}
	}
	return nil
}

// reaches reports whether words get from one place to another now.
func (w *world) reaches(from, to string) bool { return w.cut[[2]string{from, to}] == 0 }

func (w *world) bothWays(a, b string) bool { return w.reaches(a, b) && w.reaches(b, a) }

// plan is something that is going to happen.
type plan struct {
	at  time.Duration
	seq int
	f   func()
}

type queue []*plan

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(*plan)) }
func (q *queue) Pop() any {
	old := *q
	last := old[len(old)-1]
	*q = old[:len(old)-1]
	return last
}
