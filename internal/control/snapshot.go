package control

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/watchover-ha/watchover/pkg/client"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// maxSnapshot bounds a snapshot that is to be restored, in bytes.
const maxSnapshot = 64 << 20

// snapshot serves GET, which saves, and PUT, which restores. Both are for those who may change things: a snapshot holds everything.
func (s *Server) snapshot(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		s.save(w, r)
		return
	}
	// The body is no JSON and larger than any other.
	body := r.Body
	dispatch(map[string]handler{http.MethodGet: nil, http.MethodPut: s.changing(func(r *http.Request) (int, any, *client.Error) {
		r.Body = http.MaxBytesReader(w, body, maxSnapshot)
		return s.restore(r)
	})})(w, r)
}

// save answers with the state that this watcher has applied. One without a quorum may be far behind and not know it, so it says
// so instead, unless that is asked for.
func (s *Server) save(w http.ResponseWriter, r *http.Request) {
	text, e := s.saved(r)
	if e != nil {
		writeError(w, e)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(text) // whoever asked checks that it is whole
}

func (s *Server) saved(r *http.Request) (text []byte, e *client.Error) {
	_, _, e = s.changing(func(r *http.Request) (int, any, *client.Error) {
		if e := onlyQuery(r, "stale"); e != nil {
			return 0, nil, e
		}
		stale, err := strconv.ParseBool(orFalse(r.URL.Query().Get("stale")))
		if err != nil {
			return 0, nil, fail(client.CodeInvalid, "stale is true or false", "cannot save a snapshot: stale is %q", r.URL.Query().Get("stale"))
		}
		if l := s.backend.Local(); !l.HasQuorum && !stale {
			return 0, nil, fail(client.CodeNoLeader, "with --stale (?stale=true) it saves the last that it heard", "cannot save a snapshot: %s", cutOff(l))
		}
		state := s.backend.State()
		if state.Cluster == "" || s.snapshots == nil {
			return 0, nil, fail(client.CodeRefused, "", "cannot save a snapshot: the cluster has not begun yet")
		}
		var file bytes.Buffer
		if err := s.snapshots.Write(&file, state); err != nil {
			return 0, nil, fail(client.CodeInternal, "", "cannot save a snapshot: %v", err)
		}
		text = file.Bytes()
		return 0, nil, nil
	})(r)
	return text, e
}

func orFalse(text string) string {
	if text == "" {
		return "false"
	}
	return text
}

// restore proposes the snapshot in the body.
func (s *Server) restore(r *http.Request) (int, any, *client.Error) {
	const what = "restore the snapshot"
	if e := onlyQuery(r, "open_switchovers"); e != nil {
		return 0, nil, e
	}
	if s.snapshots == nil {
		return 0, nil, fail(client.CodeRefused, "", "cannot %s: this watcher cannot read any", what)
	}
	saved, err := s.snapshots.Read(r.Body)
	if err != nil {
		if limit := new(http.MaxBytesError); errors.As(err, &limit) {
			err = fmt.Errorf("it is larger than %d bytes", maxSnapshot)
		}
		return 0, nil, fail(client.CodeInvalid, "", "cannot %s: %v", what, err)
	}
	command, err := failover.NewRestore(saved, failover.Open(r.URL.Query().Get("open_switchovers")))
	if err == nil {
		_, err = failover.EncodeCommand(failover.Command{Restore: command})
	}
	if err != nil {
		return 0, nil, fail(client.CodeInvalid, "", "cannot %s: %v", what, err)
	}
	return s.reply(r, what, failover.Command{Restore: command})
}
