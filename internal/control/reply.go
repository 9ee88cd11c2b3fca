package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/watchover-ha/watchover/pkg/client"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// statusOf is the HTTP status of each error code.
var statusOf = map[string]int{
	client.CodeRefused:    http.StatusConflict,
	client.CodeNotFound:   http.StatusNotFound,
	client.CodeNotAllowed: http.StatusForbidden,
	client.CodeNoLeader:   http.StatusServiceUnavailable,
	client.CodeInvalid:    http.StatusBadRequest,
	client.CodeInternal:   http.StatusInternalServerError,
}

// fail makes an error reply with the code's own HTTP status.
func fail(code, hint, format string, args ...any) *client.Error {
	return &client.Error{Code: code, Hint: hint, Message: fmt.Sprintf(format, args...), Status: statusOf[code]}
}

func noGroup(group string) *client.Error {
	return fail(client.CodeNotFound, "`watchover status` lists the groups", "cannot find group %q: there is none of that name", group)
}

// refusal turns what Apply answered to an order that it did not accept into an error reply. what is the order in words.
func refusal(what string, r failover.Result) *client.Error {
	reason := r.Detail
	if r.Rule != "" {
		reason = r.Rule + ": " + r.Detail
	}
	var e *client.Error
	switch r.Code {
	case failover.CodeRefused:
		e = fail(client.CodeRefused, r.Hint, "cannot %s: refused by %s", what, reason)
	case failover.CodeNotFound:
		e = fail(client.CodeNotFound, r.Hint, "cannot %s: %s", what, reason)
	case failover.CodeInvalid:
		e = fail(client.CodeInvalid, r.Hint, "cannot %s: %s", what, reason)
	default: // stale: the leadership changed while the order was on its way, so it may have been applied before
		e = unknownOutcome(what, reason)
	}
	e.Rule = r.Rule
	return e
}

// proposeError turns an error of Backend.Propose into an error reply.
func proposeError(what string, err error) *client.Error {
	switch {
	case errors.Is(err, ErrNoLeader):
		return fail(client.CodeNoLeader, "a majority of the watchers must run and reach one another; `watchover status` shows whom this one hears",
			"cannot %s: the cluster has no leader; nothing was done", what)
	case errors.Is(err, ErrUnknown), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return unknownOutcome(what, err.Error())
	}
	return fail(client.CodeInternal, "", "cannot %s: %v", what, err)
}

// unknownOutcome is no no_leader: that says that nothing was done, and a script may then safely repeat the order.
func unknownOutcome(what, reason string) *client.Error {
	return fail(client.CodeInternal, "it may have been done or not; look at `watchover status` before asking again",
		"cannot tell whether it was possible to %s: %s", what, reason)
}

// writeJSON answers with one line of JSON.
func writeJSON(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil { // a NaN in a lag would do it
		writeError(w, fail(client.CodeInternal, "", "cannot encode reply: %v", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // the caller may have gone; there is nobody to tell
}

// writeText answers with text that is no JSON.
func writeText(w http.ResponseWriter, contentType string, text []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(text) // the caller may have gone; there is nobody to tell
}

func writeError(w http.ResponseWriter, e *client.Error) {
	if e.Code == client.CodeNoLeader {
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, e.Status, e)
}
