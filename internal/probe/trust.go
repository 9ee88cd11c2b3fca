package probe

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// tickPeriod is how often the clocks are looked at when nothing else happens. Each look begins it anew, so a
	// watcher whose probes come every second never wakes for a tick: on an idle machine waking is what costs.
	tickPeriod = 1500 * time.Millisecond
	// maxLate is how much later than tickPeriod a look may come before this watcher counts as frozen.
	maxLate = 2 * time.Second
	// maxParting is how far the wall clock may part from the monotonic one, within rebaseAfter.
	maxParting = 5 * time.Second
	// rebaseAfter is how old a baseline gets. Time daemons slew a clock by up to 0.5 ms per second, for hours if need
	// be; that is no jump and must not add up to one.
	rebaseAfter = time.Minute
)

// reading is one look at the clocks.
type reading struct {
	wall      time.Time     // without its monotonic part
	monotonic time.Duration // since any fixed moment
	suspended time.Duration // how long the machine has slept since boot: CLOCK_BOOTTIME less CLOCK_MONOTONIC
}

// readClocks looks at the clocks of this machine.
func readClocks() reading {
	now := time.Now()
	return reading{wall: now.Round(0), monotonic: time.Since(processStart), suspended: suspended()}
}

var processStart = time.Now()

func suspended() time.Duration {
	var boot, monotonic unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &monotonic) != nil || unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil {
		return 0 // a kernel without CLOCK_BOOTTIME: the other two signs remain
	}
	return time.Duration(boot.Nano() - monotonic.Nano())
}

// clockwatch finds out whether this watcher's own sense of time broke: then what it saw lately is worth nothing, above
// all the timeouts of probes that were under way. Not safe for concurrent use.
type clockwatch struct {
	last, base reading
}

func newClockwatch(now reading) clockwatch { return clockwatch{last: now, base: now} }

// look compares with the looks before and returns why this watcher should not be trusted, empty if it should. It must
// be called at least every tickPeriod, and before any result is believed: after a freeze a result may come first.
func (c *clockwatch) look(now reading) string {
	last, base := c.last, c.base
	c.last = now
	late := now.monotonic - last.monotonic - tickPeriod
	slept := now.suspended - last.suspended
	parted := now.wall.Sub(base.wall) - (now.monotonic - base.monotonic)
	switch {
	case slept > maxLate:
		c.base = now
		return fmt.Sprintf("suspended for %s", slept.Round(time.Second))
	case late > maxLate:
		c.base = now
		return fmt.Sprintf("frozen for %s", (late + tickPeriod).Round(time.Second))
	case parted.Abs() > maxParting:
		c.base = now
		return fmt.Sprintf("clock jump of %s", parted.Round(time.Second))
	}
	if now.monotonic-base.monotonic > rebaseAfter {
		c.base = now
	}
	return ""
}
