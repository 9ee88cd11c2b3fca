package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/rs/zerolog"
)

// stopPatience is how long one part may take to stop before that is said aloud; it is waited for all the same, until a
// second signal ends the process.
const stopPatience = 15 * time.Second

// lifecycle runs parts together and stops them one by one, last added first.
type lifecycle struct {
	parts []part
}

type part struct {
	name string
	run  func(context.Context) error
	stop context.CancelFunc
	done chan struct{} // closed when run has returned
	err  error         // valid once done is closed
}

func (l *lifecycle) add(name string, run func(context.Context) error) {
	l.parts = append(l.parts, part{name: name, run: run, done: make(chan struct{})})
}

// run starts all parts, waits until ctx ends or one of them does, and stops the others. A part that ends by itself is
// an error: nothing in a watcher is dispensable.
func (l *lifecycle) run(ctx context.Context, log zerolog.Logger) error {
	ended := make(chan *part, len(l.parts))
	for i := range l.parts {
		p := &l.parts[i]
		var own context.Context
		own, p.stop = context.WithCancel(context.WithoutCancel(ctx))
		go func() {
			p.err = p.run(own)
			close(p.done)
			ended <- p
		}()
	}
	var first error
	select {
	case <-ctx.Done():
	case p := <-ended:
		first = fmt.Errorf("%s ended: %w", p.name, orUnexpected(p.err))
		log.Error().Err(p.err).Str("what", p.name).Msg("a part has ended, the watcher stops")
	}
	for i := len(l.parts) - 1; i >= 0; i-- {
		if err := l.parts[i].end(log); err != nil && first == nil {
			first = err
		}
	}
	return first
}

func (p *part) end(log zerolog.Logger) error {
	p.stop()
	late := time.AfterFunc(stopPatience, func() {
		log.Warn().Str("what", p.name).Msg("a part takes long to stop; a second signal ends the process at once")
	})
	<-p.done
	late.Stop()
	if p.err != nil {
		return fmt.Errorf("cannot stop %s in order: %w", p.name, p.err)
	}
	return nil
}

func orUnexpected(err error) error {
	if err == nil {
		return fmt.Errorf("it was not asked to")
	}
	return err
}
