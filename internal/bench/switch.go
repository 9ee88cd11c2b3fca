package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// timing is one run: from the fault to all answers, from the quorum's last verdict to all answers.
type timing struct {
	total, after time.Duration
}

func runSwitch(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("switch", flag.ContinueOnError)
	runs := flags.Int("runs", 20, "how often")
	fault := flags.String("fault", "kill", "kill (SIGKILL) or freeze (SIGSTOP) the main app")
	database := flags.Bool("database", false, "all eight steps, with exec databases, instead of the four without")
	trace := flags.Bool("trace", false, "of every run, print what the watchers logged after the quorum's last verdict")
	if err := flags.Parse(args); err != nil {
		return err
	}
	signal := map[string]syscall.Signal{"kill": syscall.SIGKILL, "freeze": syscall.SIGSTOP}[*fault]
	if signal == 0 {
		return fmt.Errorf("there is no fault %q; say kill or freeze", *fault)
	}
	bin, err := os.MkdirTemp("", "watchover-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(bin)
	if err := build(ctx, bin+string(filepath.Separator)); err != nil {
		return err
	}
	var totals, afters []time.Duration
	for run := range *runs {
		t, err := switchOnce(ctx, bin, signal, *database, *trace)
		if err != nil {
			return fmt.Errorf("run %d: %w", run+1, err)
		}
		fmt.Printf("run %2d  all three answer after %8s  of that after the quorum's last verdict %8s\n", run+1, ms(t.total), ms(t.after))
		totals, afters = append(totals, t.total), append(afters, t.after)
	}
	fmt.Printf("%s, %d runs: total median %s, max %s; after the last verdict median %s, max %s\n",
		*fault, *runs, ms(median(totals)), ms(slices.Max(totals)), ms(median(afters)), ms(slices.Max(afters)))
	return nil
}

func switchOnce(ctx context.Context, bin string, signal syscall.Signal, database, trace bool) (timing, error) {
	dir, err := os.MkdirTemp("", "watchover-run-")
	if err != nil {
		return timing{}, err
	}
	l := &lab{dir: dir, database: database}
	defer l.stop()
	if err := l.start(bin); err != nil {
		return timing{}, err
	}
	if err := l.awaitArmed(ctx); err != nil {
		return timing{}, fmt.Errorf("%w; the first watcher says: %s", err, l.watchers[0].log.tail(2000))
	}
	// A moment at random within the probes' interval, so that the fault meets every phase.
	select {
	case <-ctx.Done():
		return timing{}, ctx.Err()
	case <-time.After(time.Duration(time.Now().UnixNano() % int64(time.Second))):
	}
	began := time.Now()
	if err := l.apps["main"].Process.Signal(signal); err != nil {
		return timing{}, err
	}
	last, err := l.awaitAnswers(ctx, "192.0.2.11")
	if err != nil {
		return timing{}, err
	}
	verdict, err := l.quorumVerdict(began)
	if err != nil {
		return timing{}, err
	}
	if trace {
		l.trace(verdict, last)
	}
	return timing{total: last.Sub(began), after: last.Sub(verdict)}, nil
}

// trace prints what all watchers logged between two moments, in order: where the time went.
func (l *lab) trace(from, to time.Time) {
	type entry struct {
		watcher int
		line    logLine
	}
	var all []entry
	for i, w := range l.watchers {
		for _, line := range w.log.lines() {
			if !line.Time.Before(from) && !line.Time.After(to) {
				all = append(all, entry{i + 1, line})
			}
		}
	}
	slices.SortFunc(all, func(a, b entry) int { return a.line.Time.Compare(b.line.Time) })
	for _, e := range all {
		fmt.Printf("  %+8s  w%d %-10s %s %s\n", ms(e.line.Time.Sub(from)), e.watcher, e.line.Part, e.line.Event, e.line.Message)
	}
}

// awaitAnswers asks every watcher over UDP, each in its own loop, and returns when the last of them first said want.
func (l *lab) awaitAnswers(ctx context.Context, want string) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	times := make([]time.Time, len(l.dns))
	var asking sync.WaitGroup
	for i, server := range l.dns {
		asking.Go(func() {
			query := new(dns.Msg).SetQuestion("shop.ha.example.com.", dns.TypeA)
			c := dns.Client{Timeout: 200 * time.Millisecond}
			conn, err := c.Dial(server) // one socket for all queries: the asking must not use up the processors
			if err != nil {
				return
			}
			defer conn.Close()
			for ctx.Err() == nil {
				query.Id = dns.Id()
				reply, _, err := c.ExchangeWithConnContext(ctx, query, conn)
				if err == nil && len(reply.Answer) == 1 {
					if a, ok := reply.Answer[0].(*dns.A); ok && a.A.String() == want {
						times[i] = time.Now()
						return
					}
				}
				select {
				case <-ctx.Done():
				case <-time.After(time.Millisecond):
				}
			}
		})
	}
	asking.Wait()
	if slices.ContainsFunc(times, time.Time.IsZero) {
		return time.Time{}, fmt.Errorf("not every watcher answered %s: %v", want, times)
	}
	return slices.MaxFunc(times, time.Time.Compare), nil
}

// quorumVerdict is when the second of the three watchers itself found main down.
func (l *lab) quorumVerdict(began time.Time) (time.Time, error) {
	var times []time.Time
	for _, w := range l.watchers {
		for _, line := range w.log.lines() {
			if line.Part == "probe" && line.App == "main" && line.Verdict == "down" && line.Time.After(began) {
				times = append(times, line.Time)
				break
			}
		}
	}
	if len(times) < 2 {
		return time.Time{}, fmt.Errorf("only %d watchers logged main down", len(times))
	}
	slices.SortFunc(times, time.Time.Compare)
	return times[1], nil
}

func median(list []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(list))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond)) }
