package daemon

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// diary records in which order parts start and stop.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) note(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, text)
}

func (d *diary) part(name string, takes time.Duration, err error) func(context.Context) error {
	return func(ctx context.Context) error {
		<-ctx.Done()
		<-time.After(takes)
		d.note(name)
		return err
	}
}

func TestPartsStopInReverseOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		var l lifecycle
		l.add("a", d.part("a", 0, nil))
		l.add("b", d.part("b", 20*time.Second, nil)) // longer than is patiently waited for
		l.add("c", d.part("c", time.Second, errors.New("not in order")))
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(time.Second, cancel)
		if err := l.run(ctx, zerolog.Nop()); err == nil || err.Error() != "cannot stop c in order: not in order" {
			t.Error(err)
		}
		if !slices.Equal(d.lines, []string{"c", "b", "a"}) {
			t.Errorf("stopped in the order %v", d.lines)
		}
	})
}

// What holds up one part may hold up others: where one has failed nobody waits for them for ever, for the process is to be started
// again.
func TestAPartThatHangsIsLeftBehindWhereAnotherHasFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		var l lifecycle
		free := make(chan struct{})
		l.add("last", d.part("last", 0, nil))
		l.add("hangs", func(context.Context) error { <-free; return nil })
		l.add("fails", func(context.Context) error { return errors.New("lost") })
		began := time.Now()
		err := l.run(t.Context(), zerolog.Nop())
		if err == nil || err.Error() != "fails ended: lost" || !slices.Equal(d.lines, []string{"last"}) {
			t.Errorf("%v; stopped are %v", err, d.lines)
		}
		if took := time.Since(began); took != stopPatience {
			t.Errorf("it took %s, want %s", took, stopPatience)
		}
		close(free)
	})
}

func TestErrorsOfParts(t *testing.T) {
	lost, other := errors.New("lost"), errors.New("other")
	dies := func(err error) func(context.Context) error { return func(context.Context) error { return err } }
	for _, tc := range []struct {
		name  string
		parts func(*lifecycle, *diary)
		stop  bool
		want  string
	}{
		{"one dies", func(l *lifecycle, d *diary) { l.add("a", d.part("a", 0, nil)); l.add("b", dies(lost)) }, false, "b ended: lost"},
		{"one ends without an error", func(l *lifecycle, d *diary) { l.add("a", d.part("a", 0, nil)); l.add("b", dies(nil)) }, false, "b ended: it was not asked to"},
		{"the first error counts", func(l *lifecycle, d *diary) { l.add("a", d.part("a", 0, other)); l.add("b", dies(lost)) }, false, "b ended: lost"},
		{"one fails to stop", func(l *lifecycle, d *diary) { l.add("a", d.part("a", 0, lost)); l.add("b", d.part("b", 0, nil)) }, true, "cannot stop a in order: lost"},
		{"two fail to stop", func(l *lifecycle, d *diary) { l.add("a", d.part("a", 0, lost)); l.add("b", d.part("b", 0, other)) }, true, "cannot stop b in order: other"},
		{"all is well", func(l *lifecycle, d *diary) { l.add("a", d.part("a", 0, nil)) }, true, "<nil>"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var d diary
				var l lifecycle
				tc.parts(&l, &d)
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				if tc.stop {
					time.AfterFunc(time.Second, cancel)
				}
				err := l.run(ctx, zerolog.Nop())
				if got := errorText(err); got != tc.want {
					t.Errorf("got %s, want %s", got, tc.want)
				}
				if !tc.stop && !slices.Equal(d.lines, []string{"a"}) {
					t.Errorf("the others were not stopped: %v", d.lines)
				}
			})
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return "<nil>"
	}
	return err.Error()
}
