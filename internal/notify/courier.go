package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// courier brings one target everything that it has not been told, one event after the other, and ends when there is no
// more. All its fields belong to the goroutine of run.
type courier struct {
	n       *Notifier
	journal Journal
	place   place
	action  failover.Action
	log     zerolog.Logger

	brought uint64 // seq of the last event that arrived; its entry may have been lost
	pause   time.Duration
	failing time.Time // since when attempts fail; zero: they do not
	failed  int       // attempts in a row
}

func newCourier(n *Notifier, j Journal, p place, a failover.Action) *courier {
	return &courier{n: n, journal: j, place: p, action: a, log: n.o.Log.With().Str("group", p.group).Str("target", label(a)).Logger()}
}

// label names a target for people: by the file, variable or program that the policy names, never by what is in it.
func label(a failover.Action) string {
	if a.Webhook != nil {
		return "webhook " + cmp.Or(a.Webhook.URLFile, string(a.Webhook.URLEnv))
	}
	if len(a.Exec) > 0 {
		return "exec " + a.Exec[0]
	}
	return "none"
}

func (c *courier) run(ctx context.Context) {
	for ctx.Err() == nil {
		notice, ok := c.journal.State().NextNotice(c.place.group, c.place.target)
		if !ok {
			return
		}
		if notice.Seq != c.brought && !c.bring(ctx, notice) || !c.commit(ctx, notice) {
			wait(ctx, c.nextPause())
			continue
		}
		c.pause = 0
	}
}

func (c *courier) nextPause() time.Duration {
	c.pause = min(max(firstPause, 2*c.pause), longestPause)
	return c.pause
}

// bring makes one attempt to tell the target.
func (c *courier) bring(ctx context.Context, notice failover.Notice) bool {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	deadline, _ := ctx.Deadline()
	m, err := newMessage(notice, c.n.o.Watcher, c.place.group, c.failed+1, deadline)
	if err == nil {
		err = c.n.tell(ctx, c.action, m)
	}
	switch {
	case err == nil:
		c.noteSuccess(notice)
		c.brought = notice.Seq
		return true
	case !errors.Is(ctx.Err(), context.Canceled): // else this watcher leads no more, which is no fault of the target's
		c.noteFailure(notice, err)
	}
	return false
}

func (n *Notifier) tell(ctx context.Context, a failover.Action, m *message) error {
	switch {
	case a.Webhook != nil:
		return n.post(ctx, a.Webhook, m)
	case len(a.Exec) > 0:
		return n.exec(ctx, a.Exec, m)
	}
	return errors.New("the target names neither webhook nor exec")
}

// commit has the log note that the target was told, also when leadership is just being handed over: what is not noted is
// told again.
func (c *courier) commit(ctx context.Context, notice failover.Notice) bool {
	longer, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTime)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(farewell, cancel) })
	defer stop()
	told := failover.Told{Group: c.place.group, Target: c.place.target, Seq: notice.Seq, Lost: notice.Lost}
	_, err := c.journal.Propose(longer, failover.Command{By: "watcher:" + c.n.o.Watcher, Told: &told})
	return err == nil // a refusal means that the target is gone, and then nothing is next
}

// noteFailure says once that a target cannot be told, not at each of a night's attempts.
func (c *courier) noteFailure(notice failover.Notice, err error) {
	c.failed++
	line := c.log.Debug()
	if c.failing.IsZero() {
		c.failing = time.Now()
		line = c.log.Warn()
	}
	line.Err(err).Uint64("seq", notice.Seq).Str("event", notice.Type).Int("attempt", c.failed).
		Msg("a notification could not be delivered, it is tried again")
}

func (c *courier) noteSuccess(notice failover.Notice) {
	if !c.failing.IsZero() {
		c.log.Info().Uint64("seq", notice.Seq).Str("event", notice.Type).Int("attempt", c.failed+1).Str("after", time.Since(c.failing).Round(time.Second).String()).
			Msg("notifications are delivered again")
	}
	if notice.Lost > 0 {
		c.log.Warn().Uint64("lost", notice.Lost).Msg("events were dropped before this target could be told")
	}
	c.failing, c.failed = time.Time{}, 0
}

// exitError is how a program said that it could not tell.
func exitError(program string, code int, output []byte) error {
	return fmt.Errorf("%s exited %d%s", program, code, firstLine(output))
}
