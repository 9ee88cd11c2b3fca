package switchover

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/watchover-ha/watchover/pkg/failover"
)

func num[T any](x T) *T { return &x }

func TestParseRole(t *testing.T) {
	for _, tc := range []struct {
		text string
		want failover.Observation
		err  string // part of the error
	}{
		{text: "primary", want: failover.Observation{Role: failover.RolePrimary}},
		{text: " replica\n", want: failover.Observation{Role: failover.RoleReplica}},
		{text: "primary frozen", want: failover.Observation{Role: failover.RolePrimary, Frozen: true}},
		{text: "replica streaming lag_bytes=12 lag_seconds=0.5 id=db1", want: failover.Observation{Role: failover.RoleReplica, Streaming: true,
			LagBytes: num(int64(12)), LagSeconds: num(0.5), ID: "db1"}},
		{text: "replica\nlag_seconds=0", want: failover.Observation{Role: failover.RoleReplica, LagSeconds: num(0.0)}},
		{text: "replica timeline=7", want: failover.Observation{Role: failover.RoleReplica, Timeline: 7}},
		{text: "replica timeline=0", err: "timeline is a whole number"},
		{text: "replica timeline=-1", err: "timeline is a whole number"},
		{text: "", err: "printed nothing"},
		{text: "master", err: `printed "master"`},
		{text: "Primary", err: `printed "Primary"`},
		{text: "unknown", err: "primary or replica"},
		{text: "replica lag_bytes=-1", err: "whole number"},
		{text: "replica lag_bytes=1.5", err: "whole number"},
		{text: "replica lag_bytes", err: "whole number"},
		{text: "replica lag_seconds=NaN", err: "is a number"},
		{text: "replica lag_seconds=+Inf", err: "is a number"},
		{text: "replica lag_seconds=-0.1", err: "is a number"},
		{text: "replica lag_seconds=fast", err: "is a number"},
		{text: "replica streeming", err: `printed "streeming"`},
		{text: strings.Repeat("x", 4096), err: `"` + strings.Repeat("x", 40) + `"`},
	} {
		got, err := parseRole(tc.text)
		switch {
		case tc.err == "" && err != nil:
			t.Errorf("%.40q: %v", tc.text, err)
		case tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)):
			t.Errorf("%.40q: error is %v, want one with %q", tc.text, err, tc.err)
		case tc.err == "" && differs(&got, &tc.want, failover.MaxLag{}):
			t.Errorf("%.40q: got %+v, want %+v", tc.text, got, tc.want)
		}
		if err == nil && got.LagBytes != nil && *got.LagBytes != *tc.want.LagBytes || got.LagSeconds != nil && *got.LagSeconds != *tc.want.LagSeconds {
			t.Errorf("%.40q: lag %v %v", tc.text, got.LagBytes, got.LagSeconds)
		}
	}
}

func TestObserveOfAProgramThatFails(t *testing.T) {
	play(t, nil, func(w *world) {
		d := w.journal.State().Policy.Groups[0].Apps[0].Database
		w.app("main", func(a *fakeApp) { a.dead = true })
		o, err := w.runner.out.look(t.Context(), d, identity{})
		if err == nil || o.Role != failover.RoleUnknown || err.Error() != "/bin/ctl exited 2: connection refused" {
			t.Errorf("got %+v, %v", o, err)
		}
	})
}

// fakeDatabase says what it is told to say.
type fakeDatabase struct {
	Database
	says  failover.Observation
	blind error // of Observe
	fails error // of every act
	tells bool
	did   []string
}

func (d *fakeDatabase) Observe(context.Context) (failover.Observation, error) { return d.says, d.blind }
func (d *fakeDatabase) TellsFrozen() bool                                     { return d.tells }
func (d *fakeDatabase) do(what string) (string, error) {
	d.did = append(d.did, what)
	return what, d.fails
}
func (d *fakeDatabase) Freeze(context.Context) (string, error) { return d.do("freeze") }
func (d *fakeDatabase) Unfreeze(_ context.Context, found string) (string, error) {
	d.says.Frozen = false
	return d.do("unfreeze " + found)
}
func (d *fakeDatabase) StopReplication(context.Context) (string, error) { return d.do("stop") }
func (d *fakeDatabase) Promote(context.Context) (string, error)         { return d.do("promote") }

