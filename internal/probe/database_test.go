package probe

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/watchover-ha/watchover/pkg/failover"
)

func TestDatabaseCheck(t *testing.T) {
	spec := failover.Probe{Kind: "postgres", DSN: "host=192.0.2.1", PasswordFile: "pg.pass"}
	for _, tc := range []struct {
		name   string
		err    error
		unable bool
		want   string
	}{
		{"alive", nil, false, ""},
		{"dead", errors.New("connection refused"), false, "connection refused"},
		{"a file is missing here", fmt.Errorf("%w: no such file", ErrNotAsked), true, "cannot ask: the server was not asked: no such file"},
	} {
		check, err := newChecker(spec, surroundings{ping: func(_ context.Context, p failover.Probe) error {
			if p.DSN != spec.DSN || p.PasswordFile != spec.PasswordFile {
				t.Errorf("asked %+v", p)
			}
			return tc.err
		}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = check.check(t.Context())
		var unable errUnable
		if errors.As(err, &unable) != tc.unable || (err == nil) != (tc.want == "") || err != nil && err.Error() != tc.want {
			t.Errorf("%s: %v", tc.name, err)
		}
		check.drop()
	}
	if _, err := newChecker(spec, surroundings{}); err == nil {
		t.Error("built without a way to ask")
	}
	late, cancel := context.WithCancel(t.Context())
	cancel()
	check, _ := newChecker(spec, surroundings{ping: func(ctx context.Context, _ failover.Probe) error { return errors.New("closed") }})
	if _, err := check.check(late); !errors.Is(err, context.Canceled) {
		t.Errorf("after its time: %v", err)
	}
}
