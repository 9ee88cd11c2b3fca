package probe

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// grpcServer is a real gRPC server; health nil: without the health service.
func grpcServer(t *testing.T, h grpc_health_v1.HealthServer, certificate *tls.Certificate) (address string, stop func()) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var options []grpc.ServerOption
	if certificate != nil {
		options = append(options, grpc.Creds(credentials.NewServerTLSFromCert(certificate)))
	}
	server := grpc.NewServer(options...)
	if h != nil {
		grpc_health_v1.RegisterHealthServer(server, h)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	stop = func() {
		server.Stop()
		<-done
	}
	t.Cleanup(server.Stop)
	return listener.Addr().String(), stop
}

func grpcProbe(address, service string) failover.Probe {
	return failover.Probe{Kind: "grpc", Address: address, Service: service}
}

func TestGRPC(t *testing.T) {
	h := health.NewServer()
	address, stop := grpcServer(t, h, nil)
	whole, _ := build(t, grpcProbe(address, ""))
	cart, _ := build(t, grpcProbe(address, "shop.v1.Cart"))
	for _, want := range []struct {
		name string
		set  func()
		want string
	}{
		{"serving", func() { h.SetServingStatus("shop.v1.Cart", grpc_health_v1.HealthCheckResponse_SERVING) }, ""},
		{"not serving", func() { h.SetServingStatus("shop.v1.Cart", grpc_health_v1.HealthCheckResponse_NOT_SERVING) }, "status NOT_SERVING"},
		{"unknown", func() { h.SetServingStatus("shop.v1.Cart", grpc_health_v1.HealthCheckResponse_UNKNOWN) }, "status UNKNOWN"},
		{"serving again", func() { h.SetServingStatus("shop.v1.Cart", grpc_health_v1.HealthCheckResponse_SERVING) }, ""},
	} {
		want.set()
		if got := once(t, cart, testTimeout); got != want.want {
			t.Errorf("%s: reason %q, want %q", want.name, got, want.want)
		}
		if got := once(t, whole, testTimeout); got != "" {
			t.Errorf("%s: the server as a whole: %q", want.name, got)
		}
	}
	other, _ := build(t, grpcProbe(address, "shop.v1.Till"))
	if got := once(t, other, testTimeout); got != "the server does not know the service (NOT_FOUND)" {
		t.Errorf("a service that is not there: %q", got)
	}
	h.Shutdown()
	if got := once(t, whole, testTimeout); got != "status NOT_SERVING" {
		t.Errorf("a server that shuts down: %q", got)
	}
	stop()
	if got := once(t, whole, testTimeout); got != "connection refused" {
		t.Errorf("a server that is gone: %q", got)
	}
}

func TestGRPCWithoutHealthService(t *testing.T) {
	address, _ := grpcServer(t, nil, nil)
	check, _ := build(t, grpcProbe(address, ""))
	if got := once(t, check, testTimeout); got != "the server has no health service (UNIMPLEMENTED)" {
		t.Errorf("reason %q", got)
	}
}

// hanging answers when the caller has gone.
type hanging struct {
	grpc_health_v1.UnimplementedHealthServer
}

func (hanging) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestGRPCHangs(t *testing.T) {
	address, _ := grpcServer(t, hanging{}, nil)
	check, _ := build(t, grpcProbe(address, ""))
	if got := once(t, check, 200*time.Millisecond); got != "no answer within 200ms" {
		t.Errorf("reason %q", got)
	}
}

