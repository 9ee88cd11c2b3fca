package probe

import (
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// counting is a server that counts the connections made to it.
func counting(t *testing.T, handler http.HandlerFunc) (server *httptest.Server, connections *atomic.Int32) {
	t.Helper()
	connections = new(atomic.Int32)
	server = httptest.NewUnstartedServer(handler)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	return server, connections
}

func TestHTTPKeepsOneConnection(t *testing.T) {
	var broken atomic.Bool
	server, connections := counting(t, func(w http.ResponseWriter, _ *http.Request) {
		if broken.Load() {
			w.WriteHeader(500)
		}
	})
	check, hurried := build(t, httpProbe(server.URL))
	for range 5 {
		if reason := once(t, check, testTimeout); reason != "" {
			t.Fatal(reason)
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections for 5 checks", n)
	}
	broken.Store(true)
	once(t, check, testTimeout)
	once(t, check, testTimeout)
	if n := connections.Load(); n != 2 {
		t.Errorf("%d connections, want a fresh one after a failure", n)
	}
	broken.Store(false)
	once(t, check, testTimeout)
	keeper, maxAge := &check.(*httpCheck).keeper, check.(*httpCheck).maxAge
	if maxAge != connectionIntervals*time.Minute {
		t.Errorf("a connection is kept for %v", maxAge)
	}
	keeper.current.Load().made = time.Now().Add(-2 * maxAge)
	once(t, check, testTimeout)
	if n := connections.Load(); n != 4 {
		t.Errorf("%d connections, want a fresh one after %v", n, maxAge)
	}
	if n := hurried.Load(); n != 0 {
		t.Errorf("%d early checks asked for by connections that we closed", n)
	}
}

func TestHTTPClosedConnectionIsNews(t *testing.T) {
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			defer server.Close()
			if scheme == "https" {
				server.StartTLS()
			} else {
				server.Start()
			}
			check, hurried := build(t, tlsSpec(t, server))
			closeAndCount := func(want int32) {
				t.Helper()
				server.CloseClientConnections()
				wait(t, func() bool { return check.(*httpCheck).keeper.current.Load().closed.Load() })
				wait(t, func() bool { return hurried.Load() >= want })
				if n := hurried.Load(); n != want {
					t.Fatalf("%d early checks, want %d", n, want)
				}
			}
			must := func() {
				t.Helper()
				if reason := once(t, check, testTimeout); reason != "" {
					t.Fatal(reason)
				}
			}
			must()
			closeAndCount(1)
			// The early check found all well. Until a connection has shown again that it lasts, closing is no news.
			must()
			closeAndCount(1)
			must()
			must()
			closeAndCount(2)
		})
	}
}

// tlsSpec is an http probe that trusts the test server.
func tlsSpec(t *testing.T, server *httptest.Server) failover.Probe {
	t.Helper()
	spec := httpProbe(server.URL)
	if server.Certificate() != nil {
		spec.CAFile = writeCA(t, server)
		spec.Host = "example.com" // a name in httptest's certificate
	}
	return spec
}

func writeCA(t *testing.T, server *httptest.Server) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(path, block, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// wait waits until the condition holds.
func wait(t testing.TB, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(testTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal("the condition waited for did not come true")
		}
	}
}

// Servers that do not keep connections must not make one check cause the next.
func TestHTTPNoStorm(t *testing.T) {
	t.Run("connection close", func(t *testing.T) {
		server, _ := counting(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") })
		check, hurried := build(t, httpProbe(server.URL))
		for range 20 {
			once(t, check, testTimeout)
		}
		if n := hurried.Load(); n != 0 {
			t.Errorf("%d early checks", n)
		}
	})
	t.Run("closes soon after the answer", func(t *testing.T) {
		server := rawServer(t, func(conn net.Conn) {
			if readRequest(conn) {
				_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
			}
		})
		check, hurried := build(t, httpProbe(server))
		for range 20 {
			if reason := once(t, check, testTimeout); reason != "" {
				t.Fatal(reason)
			}
			wait(t, func() bool { return check.(*httpCheck).keeper.current.Load().closed.Load() })
		}
		if n := hurried.Load(); n > 1 {
			t.Errorf("%d early checks", n)
		}
	})
}

// rawServer serves each connection with the function, one at a time, and closes it afterwards.
func rawServer(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(testTimeout))
			serve(conn)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return "http://" + listener.Addr().String()
}

func readRequest(conn net.Conn) bool {
	var data []byte
	part := make([]byte, 1024)
	for !strings.Contains(string(data), "\r\n\r\n") {
		n, err := conn.Read(part)
		if err != nil {
			return false
		}
		data = append(data, part[:n]...)
	}
	return true
}

// The server resets the kept connection at the moment of the second request: that is no failure.
func TestHTTPRetriesOnAFreshConnection(t *testing.T) {
	var connections atomic.Int32
	url := rawServer(t, func(conn net.Conn) {
		connections.Add(1)
		if readRequest(conn) {
			_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
			readRequest(conn)
			_ = conn.(*net.TCPConn).SetLinger(0) // close with a reset
		}
	})
	spec := httpProbe(url)
	spec.Method, spec.Body = http.MethodPost, "x" // net/http itself repeats only what is idempotent
	check, hurried := build(t, spec)
	for range 4 {
		if reason := once(t, check, testTimeout); reason != "" {
			t.Fatal(reason)
		}
	}
	if n := connections.Load(); n != 4 {
		t.Errorf("%d connections", n)
	}
	if n := hurried.Load(); n != 0 {
		t.Errorf("%d early checks", n)
	}
}
