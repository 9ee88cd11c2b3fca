package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"log"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	shown      = 12 // orders on the page
	maxForm    = 8 << 10
	maxField   = 80 // runes
	retryAfter = 5  // seconds, what a visitor in maintenance is told
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Parse(pageText))

// app is the web application on top of its store.
type app struct {
	name  string
	store *store
	log   *log.Logger
}

func newApp(name string, s *store, logger *log.Logger) *app {
	return &app{name: name, store: s, log: logger}
}

// routes: maintenance closes the shop, not the doors behind it. /healthz stays 200 in maintenance, because it answers
// whether the process serves; whether it may be visited is what /admin/maintenance answers.
func (a *app) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", a.open(a.showShop))
	mux.HandleFunc("POST /orders", a.open(a.takeOrder))
	mux.HandleFunc("GET /orders", a.open(a.listOrders))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /admin/maintenance", a.showMaintenance)
	mux.HandleFunc("PUT /admin/maintenance", a.setMaintenance(true))
	mux.HandleFunc("DELETE /admin/maintenance", a.setMaintenance(false))
	mux.HandleFunc("GET /admin/db", func(w http.ResponseWriter, _ *http.Request) { reply(w, a.store.status()) })
	mux.HandleFunc("POST /admin/db/{verb}", a.command)
	mux.HandleFunc("GET /replication", a.replication)
	mux.HandleFunc("GET /replication/sum", a.sum)
	return mux
}

// view is what the page shows.
type view struct {
	Name        string
	Maintenance bool
	Status      status
	Orders      []entry
	Items       []string
}

func (a *app) view() view {
	a.store.mu.Lock()
	closed := a.store.meta.Maintenance
	a.store.mu.Unlock()
	return view{Name: a.name, Maintenance: closed, Status: a.store.status(), Orders: a.store.latest(shown),
		Items: []string{"an espresso", "a slice of cake", "a loaf of rye", "a jar of honey", "a red balloon"}}
}

// open lets visitors through unless the app is in maintenance.
func (a *app) open(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v := a.view()
		if !v.Maintenance {
			next(w, r)
			return
		}
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(http.StatusServiceUnavailable)
		a.render(w, v)
	}
}

func (a *app) showShop(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	a.render(w, a.view())
}

func (a *app) render(w http.ResponseWriter, v view) {
	if err := page.Execute(w, v); err != nil {
		a.log.Printf("cannot send the page: %v", err)
	}
}

func (a *app) listOrders(w http.ResponseWriter, _ *http.Request) {
	reply(w, map[string]any{"app": a.name, "count": a.store.status().Seq, "latest": a.store.latest(shown)})
}

func (a *app) takeOrder(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	o := order{Name: strings.TrimSpace(r.FormValue("name")), Item: strings.TrimSpace(r.FormValue("item"))}
	for _, s := range []string{o.Name, o.Item} {
		if s == "" || !utf8.ValidString(s) || utf8.RuneCountInString(s) > maxField {
			http.Error(w, fmt.Sprintf("give a name and an item of 1 to %d characters", maxField), http.StatusBadRequest)
			return
		}
	}
	if _, err := a.store.add(o); err != nil {
		code := http.StatusInternalServerError
		if errors.As(err, new(refusal)) {
			code = http.StatusServiceUnavailable
			w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
		}
		http.Error(w, err.Error(), code)
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// showMaintenance: 200 in maintenance, 404 not.
func (a *app) showMaintenance(w http.ResponseWriter, _ *http.Request) {
	if !a.view().Maintenance {
		http.Error(w, "not in maintenance", http.StatusNotFound)
		return
	}
	fmt.Fprintln(w, "in maintenance")
}

func (a *app) setMaintenance(on bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, err := tokenOf(r)
		if err == nil {
			err = a.store.update("maintenance", token, func(m *meta) error { m.Maintenance = on; return nil })
		}
		if err != nil {
			fail(w, err)
			return
		}
		a.log.Printf("maintenance %s (token %d)", map[bool]string{true: "on", false: "off"}[on], token)
		fmt.Fprintln(w, "done")
	}
}

// tokenOf returns the fencing token, 0 if there is none: a person with curl is let through.
func tokenOf(r *http.Request) (uint64, error) {
	text := r.Header.Get("Watchover-Token")
	if text == "" {
		return 0, nil
	}
	token, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, refuse("the token %q is no number", text)
	}
	return token, nil
}

// command does what "sampleapp db" asks for. A deadline that has passed is a refusal too: the caller is not there any
// more, and somebody else may be at work.
func (a *app) command(w http.ResponseWriter, r *http.Request) {
	token, err := tokenOf(r)
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	if text := r.Header.Get("Watchover-Deadline"); text != "" && err == nil {
		var deadline time.Time
		if deadline, err = time.Parse(time.RFC3339Nano, text); err == nil && time.Now().After(deadline) {
			err = refuse("too late: the deadline was %s", text)
		}
		// A little earlier, so that the caller still hears the reason.
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-time.Until(deadline)/10))
		defer cancel()
	}
	text := "done"
	if err == nil {
		text, err = a.do(ctx, r.PathValue("verb"), token, r.URL.Query().Get("peer"))
	}
	if err != nil {
		a.log.Printf("database: %s refused: %v", r.PathValue("verb"), err)
		fail(w, err)
		return
	}
	a.log.Printf("database: %s (token %d): %s", r.PathValue("verb"), token, text)
	reply(w, map[string]string{"result": text})
}

func (a *app) do(ctx context.Context, verb string, token uint64, peer string) (string, error) {
	switch verb {
	case "freeze", "unfreeze":
		// Writes take the same lock: none is under way when this returns, and the next one sees the flag.
		return "done", a.store.update("database", token, func(m *meta) error { m.Frozen = verb == "freeze"; return nil })
	case "catch-up":
		return "done", a.store.catchUp(ctx, token)
	case "stop-replication", "resume-replication":
		return "done", a.store.setStopped(token, verb == "stop-replication")
	case "promote":
		return "done", a.store.promote(token)
	case "follow":
		return a.store.follow(ctx, token, strings.TrimSuffix(peer, "/"))
	}
	return "", refuse("unknown verb %q", verb)
}

func (a *app) replication(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	seq, err := strconv.Atoi(q.Get("after"))
	if err != nil {
		fail(w, refuse("after=%q is no number", q.Get("after")))
		return
	}
	st, err := a.store.after(r.Context(), q.Get("id"), seq, q.Get("sum"))
	if err != nil {
		fail(w, err)
		return
	}
	reply(w, st)
}

// sum answers what stands at a place of the log, so that another store can find where both logs part.
func (a *app) sum(w http.ResponseWriter, r *http.Request) {
	seq, err := strconv.Atoi(r.URL.Query().Get("seq"))
	a.store.mu.Lock()
	defer a.store.mu.Unlock()
	if err != nil || seq < 0 || seq > len(a.store.entries) {
		fail(w, refuse("there is no entry %q", r.URL.Query().Get("seq")))
		return
	}
	reply(w, map[string]string{"sum": a.store.sumAt(seq)})
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the other side has gone; nobody is left to be told
}

// fail: 409 for what was refused, 503 for what may work later.
func fail(w http.ResponseWriter, err error) {
	code := http.StatusServiceUnavailable
	if errors.As(err, new(refusal)) {
		code = http.StatusConflict
	}
	http.Error(w, err.Error(), code)
}
