package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"github.com/watchover-ha/watchover/internal/dbtest"
	"github.com/watchover-ha/watchover/pkg/client"
)

// move is one run: how long nothing was written, and what became of what was.
type move struct {
	gap, detection time.Duration
	acked, lost    int
	lostFor        time.Duration // from the first lost acknowledged write to the fault
	atRisk         *float64      // seconds, as the journal says
	steps          string
}

// server is one of a pair, whatever its kind.
type server interface {
	DSN() string
	PasswordFile(dbtest.TB) string
	Kill()
	Stored(dbtest.TB) map[int64]bool
}

// kind is a kind of database: how a pair of it is made, and how a client writes to it.
type kind struct {
	pair    func(t dbtest.TB, fsync bool) (primary, replica server, clients [2]string)
	session func(context.Context, string) (dbtest.Session, error)
	hand    func(t dbtest.TB, primary, replica server) // the least that moves the role, without watchers; nil: not written
}

var kinds = map[string]kind{
	"postgres": {func(t dbtest.TB, fsync bool) (server, server, [2]string) {
		var settings []string
		if fsync {
			settings = append(settings, "fsync = on")
		}
		a, b := dbtest.NewPostgresPair(t, settings...)
		return a, b, [2]string{a.AppDSN(), b.AppDSN()}
	}, dbtest.PostgresSession, func(t dbtest.TB, primary, replica server) {
		super := replica.(*dbtest.Postgres).Super(t, "postgres")
		primary.(*dbtest.Postgres).Stop(t)
		if _, err := super.Exec(context.Background(), "SELECT pg_promote()"); err != nil {
			t.Fatalf("cannot promote: %v", err)
		}
	}},
	"mysql": {func(t dbtest.TB, fsync bool) (server, server, [2]string) {
		var options []string
		if fsync {
			options = append(options, "--sync-binlog=1", "--innodb-flush-log-at-trx-commit=1")
		}
		a, b := dbtest.NewMariaDBPair(t, options...)
		return a, b, [2]string{a.AppDSN(), b.AppDSN()}
	}, dbtest.MariaDBSession, nil},
	"redis": {func(t dbtest.TB, fsync bool) (server, server, [2]string) {
		var lines []string
		if fsync {
			lines = append(lines, "appendfsync always")
		}
		a, b := dbtest.NewRedisPair(t, lines...)
		return a, b, [2]string{a.Address(), b.Address()}
	}, dbtest.RedisSession, nil},
}

