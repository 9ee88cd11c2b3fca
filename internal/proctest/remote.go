package proctest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	writePause = 20 * time.Millisecond  // between two writes of a primary, and two looks of its replica
	streamGap  = 500 * time.Millisecond // a replica that has heard nothing for so long is not streaming
	reachTime  = 700 * time.Millisecond // to connect; less than a probe's timeout
	restTime   = 30 * time.Second       // for what follows; the watcher's guard ends it earlier
	bodyLimit  = 64 << 10
)

// WrittenFile, below an app's directory, holds how much its database had when it was promoted.
const WrittenFile = "written-at-promotion"

// databaseServer is a database with an address of its own. What it holds is a number: as the primary it adds one with
// each write, as a replica it has what it fetched from its peer.
type databaseServer struct {
	d           Database
	peerAddress string

	mu      sync.Mutex // guards what follows, and is held by whatever changes the database
	written uint64
	heard   time.Time // when the peer last answered
}

// serveBoth is an app and its database as two servers on one machine. It ends with the first of them.
func serveBoth(args []string) error {
	dir, name, address, state, own, peer, peerAddress := args[0], args[1], args[2], args[3], args[4], args[5], args[6]
	s := &databaseServer{d: Database{Dir: dir, App: name, Peer: peer}, peerAddress: peerAddress}
	ended := make(chan error, 2)
	go func() { ended <- serveApp(dir, name, address, state == "open") }()
	go func() { ended <- s.serve(own) }()
	go s.live()
	return <-ended
}

func (s *databaseServer) serve(address string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /written", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		fmt.Fprint(w, s.written)
	})
	mux.HandleFunc("POST /{verb}", s.told)
	server := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: restTime}
	return server.ListenAndServe()
}

// told carries out one verb.
func (s *databaseServer) told(w http.ResponseWriter, r *http.Request) {
	d := s.d
	d.By = handsFrom(func(name string) string { return r.Header.Get("Watchover-" + name) })
	verb := r.PathValue("verb")
	if verb == "catch-up" {
		if err := s.catchUp(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d.hears = func() bool { return time.Since(s.heard) < streamGap }
	if verb == "role" {
		fmt.Fprint(w, d.role())
		return
	}
	if verb == "promote" {
		_ = os.WriteFile(filepath.Join(d.Dir, d.App, WrittenFile), fmt.Append(nil, s.written), 0o600)
	}
	if err := d.do(verb); err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
	}
}

// live writes as a primary and receives as a replica, for ever.
func (s *databaseServer) live() {
	tick := time.NewTicker(writePause)
	defer tick.Stop()
	for range tick.C {
		s.mu.Lock()
		role := s.d.get(s.d.App, "role")
		if role == "primary" && s.d.get(s.d.App, "frozen") != "yes" {
			s.written++
		}
		s.mu.Unlock()
		if role == "replica" && s.d.get(s.d.App, "receiving") == "yes" {
			_, _ = s.receive(context.Background())
		}
	}
}

// receive fetches what the peer has now.
func (s *databaseServer) receive(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	text, err := call(ctx, http.MethodGet, "http://"+s.peerAddress+"/written", Hands{})
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.written, s.heard = max(s.written, n), time.Now()
	return n, nil
}

// catchUp fetches once more: then this database has all that the peer had when it was called.
func (s *databaseServer) catchUp(ctx context.Context) error {
	if s.d.get(s.d.App, "receiving") != "yes" {
		return errors.New("not receiving")
	}
	_, err := s.receive(ctx)
	return err
}

// tellDatabase is the program that a watcher runs.
func tellDatabase(address, verb string) error {
	ctx, cancel := context.WithTimeout(context.Background(), restTime)
	defer cancel()
	text, err := call(ctx, http.MethodPost, "http://"+address+"/"+verb, hands())
	if err == nil && verb == "role" {
		fmt.Println(text)
	}
	return err
}

// playTurn is a maintenance switch turned by a program: a trap can hold it before it does so.
func playTurn(dir, method, url string) error {
	line := HookLine{Hands: hands(), At: time.Now(), Phase: "turn", PID: os.Getpid(), Env: os.Environ()}
	if err := appendLine(filepath.Join(dir, TurnsFile), line); err != nil {
		return err
	}
	springTrap(dir, "turn:"+line.Step, line.Watcher)
	ctx, cancel := context.WithTimeout(context.Background(), restTime)
	defer cancel()
	if _, err := call(ctx, method, url, line.Hands); err != nil {
		return err
	}
	line.End, line.At, line.Env = true, time.Now(), nil
	return appendLine(filepath.Join(dir, TurnsFile), line)
}

// call makes one request on a connection of its own, with the headers that tell whose hands it is.
func call(ctx context.Context, method, url string, by Hands) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return "", err
	}
	if by != (Hands{}) {
		for name, value := range map[string]any{"Watcher": by.Watcher, "Step": by.Step, "Switchover": by.Switchover, "Token": by.Token, "Attempt": by.Attempt} {
			req.Header.Set("Watchover-"+name, fmt.Sprint(value))
		}
	}
	dialer := &net.Dialer{Timeout: reachTime}
	cl := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: dialer.DialContext}}
	resp, err := cl.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, bodyLimit))
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(text)))
	}
	return string(text), err
}
