package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/rs/zerolog"
)

// stopPatience is how long one part may take to stop before that is said aloud. After a signal it is waited for all the same, until
// a second one ends the process; where another part has failed it is left behind.
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
	failed := first != nil // by itself, and not while it was stopped
	for i := len(l.parts) - 1; i >= 0; i-- {
		if err := l.parts[i].end(log, failed); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// end stops a part. Where another one has failed, what holds that one up may hold up this one too: then it is left behind, for the
// process is to be started again.
func (p *part) end(log zerolog.Logger, failed bool) error {
	p.stop()
	late := time.NewTimer(stopPatience)
	defer late.Stop()
	select {
	case <-p.done:
	case <-late.C:
		if failed {
			log.Error().Str("what", p.name).Msg("a part does not stop and is left behind")
			return nil
		}
		log.Warn().Str("what", p.name).Msg("a part takes long to stop; a second signal ends the process at once")
		<-p.done
	}
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
