package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/internal/cluster"
)

const (
	// lookEvery is how often the service manager's view is brought up to date.
	lookEvery = time.Second
	// readyPatience is how long a watcher that takes part in a running cluster may take to catch up before it is reported
	// ready all the same: well below systemd's own patience (90 s), which would end it.
	readyPatience = 30 * time.Second
	// unwellAfter is by how much a probe may be overdue, and for how long a committed entry may stay unapplied, until
	// restarting this process is better than waiting. A write to the log may hang as long.
	unwellAfter = 10 * time.Second
	// deskPatience is how long the desk may take to look up.
	deskPatience = 2 * time.Second
)

// Manager is the service manager that started this process, if one did.
type Manager interface {
	Ready() error
	Reloading() error
	Stopping() error
	Status(text string) error
	Feed() error
	FeedEvery() time.Duration
}

// clerk keeps the service manager informed: ready once the watcher takes part, its state in one line, and a word of life
// only as long as probing, applying and the disk go on.
type clerk struct {
	d     *Daemon
	log   zerolog.Logger
	ready bool
	line  string    // as last told
	fed   time.Time // when last
	why   string    // it was not fed; empty: it was
}

// run informs the manager until ctx ends. It is the part that is stopped first, so its last word is that all stop.
func (c *clerk) run(ctx context.Context) error {
	m := c.d.o.Manager
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		c.look(ctx, m)
		select {
		case <-tick.C:
		case <-ctx.Done():
			c.check(m.Stopping())
			return nil
		}
	}
}

func (c *clerk) look(ctx context.Context, m Manager) {
	status := c.d.node.Status()
	if line := statusLine(status); line != c.line {
		c.line = line
		c.check(m.Status(line))
	}
	if !c.ready && takesPart(status, time.Since(c.d.start)) {
		c.ready = true
		c.check(m.Ready())
	}
	if every := m.FeedEvery(); every > 0 && time.Since(c.fed) >= every-lookEvery/2 {
		c.feed(ctx, m)
	}
}

// takesPart reports whether a start is complete: the watcher has a leader and has applied what it heard of, so that the
// next one of a rolling restart may be stopped. One that can only wait for others, or has waited long, is complete as well:
// it answers DNS, and to be ended for the others' absence would help nobody.
func takesPart(s cluster.Status, since time.Duration) bool {
	caughtUp := s.HasQuorum && s.Behind == 0 && s.AppliedIndex >= s.CommitIndex
	return caughtUp || s.Waiting != "" || since >= readyPatience
}

func statusLine(s cluster.Status) string {
	switch {
	case s.Waiting != "":
		return "takes no part: " + s.Waiting
	case s.Leader == "":
		return "no leader"
	case s.Leads:
		return fmt.Sprintf("leading in term %d", s.Term)
	}
	return fmt.Sprintf("following %s in term %d", s.Leader, s.Term)
}

// feed gives the word of life, unless something of the watcher stands still.
func (c *clerk) feed(ctx context.Context, m Manager) {
	why := c.d.unwell(ctx)
	if why != c.why && why != "" {
		c.log.Error().Str("reason", why).Msg("the service manager's watchdog is not fed")
	} else if why != c.why {
		c.log.Info().Msg("the service manager's watchdog is fed again")
	}
	if c.why = why; why == "" {
		c.fed = time.Now()
		c.check(m.Feed())
	}
}

func (c *clerk) check(err error) {
	if err != nil {
		c.log.Warn().Err(err).Msg("the service manager does not listen")
	}
}

// unwell says what of this watcher stands still; empty: nothing does. A watcher that sits out because its disk is full is
// well in this sense: it answers DNS, and could not be started again.
func (d *Daemon) unwell(ctx context.Context) string {
	if late := d.prober.Overdue(); late > unwellAfter {
		return fmt.Sprintf("a probe is overdue by %s", late.Round(time.Second))
	}
	if why := d.node.Stuck(unwellAfter); why != "" {
		return why
	}
	if !d.desk.looksUp(ctx) {
		return fmt.Sprintf("the state has not been looked at for %s", deskPatience)
	}
	return ""
}