func TestActsAreReadBack(t *testing.T) {
	lost := errors.New("lost")
	primary, replica := failover.Observation{Role: failover.RolePrimary}, failover.Observation{Role: failover.RoleReplica}
	frozen, streaming := primary, replica
	frozen.Frozen, streaming.Streaming = true, true
	onFreeze := func(ctx context.Context, d *fakeDatabase) (bool, error) {
		done := freeze(ctx, d, false)
		return done.untold, done.err
	}
	plainly := func(act func(context.Context, Database) (string, error)) func(context.Context, *fakeDatabase) (bool, error) {
		return func(ctx context.Context, d *fakeDatabase) (bool, error) {
			_, err := act(ctx, d)
			return false, err
		}
	}
	unfreeze := func(ctx context.Context, d Database) (string, error) { return unfreeze(ctx, d, "") }
	promote := func(ctx context.Context, d Database) (string, error) {
		done := promote(ctx, d, false)
		return done.output, done.err
	}
	for _, tc := range []struct {
		name   string
		act    func(context.Context, *fakeDatabase) (bool, error)
		db     fakeDatabase
		untold bool
		err    string
	}{
		{"freeze told", onFreeze, fakeDatabase{says: frozen, tells: true}, false, ""},
		{"freeze not told", onFreeze, fakeDatabase{says: primary}, true, ""},
		{"freeze without effect", onFreeze, fakeDatabase{says: primary, tells: true}, false, "still takes writes"},
		{"freeze of a replica", onFreeze, fakeDatabase{says: replica, tells: true}, false, ""},
		{"freeze fails", onFreeze, fakeDatabase{says: primary, fails: lost}, false, "lost"},
		{"freeze not read back", onFreeze, fakeDatabase{says: frozen, blind: lost}, false, "cannot read the freeze back"},
		{"unfreeze fails", plainly(unfreeze), fakeDatabase{says: frozen, fails: lost}, false, "lost"},
		{"unfreeze", plainly(unfreeze), fakeDatabase{says: frozen}, false, ""},
		{"unfreeze not read back", plainly(unfreeze), fakeDatabase{blind: lost}, false, "lost"},
		{"stop", plainly(stopReplication), fakeDatabase{says: replica}, false, ""},
		{"stop without effect", plainly(stopReplication), fakeDatabase{says: streaming}, false, "still receives"},
		{"stop fails", plainly(stopReplication), fakeDatabase{says: replica, fails: lost}, false, "lost"},
		{"promote", plainly(promote), fakeDatabase{says: primary}, false, ""},
		{"promote without effect", plainly(promote), fakeDatabase{says: replica}, false, "says it is replica"},
		{"promote fails", plainly(promote), fakeDatabase{says: primary, fails: lost}, false, "lost"},
		{"promote not read back", plainly(promote), fakeDatabase{says: primary, blind: lost}, false, "lost"},
		{"promote of one that kept a freeze", plainly(promote), fakeDatabase{says: frozen}, false, ""},
	} {
		untold, err := tc.act(t.Context(), &tc.db)
		if untold != tc.untold || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("%s: untold %t, error %v", tc.name, untold, err)
		}
		if tc.db.says.Frozen && tc.name == "promote of one that kept a freeze" {
			t.Error("the promoted database is still frozen")
		}
	}
}

func TestKindsThatNobodyOpens(t *testing.T) {
	if _, err := newOutside(Options{}).database(&failover.Database{Kind: "postgres"}, identity{}); err == nil || !strings.Contains(err.Error(), `kind "postgres"`) {
		t.Errorf("postgres: %v", err)
	}
}
