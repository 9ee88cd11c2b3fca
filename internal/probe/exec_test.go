package probe

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

func TestExec(t *testing.T) {
	tests := []struct {
		name    string
		output  string
		code    int
		err     error
		hang    bool
		outcome outcome
		want    string
	}{
		{"exit 0", "all well", 0, nil, false, success, ""},
		{"the first line is the reason", "disk full\nand more", 1, nil, false, failure, "disk full"},
		{"empty lines first", "\r\n\n queue \x1b[31mstuck\n", 2, nil, false, failure, "queue  [31mstuck"},
		{"silent", "", 3, nil, false, failure, "exit code 3"},
		{"much output", strings.Repeat("é", 1000), 1, nil, false, failure, strings.Repeat("é", 98) + "..."},
		{"killed by the deadline", "working", -1, nil, true, failure, "no answer within 50ms"},
		{"killed by the deadline with an error", "", -1, errors.New("signal: killed"), true, failure, "no answer within 50ms"},
		{"never started until the deadline", "", -1, fmt.Errorf("%w: 64 are running already", ErrNotRun), true, unable, "cannot run /bin/check: the program did not run: 64 are running already"},
		{"lost", "", -1, fmt.Errorf("%w: its guard died", ErrNotRun), false, unable, "cannot run /bin/check: the program did not run: its guard died"},
		{"not there", "", 0, errors.New("no such file"), false, unable, "cannot run /bin/check: no such file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			const timeout = 50 * time.Millisecond
			check, err := newChecker(failover.Probe{Kind: "exec", Exec: []string{"/bin/check", "x"}}, surroundings{
				exec: func(ctx context.Context, argv, _ []string) ([]byte, int, error) {
					if strings.Join(argv, " ") != "/bin/check x" {
						t.Errorf("argv %q", argv)
					}
					if tt.hang {
						<-ctx.Done()
					}
					return []byte(tt.output), tt.code, tt.err
				}})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			_, err = check.check(ctx)
			if judge(err) != tt.outcome {
				t.Errorf("outcome %d, want %d", judge(err), tt.outcome)
			}
			if err != nil && reasonOf(err, timeout) != tt.want {
				t.Errorf("reason %q, want %q", reasonOf(err, timeout), tt.want)
			}
		})
	}
	if _, err := newChecker(failover.Probe{Kind: "exec", Exec: []string{"x"}}, surroundings{}); err == nil {
		t.Error("an exec probe without a way to run programs was accepted")
	}
}
