package guard

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// BenchmarkRun beside BenchmarkExec shows what the guard costs for each hook.
func BenchmarkRun(b *testing.B) {
	g := New(Options{Log: zerolog.Nop()})
	defer g.Close()
	for b.Loop() {
		if _, err := g.Run(context.Background(), Command{Argv: []string{"/bin/true"}, Deadline: time.Now().Add(10 * time.Second)}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkExec(b *testing.B) {
	for b.Loop() {
		if _, err := exec.CommandContext(context.Background(), "/bin/true").CombinedOutput(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStart is the guard process's own start and end.
func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		l, err := startLink(context.Background(), "/proc/self/exe", zerolog.Nop())
		if err != nil {
			b.Fatal(err)
		}
		l.close()
	}
}
