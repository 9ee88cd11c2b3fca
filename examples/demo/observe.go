package main

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/miekg/dns"

	"github.com/watchover-ha/watchover/pkg/client"
)

// How often the observers look, during the show and after it.
const (
	dnsPace     = 5 * time.Millisecond
	shopPace    = 50 * time.Millisecond
	idlePace    = 500 * time.Millisecond
	socketRetry = 100 * time.Millisecond
	dnsTimeout  = 300 * time.Millisecond
)

// pause waits, and tells whether to go on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// pace is how long an observer rests.
func (b *board) pace(show time.Duration) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.now.idle {
		return max(show, idlePace)
	}
	return show
}

// logLine is what the demo reads of a watcher's log: what happens inside that one watcher, which no other can know.
type logLine struct {
	Time    time.Time `json:"time"`
	Message string    `json:"message"`
	Part    string    `json:"part"`
	App     string    `json:"app"`
	Event   string    `json:"event"`
	Verdict string    `json:"verdict"`
}

// readLog takes one line of watcher i's log. Events are those of the replicated state: the first watcher that tells of
// one has applied it first.
func (b *board) readLog(i int, text []byte) {
	var line logLine
	if json.Unmarshal(text, &line) != nil {
		return // a stack trace, for instance; it is in the error message if the watcher ends
	}
	b.update(func(s *scene) {
		w, main := &s.watchers[i], s.shops[0].name
		afterKill := !s.killed.IsZero() && line.Time.After(s.killed)
		switch {
		case line.Part == "probe" && line.App == main && line.Message == "verdict changed":
			w.verdict = line.Verdict
			if line.Verdict == "down" && afterKill && w.down.IsZero() {
				w.down = line.Time
			}
		case line.Part == "probe" && line.App == main && line.Message == "first failure" && afterKill && w.failed.IsZero():
			w.failed = line.Time
		case line.Event == "switchover_opened" && afterKill:
			earliest(&s.opened, line.Time)
		case line.Event == "record_switched" && afterKill:
			earliest(&s.switched, line.Time)
		case line.Event == "switchover_ended" && afterKill:
			earliest(&s.ended, line.Time)
		}
	})
}

func earliest(at *time.Time, found time.Time) {
	if at.IsZero() || found.Before(*at) {
		*at = found
	}
}

// watchSocket follows watcher i's state through its socket until the context ends.
func (b *board) watchSocket(ctx context.Context, i int, api *client.Client) {
	defer api.Close()
	index := uint64(0)
	for ctx.Err() == nil {
		status, err := api.StatusAfter(ctx, index)
		if err != nil || len(status.Groups) == 0 {
			b.update(func(s *scene) { s.watchers[i].leader, s.watchers[i].ready = false, false })
			pause(ctx, socketRetry)
			continue
		}
		index = status.Index
		b.update(func(s *scene) { s.readStatus(i, status) })
	}
}

func (s *scene) readStatus(i int, status *client.Status) {
	g, w := &status.Groups[0], &s.watchers[i]
	w.leader = status.Cluster.Leader != nil && *status.Cluster.Leader == w.name
	w.ready = g.Automation.Armed && status.Cluster.HasQuorum && allReady(g)
	run := g.Switchover
	if run == nil {
		run = g.LastSwitchover
	}
	if run == nil || status.Index < s.index || s.idle {
		return
	}
	s.index = status.Index
	s.readRun(run)
}

// readRun shows a switchover's steps and result.
func (s *scene) readRun(run *client.Switchover) {
	s.result = run.Result
	for i, step := range run.Steps {
		if i < len(s.steps) {
			s.steps[i] = stepView{name: step.Name, app: step.App, state: step.State, started: at(step.StartedAt), ended: at(step.EndedAt)}
		}
	}
}

func at(t *client.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.Time
}

// allReady: every watcher finds every app up, and whoever is not active could take over now.
func allReady(g *client.Group) bool {
	for _, a := range g.Apps {
		if a.Health != "up" || !a.Ready || len(a.Verdicts) < watcherMany {
			return false
		}
		for _, v := range a.Verdicts {
			if v.Verdict != "up" || !v.Fresh {
				return false
			}
		}
	}
	return true
}

// watchDNS asks watcher i for the group's record over UDP, again and again until the context ends.
func (b *board) watchDNS(ctx context.Context, i int, server string) {
	heard, heardTTL := "", uint32(0)
	for ctx.Err() == nil {
		answer, ttl, err := lookUp(ctx, server)
		now := time.Now()
		if err != nil {
			answer, ttl = "", 0
		}
		if answer != heard || ttl != heardTTL {
			b.update(func(s *scene) {
				w := &s.watchers[i]
				if w.ttl = ttl; answer != heard {
					w.answer, w.answering = answer, now
				}
			})
			heard, heardTTL = answer, ttl
		}
		pause(ctx, b.pace(dnsPace))
	}
}

// lookUp asks one watcher where the group is.
func lookUp(ctx context.Context, server string) (address string, ttl uint32, err error) {
	question := new(dns.Msg)
	question.SetQuestion(recordName, dns.TypeA)
	c := dns.Client{Timeout: dnsTimeout}
	reply, _, err := c.ExchangeContext(ctx, question, server)
	if err != nil {
		return "", 0, err
	}
	for _, record := range reply.Answer {
		if a, ok := record.(*dns.A); ok {
			return a.A.String(), a.Hdr.Ttl, nil
		}
	}
	return "", 0, errors.New("no address in the answer: " + dns.RcodeToString[reply.Rcode])
}

// watchShop asks shop i how it is until the context ends.
func (b *board) watchShop(ctx context.Context, i int, shop *shop) {
	for ctx.Err() == nil {
		c, err := shop.condition(ctx)
		if ctx.Err() != nil {
			return
		}
		b.update(func(s *scene) {
			v := &s.shops[i]
			if v.reachable = err == nil; v.reachable {
				v.condition = c
			}
		})
		pause(ctx, b.pace(shopPace))
	}
}
