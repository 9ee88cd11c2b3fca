package probe

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/watchover-ha/watchover/pkg/failover"
)

const (
	healthPath   = "/grpc.health.v1.Health/Check"
	maxHealth    = 4 << 10 // bytes of a HealthCheckResponse that are read; a sound one has two
	framePrefix  = 5       // a flag and four bytes of length before each message (gRPC over HTTP/2, "Length-Prefixed-Message")
	codeOK       = 0
	codeNotFound = 5
	codeUnimplem = 12
)

// servingStatus are the values of HealthCheckResponse.ServingStatus (grpc/health/v1/health.proto).
var servingStatus = map[uint64]string{0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}

const serving = 1

// grpcCheck: a server that says SERVING of the service by the health protocol is up.
//
// The one unary call with its two small messages is made with the standard library's HTTP/2 and protowire. Each check
// makes its own connection, so that it sees whether the server still accepts them; a client library's own reconnecting,
// backoff and name resolution would answer from what it remembers.
type grpcCheck struct {
	transport *http.Transport
	url       string
	authority string
	frame     []byte       // the request, length-prefixed
	caFile    *watchedFile // nil: the system's roots
}

func newGRPCCheck(spec failover.Probe, around surroundings) (checker, error) {
	if err := checkAddress(spec.Address); err != nil {
		return nil, err
	}
	host, port, _ := net.SplitHostPort(spec.Address) // checked just above
	name := cmp.Or(spec.ServerName, host)
	target := url.URL{Scheme: "http", Host: spec.Address, Path: healthPath}
	var protocols http.Protocols
	if spec.TLS {
		target.Scheme = "https"
		protocols.SetHTTP2(true)
	} else {
		protocols.SetUnencryptedHTTP2(true)
	}
	dialer := net.Dialer{Timeout: around.timeout, KeepAlive: -1}
	return &grpcCheck{
		transport: &http.Transport{
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{ServerName: name, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    around.timeout,
			Protocols:              &protocols,
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxResponseHeader,
		},
		url: target.String(), authority: net.JoinHostPort(name, port), frame: healthRequest(spec.Service),
		caFile: newWatchedFile(around.dir, spec.CAFile),
	}, nil
}

// healthRequest is a HealthCheckRequest, whose field 1 is the service, behind its prefix.
func healthRequest(service string) []byte {
	var message []byte
	if service != "" {
		message = protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), service)
	}
	frame := make([]byte, framePrefix, framePrefix+len(message))
	binary.BigEndian.PutUint32(frame[1:], uint32(len(message)))
	return append(frame, message...)
}

func (c *grpcCheck) check(ctx context.Context) (answer, error) {
	if err := c.refresh(ctx); err != nil {
		return answer{}, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(c.frame))
	if err != nil {
		return answer{}, fmt.Errorf("cannot make a request: %w", err)
	}
	request.Host = c.authority
	request.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "User-Agent": {"watchover"}}
	response, err := c.transport.RoundTrip(request)
	if err != nil {
		return answer{expires: expiry(tls.ConnectionState{}, err)}, err
	}
	defer func() { _ = response.Body.Close() }() // what was read is what counts
	var got answer
	if response.TLS != nil {
		got.expires = expiry(*response.TLS, nil)
	}
	frame, err := io.ReadAll(io.LimitReader(response.Body, maxHealth+1))
	if err != nil {
		return got, fmt.Errorf("answer: %w", err)
	}
	return got, judgeHealth(response, frame)
}

// judgeHealth tells from a whole answer whether the server serves.
func judgeHealth(response *http.Response, frame []byte) error {
	switch {
	case response.StatusCode != http.StatusOK:
		return fmt.Errorf("HTTP status %d: not a gRPC server", response.StatusCode)
	case len(frame) > maxHealth: // the status comes after it and was not read
		return fmt.Errorf("answer of more than %d bytes", maxHealth)
	}
	text := cmp.Or(response.Trailer.Get("Grpc-Status"), response.Header.Get("Grpc-Status")) // in the header if there is no message
	code, err := strconv.Atoi(text)
	switch {
	case err != nil:
		return errors.New("answer without a gRPC status")
	case code == codeNotFound:
		return errors.New("the server does not know the service (NOT_FOUND)")
	case code == codeUnimplem:
		return errors.New("the server has no health service (UNIMPLEMENTED)")
	case code != codeOK:
		message := cmp.Or(response.Trailer.Get("Grpc-Message"), response.Header.Get("Grpc-Message"))
		return errors.New(printable(fmt.Sprintf("gRPC status %d %s", code, message)))
	}
	status, err := healthStatus(frame)
	switch {
	case err != nil: // not wrapped: that the message ends early is not the connection's end
		return fmt.Errorf("answer: %v", err)
	case status != serving:
		return fmt.Errorf("status %s", cmp.Or(servingStatus[status], strconv.FormatUint(status, 10)))
	}
	return nil
}

// healthStatus reads field 1 of a HealthCheckResponse behind its prefix; a field that is not there is zero, UNKNOWN.
func healthStatus(frame []byte) (uint64, error) {
	if len(frame) < framePrefix {
		return 0, fmt.Errorf("%d bytes are no health status", len(frame))
	}
	message := frame[framePrefix:]
	if frame[0] != 0 || uint64(binary.BigEndian.Uint32(frame[1:])) != uint64(len(message)) {
		return 0, errors.New("the message is compressed or of another length than it says")
	}
	var status uint64
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return 0, protowire.ParseError(n)
		}
		message = message[n:]
		if number == 1 && kind == protowire.VarintType {
			status, n = protowire.ConsumeVarint(message)
		} else {
			n = protowire.ConsumeFieldValue(number, kind, message)
		}
		if n < 0 {
			return 0, protowire.ParseError(n)
		}
		message = message[n:]
	}
	return status, nil
}

// refresh takes in a changed CA file. A transport must not be changed once used, so new roots come with a new one.
func (c *grpcCheck) refresh(ctx context.Context) error {
	if c.caFile == nil {
		return nil
	}
	pool, err := loadPool(ctx, c.caFile)
	if err != nil || pool == nil {
		return err
	}
	c.drop()
	next := c.transport.Clone()
	next.TLSClientConfig = withRoots(c.transport.TLSClientConfig, pool)
	c.transport = next
	return nil
}

func (c *grpcCheck) drop() { c.transport.CloseIdleConnections() }
