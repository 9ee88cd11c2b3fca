package control

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/watchover-ha/watchover/pkg/client"
)

// handler answers one request: with a body and its HTTP status, or with an error reply.
type handler func(r *http.Request) (int, any, *client.Error)

// routes is the API. Methods are told apart here and not in the patterns, so that a wrong one gets an error in JSON
// like every other.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	for pattern, methods := range s.table() {
		mux.Handle(pattern, dispatch(methods))
	}
	mux.HandleFunc("/v1/events", only(http.MethodGet, s.events))
	mux.HandleFunc("/v1/snapshot", s.snapshot)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, fail(client.CodeNotFound, "try GET /v1/status", "cannot find %s: there is no such path", r.URL.Path))
	})
	return mux
}

// table is every path with its methods.
func (s *Server) table() map[string]map[string]handler {
	get := func(h handler) map[string]handler { return map[string]handler{http.MethodGet: h} }
	post := func(h handler) map[string]handler { return map[string]handler{http.MethodPost: s.changing(h)} }
	return map[string]map[string]handler{
		"/v1/status":                    get(s.status),
		"/v1/history":                   get(s.history),
		"/v1/pause":                     post(s.pause),
		"/v1/resume":                    post(s.resume),
		"/v1/groups/{group}":            get(s.group),
		"/v1/groups/{group}/explain":    get(s.explain),
		"/v1/groups/{group}/switchover": post(s.switchover),
		"/v1/groups/{group}/abort":      post(s.abort),
		"/v1/groups/{group}/retry":      post(s.retry),
		"/v1/groups/{group}/ack":        post(s.ack),
		"/v1/groups/{group}/pause":      post(s.pause),
		"/v1/groups/{group}/resume":     post(s.resume),
		"/v1/groups/{group}/rehearse":   post(s.rehearse),
		"/v1/groups/{group}/reprotect":  post(s.reprotect),
		"/v1/policy":                    {http.MethodGet: s.policy, http.MethodPut: s.putPolicy},
		"/v1/members":                   {http.MethodGet: s.members, http.MethodPost: s.changing(s.addMember)},
		"/v1/members/{name}":            {http.MethodDelete: s.changing(s.removeMember)},
		"/v1/members/transfer":          {http.MethodPost: s.changing(s.transfer), http.MethodDelete: s.changing(s.removeMember)},
	}
}

func dispatch(methods map[string]handler) http.HandlerFunc {
	allow := strings.Join(slices.Sorted(maps.Keys(methods)), ", ")
	return func(w http.ResponseWriter, r *http.Request) {
		h, ok := methods[r.Method]
		if !ok {
			notAllowed(w, r, allow)
			return
		}
		limit := int64(maxBody)
		if r.Pattern == "/v1/policy" {
			limit = maxPolicy
		}
		r.Body = http.MaxBytesReader(w, r.Body, limit)
		status, body, e := h(r)
		if e != nil {
			writeError(w, e)
			return
		}
		if text, ok := body.(yamlReply); ok {
			writeText(w, "application/yaml", []byte(text))
			return
		}
		writeJSON(w, status, body)
	}
}

// only is dispatch for a handler that writes its reply itself.
func only(method string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != method {
			notAllowed(w, r, method)
			return
		}
		h(w, r)
	}
}

func notAllowed(w http.ResponseWriter, r *http.Request, allow string) {
	e := fail(client.CodeInvalid, "use "+allow, "cannot %s %s: the method is not allowed", r.Method, r.URL.Path)
	e.Status = http.StatusMethodNotAllowed
	w.Header().Set("Allow", allow)
	writeError(w, e)
}

// changing lets only those through who may change things, before anything of the request is read.
func (s *Server) changing(h handler) handler {
	return func(r *http.Request) (int, any, *client.Error) {
		if uid := caller(r); !s.mayChange(uid) {
			s.log.Warn().Uint32("uid", uid).Str("path", r.URL.Path).Msg("change refused: caller is no operator")
			return 0, nil, fail(client.CodeNotAllowed, "root, the daemon's own user and watcher.operators may change things",
				"cannot %s %s: uid %d is not allowed to change things", r.Method, r.URL.Path, uid)
		}
		return h(r)
	}
}

