package switchover

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/watchover-ha/watchover/internal/localfile"
	"github.com/watchover-ha/watchover/pkg/failover"
)

const (
	maxHeaderFile = 64 << 10
	maxCAFile     = 1 << 20 // as for probes; a bundle of all public roots is about 220 KiB
	maxBody       = 4 << 10 // of an answer, kept for the journal
)

// request sends one http request on a connection of its own: no proxy, no redirect, nothing reused from an attempt that
// is over. The context's deadline bounds all of it.
func (o *outside) request(ctx context.Context, h *failover.HTTP, id identity) (reply, error) {
	req, err := http.NewRequestWithContext(ctx, method(h), h.URL, strings.NewReader(h.Body))
	if err != nil {
		return reply{}, fmt.Errorf("cannot make a request for %s: %w", h.URL, err)
	}
	if h.Host != "" {
		req.Host = h.Host
	}
	if err := o.headers(ctx, req, h); err != nil {
		return reply{}, err
	}
	for _, pair := range id.pairs(o.watcher) {
		if pair[1] != "" {
			req.Header.Set("Watchover-"+pair[0], pair[1])
		}
	}
	if id.key != "" {
		req.Header.Set("Idempotency-Key", id.key)
	}
	transport, err := o.transport(ctx, h)
	if err != nil {
		return reply{}, err
	}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return reply{}, fmt.Errorf("cannot reach %s: %w", h.URL, plain(err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return reply{}, fmt.Errorf("cannot read the answer of %s: %w", h.URL, plain(err))
	}
	return reply{code: resp.StatusCode, output: string(body)}, nil
}

func (o *outside) transport(ctx context.Context, h *failover.HTTP) (*http.Transport, error) {
	t := &http.Transport{
		DialContext:            (&net.Dialer{KeepAlive: -1}).DialContext,
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
	}
	u, err := url.Parse(h.URL)
	if err != nil || u.Scheme != "https" {
		return t, nil
	}
	t.TLSClientConfig = &tls.Config{ServerName: hostOnly(h.Host), MinVersion: tls.VersionTLS12}
	if h.CAFile != "" {
		pem, err := localfile.Read(ctx, o.resolve(h.CAFile), maxCAFile)
		if err != nil {
			return nil, fmt.Errorf("cannot read ca_file: %w", err)
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("cannot use %s: it holds no certificate", h.CAFile)
		}
	}
	return t, nil
}

// headers adds the "Name: value" lines of header_file or header_env, the only places for credentials. Their values are in
// no error.
func (o *outside) headers(ctx context.Context, req *http.Request, h *failover.HTTP) error {
	if h.HeaderEnv != "" {
		text, err := h.HeaderEnv.Read(os.LookupEnv, maxHeaderFile)
		if err != nil {
			return err
		}
		return addHeaders(req, text, h.HeaderEnv.String())
	}
	if h.HeaderFile == "" {
		return nil
	}
	text, err := localfile.Read(ctx, o.resolve(h.HeaderFile), maxHeaderFile)
	if err != nil {
		return fmt.Errorf("cannot read header_file: %w", err)
	}
	return addHeaders(req, text, h.HeaderFile)
}

func addHeaders(req *http.Request, text []byte, from string) error {
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxHeaderFile)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !isToken(strings.TrimSpace(name)) {
			return fmt.Errorf("cannot use %s: line %d is not \"Name: value\"", from, n)
		}
		req.Header.Set(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return lines.Err()
}

// isToken reports whether a text can be a header's name (RFC 9110, section 5.6.2). It is asked here because net/http
// quotes a bad name in its error, and what stands before the colon of a bad line may be a secret.
func isToken(text string) bool {
	const marks = "!#$%&'*+-.^_`|~"
	return text != "" && !strings.ContainsFunc(text, func(c rune) bool {
		return !('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || strings.ContainsRune(marks, c))
	})
}

func method(h *failover.HTTP) string {
	if h.Method == "" {
		return http.MethodGet
	}
	return h.Method
}

func expected(h *failover.HTTP, code int) bool {
	if len(h.ExpectStatus) > 0 {
		return slices.Contains(h.ExpectStatus, code)
	}
	return code >= 200 && code < 300
}

func hostOnly(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return host
}

// plain takes the layers of net and url off an error, so that the reason fits into one line of a status.
func plain(err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.New("no answer in time")
	}
	var op *net.OpError
	if errors.As(err, &op) {
		var call *os.SyscallError
		if errors.As(op.Err, &call) {
			return call.Err
		}
		return op.Err
	}
	return err
}
