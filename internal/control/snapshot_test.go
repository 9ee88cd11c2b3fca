package control_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/watchover-ha/watchover/internal/control"
	"github.com/watchover-ha/watchover/internal/control/controltest"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// plain are snapshots that are nothing but the state.
type plain struct{}

func (plain) Write(w io.Writer, s *failover.State) error {
	text, err := s.Encode()
	if err == nil {
		_, err = w.Write(text)
	}
	return err
}

func (plain) Read(r io.Reader) (*failover.State, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	return failover.DecodeState(text)
}

func TestSnapshotRoute(t *testing.T) {
	s := startServer(t, controltest.New(controltest.Policy("shop")))
	want := s.State().Hash()
	response, text := s.ask(t, http.MethodGet, "/v1/snapshot", "")
	if back, err := failover.DecodeState([]byte(text)); response.StatusCode != 200 || err != nil || back.Hash() != want {
		t.Fatalf("save: %d, %.200q, %v", response.StatusCode, text, err)
	}
	for _, c := range []struct {
		name, method, path, body string
		uid                      uint32
		quorum                   bool
		status                   int
		text                     string
	}{
		{"save as a stranger", "GET", "/v1/snapshot", "", 4711, true, 403, "not allowed"},
		{"restore as a stranger", "PUT", "/v1/snapshot", text, 4711, true, 403, "not allowed"},
		{"wrong method", "DELETE", "/v1/snapshot", "", 0, true, 405, "GET, PUT"},
		{"unknown parameter", "GET", "/v1/snapshot?old=1", "", 0, true, 400, "old"},
		{"odd stale", "GET", "/v1/snapshot?stale=perhaps", "", 0, true, 400, "perhaps"},
		{"without a quorum", "GET", "/v1/snapshot", "", 0, false, 503, "stale"},
		{"without a quorum, stale", "GET", "/v1/snapshot?stale=true", "", 0, false, 200, `"cluster":"prod"`},
		{"damaged", "PUT", "/v1/snapshot", text[:len(text)/2], 0, true, 400, "cannot decode state"},
		{"nothing", "PUT", "/v1/snapshot", "", 0, true, 400, "cannot decode state"},
		{"unknown parameter of restore", "PUT", "/v1/snapshot?force=1", text, 0, true, 400, "force"},
		{"restore", "PUT", "/v1/snapshot", text, 0, true, 200, `"index"`},
	} {
		s.uid.Store(c.uid)
		s.EditLocal(func(l *control.Local) { l.HasQuorum = c.quorum })
		response, body := s.ask(t, c.method, c.path, c.body)
		if response.StatusCode != c.status || !strings.Contains(body, c.text) {
			t.Errorf("%s: %d, %.300q", c.name, response.StatusCode, body)
		}
	}
	if g := s.State().Groups["shop"]; s.State().Generation != 1 || g.Unconfirmed == nil {
		t.Errorf("not restored: generation %d", s.State().Generation)
	}
	// A restored group shows that it is held, by whom and what to do; so does the metric's source.
	_, body := s.ask(t, http.MethodGet, "/v1/groups/shop", "")
	for _, want := range []string{`"paused":true`, `"paused_by":"restore"`, `"unconfirmed":true`, `watchover ack shop`} {
		if !strings.Contains(body, want) {
			t.Errorf("the group does not show %s: %s", want, body)
		}
	}
	if response, body := s.ask(t, http.MethodPost, "/v1/groups/shop/resume", ""); response.StatusCode != 409 || !strings.Contains(body, "watchover ack shop") {
		t.Errorf("resume: %d, %s", response.StatusCode, body)
	}
	if response, body := s.ask(t, http.MethodPost, "/v1/groups/shop/ack", ""); response.StatusCode != 200 || s.State().Groups["shop"].Unconfirmed != nil {
		t.Errorf("ack: %d, %s", response.StatusCode, body)
	}
}