func TestGRPCOverTLS(t *testing.T) {
	now := time.Now().Truncate(time.Second).UTC()
	certificate, ca := selfSigned(t, now.Add(-time.Hour), now.Add(time.Hour))
	address, _ := grpcServer(t, health.NewServer(), &certificate)
	spec := grpcProbe(address, "")
	spec.TLS, spec.CAFile = true, ca
	check, _ := build(t, spec)
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	for range 2 {
		got, err := check.check(ctx)
		if err != nil || !got.expires.Equal(now.Add(time.Hour)) {
			t.Fatalf("expires %s, %v", got.expires, err)
		}
	}
	const any = "some reason"
	for _, tt := range []struct {
		name   string
		change func(*failover.Probe)
		want   string
	}{
		{"server name", func(p *failover.Probe) { p.ServerName = "shop.example.com" }, ""},
		{"wrong name", func(p *failover.Probe) { p.ServerName = "bank.example.com" }, "not bank.example.com"},
		{"unknown authority", func(p *failover.Probe) { p.CAFile = "" }, "certificate signed by unknown authority"},
		{"no TLS", func(p *failover.Probe) { p.TLS, p.CAFile = false, "" }, any}, // closed, reset or not established: who is first
		{"a CA file that is not there", func(p *failover.Probe) { p.CAFile = "/nonexistent/ca.pem" }, "no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			spec := spec
			tt.change(&spec)
			check, _ := build(t, spec)
			got := once(t, check, testTimeout)
			if tt.want == any && got != "" {
				return
			}
			if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("reason %q, want %q", got, tt.want)
			}
		})
	}
}

// What answers need not be a gRPC server, nor a sound one.
func TestGRPCOddAnswers(t *testing.T) {
	frame := func(message string) string {
		prefix := make([]byte, framePrefix)
		binary.BigEndian.PutUint32(prefix[1:], uint32(len(message)))
		return string(prefix) + message
	}
	for _, tt := range []struct {
		name, status, message, body, want string
		code                              int
	}{
		{name: "a web server", code: 404, body: "<html>", want: "HTTP status 404: not a gRPC server"},
		{name: "no status", code: 200, body: frame("\x08\x01"), want: "answer without a gRPC status"},
		{name: "no number", code: 200, status: "OK", body: frame("\x08\x01"), want: "answer without a gRPC status"},
		{name: "denied", code: 200, status: "16", message: "who are you", want: "gRPC status 16 who are you"},
		{name: "no message", code: 200, status: "0", want: "answer: 0 bytes are no health status"},
		{name: "empty message", code: 200, status: "0", body: frame(""), want: "status UNKNOWN"},
		{name: "wrong length", code: 200, status: "0", body: frame("\x08\x01") + "x", want: "answer: the message is compressed or of another length than it says"},
		{name: "compressed", code: 200, status: "0", body: "\x01\x00\x00\x00\x02\x08\x01", want: "answer: the message is compressed or of another length than it says"},
		{name: "half a field", code: 200, status: "0", body: frame("\x08"), want: "answer: unexpected EOF"},
		{name: "another field first", code: 200, status: "0", body: frame("\x12\x01x\x08\x01")},
		{name: "a status of the future", code: 200, status: "0", body: frame("\x08\x63"), want: "status 99"},
		{name: "too much", code: 200, status: "0", body: frame(strings.Repeat("x", maxHealth)), want: "answer of more than 4096 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var protocols http.Protocols
			protocols.SetUnencryptedHTTP2(true)
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			server := &http.Server{Protocols: &protocols, ReadHeaderTimeout: testTimeout, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.code)
				_, _ = w.Write([]byte(tt.body))
				if tt.status != "" {
					w.Header().Set(http.TrailerPrefix+"Grpc-Status", tt.status)
					w.Header().Set(http.TrailerPrefix+"Grpc-Message", tt.message)
				}
			})}
			done := make(chan error, 1)
			go func() { done <- server.Serve(listener) }()
			defer func() {
				_ = server.Close()
				<-done
			}()
			check, _ := build(t, grpcProbe(listener.Addr().String(), ""))
			if got := once(t, check, testTimeout); got != tt.want {
				t.Errorf("reason %q, want %q", got, tt.want)
			}
		})
	}
}

// FuzzHealthStatus: no answer makes the reader fail otherwise than by an error, and only 1 is SERVING.
func FuzzHealthStatus(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x02\x08\x01"))
	f.Add([]byte("\x00\x00\x00\x00\x00"))
	f.Add([]byte("\x01\x00\x00\x00\x02\x08\x01"))
	f.Fuzz(func(t *testing.T, frame []byte) {
		status, err := healthStatus(frame)
		if err != nil && status != 0 {
			t.Errorf("status %d beside error %v", status, err)
		}
	})
}
