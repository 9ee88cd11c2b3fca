package control

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// maxScrapes bounds metrics requests at work at once; maxWebConnections the listener's connections.
const (
	maxScrapes        = 4
	maxWebConnections = 64
)

// WebOptions are what the read-only HTTP listener needs.
type WebOptions struct {
	Listen   string // host:port
	Backend  Backend
	Gatherer prometheus.Gatherer
	Log      zerolog.Logger
}

// Web is the read-only HTTP listener: /metrics, /livez, /readyz and a status page. It changes nothing and shows no
// secrets, since the state has none; but it asks nobody who he is, so its address should be one that only those reach
// who may know the addresses of the apps.
type Web struct {
	backend  Backend
	listener net.Listener
	http     *http.Server
}

// ListenWeb binds the address.
func ListenWeb(o WebOptions) (*Web, error) {
	l, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on watcher.http_listen %s: %w", o.Listen, err)
	}
	w := &Web{backend: o.Backend, listener: newLimited(l, maxWebConnections)}
	w.http = newHTTPServer(w.routes(o.Gatherer), o.Log)
	return w, nil
}

// Addr is the address that was bound.
func (w *Web) Addr() net.Addr { return w.listener.Addr() }

// Serve answers until ctx ends.
func (w *Web) Serve(ctx context.Context) error { return serve(ctx, w.http, w.listener) }

func (w *Web) routes(g prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(g, promhttp.HandlerOpts{
		MaxRequestsInFlight: maxScrapes, Timeout: readTimeout, ErrorHandling: promhttp.ContinueOnError,
	}))
	mux.HandleFunc("GET /livez", func(rw http.ResponseWriter, _ *http.Request) { answer(rw, notLive(w.backend.Local())) })
	mux.HandleFunc("GET /readyz", func(rw http.ResponseWriter, _ *http.Request) {
		answer(rw, notReady(w.backend.State(), w.backend.Local()))
	})
	mux.HandleFunc("GET /{$}", w.page)
	return mux
}

// answer is 200, or 503 with the reason.
func answer(w http.ResponseWriter, reason string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if reason != "" {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = fmt.Fprintln(w, reason)
		return
	}
	_, _ = fmt.Fprintln(w, "ok")
}

// notLive is why a supervisor should restart this process; being without a leader is no reason.
func notLive(l Local) string { return l.Stuck }

// notReady is why this watcher's answers may be old.
func notReady(s *failover.State, l Local) string {
	switch {
	case l.Stuck != "":
		return l.Stuck
	case l.Behind != "":
		return l.Behind
	case l.Leader == "":
		return "no contact with a leader"
	case l.Isolated:
		return "no contact with a quorum"
	case l.CatchingUp:
		return "catching up with the cluster after the start"
	case s.Policy == nil:
		return "the cluster has no policy yet"
	case l.AppliedIndex < l.CommitIndex:
		return fmt.Sprintf("applied %d of %d entries", l.AppliedIndex, l.CommitIndex)
	}
	return ""
}

// page shows the status to a person with a browser.
func (w *Web) page(rw http.ResponseWriter, _ *http.Request) {
	now := time.Now()
	text, err := renderPage(snapshot(w.backend.State(), w.backend.Local(), now), now)
	if err != nil {
		http.Error(rw, "cannot render the status page: "+err.Error(), http.StatusInternalServerError)
		return
	}
	header := rw.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", pagePolicy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cache-Control", "no-store")
	_, _ = rw.Write(text)
}