func runDatabase(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("database", flag.ContinueOnError)
	of := flags.String("kind", "postgres", "postgres, mysql (MariaDB) or redis")
	runs := flags.Int("runs", 20, "how often")
	fault := flags.String("fault", "none", "none (a planned switchover) or kill (SIGKILL to the main app and its database)")
	fsync := flags.Bool("fsync", true, "let the databases wait for the disk at each write")
	by := flags.String("by", "watchover", "watchover or hand (stop the primary, promote the replica, no watchers: the baseline; postgres only)")
	trace := flags.Bool("trace", false, "of every run, print the steps of the switchover")
	if err := flags.Parse(args); err != nil {
		return err
	}
	k, ok := kinds[*of]
	if !ok {
		return fmt.Errorf("there is no kind %q; say postgres, mysql or redis", *of)
	}
	if *fault != "none" && *fault != "kill" {
		return fmt.Errorf("there is no fault %q; say none or kill", *fault)
	}
	if *by != "watchover" && (*by != "hand" || k.hand == nil || *fault != "none") {
		return fmt.Errorf("by %q is not written for kind %s and fault %s; say watchover", *by, *of, *fault)
	}
	bin, err := os.MkdirTemp("", "watchover-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(bin)
	defer dbtest.Sweep()
	if err := build(ctx, bin+string(filepath.Separator)); err != nil {
		return err
	}
	var moves []move
	for run := range *runs {
		once := func(s *scene) (move, error) { return moveOnce(ctx, s, bin, *of, k, *fault == "kill", *fsync) }
		if *by == "hand" {
			once = func(s *scene) (move, error) { return moveByHand(ctx, s, k, *fsync) }
		}
		m, err := played(once)
		if err != nil {
			return fmt.Errorf("run %d: %w", run+1, err)
		}
		fmt.Printf("run %2d  %s\n", run+1, m.line(*fault == "kill"))
		if *trace {
			fmt.Print(m.steps)
		}
		moves = append(moves, m)
	}
	summary(moves, *fault == "kill")
	return nil
}

func (m move) line(killed bool) string {
	text := fmt.Sprintf("longest gap %9s  %d acknowledged, %d lost", ms(m.gap), m.acked, m.lost)
	if killed {
		text += fmt.Sprintf("  of the gap %9s after the quorum's last verdict  lost %s, at risk %s", ms(m.gap-m.detection), ms(m.lostFor), risk(m.atRisk))
	}
	return text
}

func risk(seconds *float64) string {
	if seconds == nil {
		return "unknown"
	}
	return ms(time.Duration(*seconds * float64(time.Second)))
}

func summary(moves []move, killed bool) {
	var gaps, after []time.Duration
	lost, understated := 0, 0
	for _, m := range moves {
		gaps, after = append(gaps, m.gap), append(after, m.gap-m.detection)
		lost += m.lost
		if m.lost > 0 && (m.atRisk == nil || *m.atRisk < m.lostFor.Seconds()) {
			understated++
		}
	}
	fmt.Printf("%d runs: longest gap between acknowledged writes median %s, max %s; acknowledged writes lost %d\n", len(moves), ms(median(gaps)), ms(slices.Max(gaps)), lost)
	if killed {
		fmt.Printf("after the quorum's last verdict: median %s, max %s; seconds at risk below what was lost in %d runs\n", ms(median(after)), ms(slices.Max(after)), understated)
	}
}

// scene stands in for a test in internal/dbtest.
type scene struct {
	cleanups []func()
	failed   bool
}

type sceneFailure struct{ error }

func (s *scene) Helper()             {}
func (s *scene) Failed() bool        { return s.failed }
func (s *scene) Cleanup(f func())    { s.cleanups = append(s.cleanups, f) }
func (s *scene) Logf(string, ...any) {}
func (s *scene) Fatalf(format string, args ...any) {
	s.failed = true
	panic(sceneFailure{fmt.Errorf(format, args...)})
}

func (s *scene) end() {
	for _, f := range slices.Backward(s.cleanups) {
		f()
	}
}

// played runs one move and takes down what it set up.
func played(run func(*scene) (move, error)) (m move, err error) {
	s := &scene{}
	defer s.end()
	defer func() {
		if failure, ok := recover().(sceneFailure); ok {
			err = failure.error
		}
	}()
	return run(s)
}

func moveOnce(ctx context.Context, s *scene, bin, of string, k kind, kill, fsync bool) (m move, err error) {
	main, standby, clients := k.pair(s, fsync)
	dir, err := os.MkdirTemp("", "watchover-run-")
	if err != nil {
		return m, err
	}
	l := &lab{dir: dir, servers: map[string]string{"main": serverLines(s, of, main), "standby": serverLines(s, of, standby)}}
	s.Cleanup(l.stop)
	if err := l.start(bin); err != nil {
		return m, err
	}
	if err := l.awaitReady(ctx); err != nil {
		return m, fmt.Errorf("%w; the first watcher says: %s", err, l.watchers[0].log.tail(2000))
	}
	servers := map[string]string{"192.0.2.10": clients[0], "192.0.2.11": clients[1]}
	w, err := startWriter(ctx, s, k, func() string { return servers[l.record()] }, clients[1])
	if err != nil {
		return m, err
	}
	began := time.Now()
	if kill {
		_ = l.apps["main"].Process.Signal(syscall.SIGKILL)
		main.Kill()
	} else if err := l.switchover(ctx); err != nil {
		return m, err
	}
	if err := awaitWrites(ctx, w, clients[1]); err != nil {
		return m, fmt.Errorf("%w; the first watcher says: %s", err, l.watchers[0].log.tail(3000))
	}
	return l.judge(ctx, w.Acks(), standby.Stored(s), began, kill)
}

// moveByHand is the baseline: the client is told the new server in the moment in which it has been promoted.
func moveByHand(ctx context.Context, s *scene, k kind, fsync bool) (m move, err error) {
	main, standby, clients := k.pair(s, fsync)
	var moved atomic.Bool
	w, err := startWriter(ctx, s, k, func() string {
		if moved.Load() {
			return clients[1]
		}
		return clients[0]
	}, clients[1])
	if err != nil {
		return m, err
	}
	k.hand(s, main, standby)
	moved.Store(true)
	if err := awaitWrites(ctx, w, clients[1]); err != nil {
		return m, err
	}
	acks := w.Acks()
	m.acked, m.lost = len(acks), len(dbtest.Lost(acks, standby.Stored(s)))
	m.gap, _ = dbtest.Gap(acks)
	return m, nil
}

// startWriter starts the client and returns at a moment at random after its first writes. Before that the standby app, as any
// that is in maintenance and runs, has a session with its own database, so that the server has read its catalogs.
func startWriter(ctx context.Context, s *scene, k kind, where func() string, standby string) (*dbtest.Writer, error) {
	session, err := k.session(ctx, standby)
	if err != nil {
		return nil, err
	}
	s.Cleanup(session.Close)
	w := dbtest.StartWriter(where, k.session)
	s.Cleanup(w.Stop)
	if err := poll(ctx, 10*time.Second, "the client to write", func() bool { return len(w.Acks()) > 200 }); err != nil {
		return nil, err
	}
	pause := time.Duration(time.Now().UnixNano() % int64(time.Second))
	return w, poll(ctx, 10*time.Second, "a moment at random", func() bool { pause -= 20 * time.Millisecond; return pause < 0 })
}

// awaitWrites waits until the client writes to a server, then stops it.
func awaitWrites(ctx context.Context, w *dbtest.Writer, server string) error {
	defer w.Stop()
	return poll(ctx, time.Minute, "writes to the standby", func() bool {
		acks := w.Acks()
		return acks[len(acks)-1].Server == server && len(acks) > 20 && acks[len(acks)-20].Server == server
	})
}

func serverLines(s *scene, kind string, db server) string {
	return fmt.Sprintf("{kind: %s, dsn: %q, password_file: %s}", kind, db.DSN(), db.PasswordFile(s))
}

func (l *lab) switchover(ctx context.Context) error {
	_, err := l.sockets[1].Switchover(ctx, "shop", client.SwitchoverRequest{})
	return err
}

func (l *lab) judge(ctx context.Context, acks []dbtest.Ack, stored map[int64]bool, began time.Time, kill bool) (m move, err error) {
	m.acked = len(acks)
	m.gap, _ = dbtest.Gap(acks)
	lost := dbtest.Lost(acks, stored)
	if m.lost = len(lost); m.lost > 0 {
		m.lostFor = max(0, began.Sub(lost[0].At))
	}
	if kill {
		verdict, err := l.quorumVerdict(began)
		if err != nil {
			return m, err
		}
		m.detection = verdict.Sub(began)
	}
	history, err := l.sockets[0].History(ctx, "shop", 1)
	if err != nil {
		return m, err
	}
	if len(history.Switchovers) == 0 {
		s, err := l.sockets[0].Status(ctx)
		if err != nil || s.Groups[0].Switchover == nil {
			return m, errors.Join(err, errors.New("there is no switchover"))
		}
		history.Switchovers = []client.Switchover{*s.Groups[0].Switchover}
	}
	o := history.Switchovers[0]
	m.atRisk = o.AtRisk.Seconds
	var b strings.Builder
	for _, step := range o.Steps {
		if step.StartedAt != nil && step.EndedAt != nil {
			fmt.Fprintf(&b, "  %9s  %-17s %-8s %9s  %s %s\n", ms(step.StartedAt.Sub(began)), step.Name, step.State, ms(step.EndedAt.Sub(step.StartedAt.Time)), step.Output, step.Error)
		}
	}
	m.steps = b.String()
	return m, nil
}

// awaitReady waits until the standby could take over, as every watcher sees it.
func (l *lab) awaitReady(ctx context.Context) error {
	if err := l.awaitArmed(ctx); err != nil {
		return err
	}
	return poll(ctx, 30*time.Second, "the standby to be ready", func() bool {
		for _, socket := range l.sockets {
			s, err := socket.Status(ctx)
			if err != nil || len(s.Groups) != 1 || !s.Groups[0].Apps[1].Ready {
				return false
			}
		}
		return true
	})
}

// record is what the first watcher's name server answers.
func (l *lab) record() string {
	query := new(dns.Msg).SetQuestion("shop.ha.example.com.", dns.TypeA)
	reply, _, err := (&dns.Client{Timeout: 500 * time.Millisecond}).Exchange(query, l.dns[0])
	if err != nil || len(reply.Answer) != 1 {
		return ""
	}
	if a, ok := reply.Answer[0].(*dns.A); ok {
		return a.A.String()
	}
	return ""
}