func (s *Server) status(r *http.Request) (int, any, *client.Error) {
	if e := onlyQuery(r, "wait"); e != nil {
		return 0, nil, e
	}
	if text := r.URL.Query().Get("wait"); text != "" {
		index, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return 0, nil, fail(client.CodeInvalid, "wait takes the index of a status", "cannot wait for %q: it is no index", text)
		}
		s.await(r.Context(), index+1, longestWait)
	}
	return http.StatusOK, snapshot(s.backend.State(), s.backend.Local(), time.Now()), nil
}

func (s *Server) group(r *http.Request) (int, any, *client.Error) {
	if e := onlyQuery(r); e != nil {
		return 0, nil, e
	}
	name := r.PathValue("group")
	view, ok := groupView(s.backend.State(), s.backend.Local(), name, time.Now())
	if !ok {
		return 0, nil, noGroup(name)
	}
	return http.StatusOK, view, nil
}

func (s *Server) explain(r *http.Request) (int, any, *client.Error) {
	if e := onlyQuery(r); e != nil {
		return 0, nil, e
	}
	name := r.PathValue("group")
	explanation, ok := s.backend.State().Explain(name)
	if !ok {
		return 0, nil, noGroup(name)
	}
	return http.StatusOK, explanationView(explanation, s.backend.Local(), time.Now()), nil
}

// Bounds of a history reply.
const (
	historyDefault = 100
	historyMost    = 100
)

func (s *Server) history(r *http.Request) (int, any, *client.Error) {
	if e := onlyQuery(r, "group", "n"); e != nil {
		return 0, nil, e
	}
	n := historyDefault
	if text := r.URL.Query().Get("n"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 1 || n > historyMost {
			return 0, nil, fail(client.CodeInvalid, fmt.Sprintf("n is a number from 1 to %d", historyMost), "cannot list %q switchovers", text)
		}
	}
	state, group := s.backend.State(), r.URL.Query().Get("group")
	if group != "" && state.Groups[group] == nil {
		return 0, nil, noGroup(group)
	}
	return http.StatusOK, historyView(state, group, n), nil
}

// onlyQuery refuses parameters that would be silently ignored.
func onlyQuery(r *http.Request, known ...string) *client.Error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return fail(client.CodeInvalid, "", "cannot read the parameters: %v", err)
	}
	hint := "known are " + strings.Join(known, ", ")
	if len(known) == 0 {
		hint = "it takes none; what an order needs stands in its body"
	}
	for name, values := range query {
		if !slices.Contains(known, name) {
			return fail(client.CodeInvalid, hint, "cannot use parameter %q: there is none of that name", name)
		}
		if len(values) > 1 {
			return fail(client.CodeInvalid, "", "cannot use parameter %q: it is given %d times", name, len(values))
		}
	}
	return nil
}

// readBody decodes the request's body strictly into v; no body leaves v as it is. Who sends a body may not send
// parameters: ?force=true beside it would be silently ignored.
func readBody(r *http.Request, v any) *client.Error {
	if e := onlyQuery(r); e != nil {
		return e
	}
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	err := decoder.Decode(v)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		if _, err = decoder.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		err = errors.Join(errors.New("there is more than one JSON value"), tooLarge(err))
	}
	if e := tooLarge(err); e != nil {
		return fail(client.CodeInvalid, "", "cannot read body: it is larger than %d bytes", maxBody)
	}
	if wrong := new(json.UnmarshalTypeError); errors.As(err, &wrong) {
		return fail(client.CodeInvalid, "", "cannot read body: %s is of the wrong type: %s", cmp.Or(wrong.Field, "it"), wrong.Value)
	}
	return fail(client.CodeInvalid, "", "cannot read body: %s", strings.TrimPrefix(err.Error(), "json: "))
}

// tooLarge is err if it says that the body is larger than allowed, else nil.
func tooLarge(err error) error {
	var limit *http.MaxBytesError
	if errors.As(err, &limit) {
		return err
	}
	return nil
}
