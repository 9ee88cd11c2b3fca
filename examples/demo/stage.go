package main

import (
	"context"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"golang.org/x/sys/unix"
)

// frameTime is between two frames: 25 a second look like motion.
const frameTime = 40 * time.Millisecond

// Without a terminal, lines are this wide; a terminal whose size is unknown counts as the classic 80x24.
const (
	plainWidth    = 100
	defaultWidth  = 80
	defaultHeight = 24
)

// stage is where the demo is shown: a terminal that is redrawn in place, or a file that lines are appended to.
type stage struct {
	out    io.Writer
	size   func() (width, height int) // nil: no terminal
	colour bool
	signs  signs
	drawn  int // lines of the frame that is on the screen
}

func newStage(out *os.File, getenv func(string) string) *stage {
	s := &stage{out: out, signs: signsFor(getenv)}
	if !isatty.IsTerminal(out.Fd()) || getenv("TERM") == "dumb" {
		return s
	}
	s.colour = getenv("NO_COLOR") == "" // no-color.org
	s.size = func() (int, int) {
		size, err := unix.IoctlGetWinsize(int(out.Fd()), unix.TIOCGWINSZ)
		if err != nil || size.Col == 0 || size.Row == 0 {
			return defaultWidth, defaultHeight
		}
		return int(size.Col), int(size.Row)
	}
	return s
}

// show plays the scene until the context ends, and leaves the last frame standing.
func (g *stage) show(ctx context.Context, b *board) {
	if !g.fits() {
		g.narrate(ctx, b)
		return
	}
	_, _ = io.WriteString(g.out, "\x1b[?25l") // no cursor
	defer func() { _, _ = io.WriteString(g.out, "\x1b[?25h") }()
	tick := time.NewTicker(frameTime)
	defer tick.Stop()
	for {
		s := b.look()
		g.draw(frame(&s, time.Now(), g.signs))
		select {
		case <-tick.C:
			continue
		case <-ctx.Done():
		}
		s = b.look()
		g.draw(frame(&s, time.Now(), g.signs))
		return
	}
}

// fits tells whether a frame can be redrawn in place. On less, lines tell more than a clipped picture.
func (g *stage) fits() bool {
	if g.size == nil {
		return false
	}
	width, height := g.size()
	return width >= frameWidth && height > frameHeight
}

// draw puts the rows over those drawn before, in one write so that nothing flickers.
func (g *stage) draw(rows []row) {
	width, height := g.size()
	rows = rows[:min(len(rows), height-1)] // what has scrolled away cannot be redrawn
	var b strings.Builder
	if up := min(g.drawn, height-1); up > 0 {
		b.WriteString("\x1b[" + strconv.Itoa(up) + "A")
	}
	b.WriteString("\r")
	for _, r := range rows {
		b.WriteString(r.render(width-1, g.colour) + "\x1b[K\n") // clear the rest of the line
	}
	b.WriteString("\x1b[J") // and what a longer frame has left below
	g.drawn = len(rows)
	_, _ = io.WriteString(g.out, b.String())
}

// narrate appends a line for everything that happens.
func (g *stage) narrate(ctx context.Context, b *board) {
	before := b.blank()
	for ctx.Err() == nil {
		b.wait(ctx, func(s *scene) bool { return len(news(&before, s)) > 0 })
		now := b.look()
		for _, line := range news(&before, &now) {
			_, _ = io.WriteString(g.out, line+"\n")
		}
		before = now
	}
}

// print appends rows below whatever is there, whole: a command must not be cut off, the terminal may wrap it.
func (g *stage) print(rows []row) {
	const width = math.MaxInt
	for _, r := range rows {
		_, _ = io.WriteString(g.out, r.render(width, g.colour)+"\n")
	}
	g.drawn = 0
}

func (g *stage) width() int {
	if g.size == nil {
		return plainWidth
	}
	width, _ := g.size()
	return width
}
