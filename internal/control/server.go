package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"os"
	"os/user"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// Bounds of one request and of stopping.
const (
	headerTimeout  = 5 * time.Second
	readTimeout    = 10 * time.Second
	writeTimeout   = 30 * time.Second // longer than proposeTimeout + applyTimeout, so that every order gets its answer
	idleTimeout    = time.Minute
	maxHeader      = 16 << 10
	maxBody        = 64 << 10
	proposeTimeout = 10 * time.Second
	applyTimeout   = 2 * time.Second // for an accepted order to be seen in this watcher's own state
	longestWait    = time.Second     // of a GET with ?wait=
	stopTimeout    = 2 * time.Second
)

// Options are what the socket's server needs.
type Options struct {
	Path      string   // of the socket
	Group     string   // of the socket; empty: the process's own
	Operators []string // users who may change things, beside root and the daemon's own user
	Backend   Backend
	Policy    PolicyText
	Snapshots Snapshots // nil: none can be saved or restored
	Log       zerolog.Logger
}

// Snapshots writes and reads states in the form in which they are kept in files.
type Snapshots interface {
	Write(w io.Writer, s *failover.State) error
	Read(r io.Reader) (*failover.State, error)
}

// Server answers on the Unix socket.
type Server struct {
	path      string
	bound     os.FileInfo
	backend   Backend
	snapshots Snapshots
	log       zerolog.Logger
	listener  *listener
	http      *http.Server
	operators atomic.Pointer[[]uint32] // replaced as a whole by SetOperators

	policyText   PolicyText
	followers    chan struct{} // holds a token for every follower of the events; never closed
	followerSlow time.Duration // how long one may take to read; set before Serve
}

// Listen binds the socket. Callers wait in its backlog until Serve. An operator who is no user of this machine is
// logged and has no rights: that must not keep a watcher from watching.
func Listen(o Options) (*Server, error) { return listen(o, peerUID) }

func listen(o Options, uid func(*net.UnixConn) (uint32, error)) (*Server, error) {
	l, bound, err := listenSocket(o.Path, o.Group)
	if err != nil {
		return nil, err
	}
	s := &Server{path: o.Path, bound: bound, backend: o.Backend, snapshots: o.Snapshots, log: o.Log, policyText: o.Policy, followers: make(chan struct{}, maxFollowers), followerSlow: followerSlow}
	if err := s.SetOperators(o.Operators); err != nil {
		s.log.Warn().Err(err).Msg("operator is left out")
	}
	s.listener = &listener{UnixListener: l, uid: uid, trusted: s.mayChange}
	s.http = newHTTPServer(s.routes(), o.Log)
	s.http.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, callerKey{}, c.(*conn).uid)
	}
	return s, nil
}

// newHTTPServer sets the limits that both listeners share.
func newHTTPServer(h http.Handler, log zerolog.Logger) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader, ErrorLog: stdlog.New(log, "", 0),
	}
}

// SetOperators replaces the users who may change things. Names that are no user of this machine are left out and come
// back as the error; the others have their rights all the same.
func (s *Server) SetOperators(names []string) error {
	var uids []uint32
	var errs []error
	for _, name := range names {
		uid, err := userID(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		uids = append(uids, uid)
	}
	s.operators.Store(&uids)
	return errors.Join(errs...)
}

func userID(name string) (uint32, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, fmt.Errorf("cannot find operator %q; make the user or change watcher.operators: %w", name, err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("cannot read id %q of operator %q: %w", u.Uid, name, err)
	}
	return uint32(uid), nil
}

// mayChange is the whole rule of who may change things: root, the daemon's own user, and the operators.
func (s *Server) mayChange(uid uint32) bool {
	return uid == 0 || int(uid) == os.Getuid() || slices.Contains(*s.operators.Load(), uid)
}

// Serve answers until ctx ends, then gives requests under way 2 s and removes the socket.
func (s *Server) Serve(ctx context.Context) error {
	err := serve(ctx, s.http, s.listener)
	return errors.Join(err, removeOwn(s.path, s.bound))
}

// serve runs an HTTP server until ctx ends and waits for it. Requests see ctx, so long polls end with it.
func serve(ctx context.Context, server *http.Server, l net.Listener) error {
	server.BaseContext = func(net.Listener) context.Context { return ctx }
	stopped := make(chan error, 1)
	go func() { stopped <- server.Serve(l) }()
	select {
	case err := <-stopped:
		return fmt.Errorf("cannot serve on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := server.Shutdown(limit); err != nil {
		_ = server.Close() // whoever is still asking has had his time
	}
	<-stopped
	return nil
}

// callerKey is the context's key of the caller's uid.
type callerKey struct{}

func caller(r *http.Request) uint32 {
	uid, ok := r.Context().Value(callerKey{}).(uint32)
	if !ok {
		return ^uint32(0) // nobody's: (uid_t)-1 is never a user
	}
	return uid
}
