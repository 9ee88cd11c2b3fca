package notify

import (
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
	"strings"
	"syscall"

	"github.com/watchover-ha/watchover/internal/localfile"
	"github.com/watchover-ha/watchover/pkg/failover"
)

const (
	maxURLFile   = 8 << 10 // bytes
	maxAnswer    = 4 << 10 // bytes that are read of an answer; nothing in it matters but its status
	maxRedirects = 3
)

// post sends the event to a webhook; any 2xx is told. No error of this function names the URL or a part of it.
func (n *Notifier) post(ctx context.Context, w *failover.Webhook, m *message) error {
	target, err := n.readURL(ctx, w)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(m.body))
	if err != nil {
		return fmt.Errorf("cannot use the URL in %s: it is not one", source(w)) // the error quotes it
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "watchover")
	req.Header.Set("Idempotency-Key", m.id)
	for _, pair := range m.pairs {
		if pair[1] != "" {
			req.Header.Set("Watchover-"+pair[0], pair[1])
		}
	}
	transport := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{KeepAlive: -1}).DialContext,
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
	}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport, CheckRedirect: sameHost}).Do(req)
	if err != nil {
		return fmt.Errorf("cannot reach the webhook in %s: %s", source(w), reason(err))
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("the webhook in %s answered %d", source(w), resp.StatusCode)
	}
	return nil
}

// source names where the URL is, for errors.
func source(w *failover.Webhook) string {
	if w.URLEnv != "" {
		return w.URLEnv.String()
	}
	return w.URLFile
}

// readURL reads the secret: the only line of the file, or of the variable, that is not empty.
func (n *Notifier) readURL(ctx context.Context, w *failover.Webhook) (string, error) {
	if w.URLEnv != "" {
		text, err := w.URLEnv.Read(os.LookupEnv, maxURLFile)
		if err != nil {
			return "", err
		}
		return parseURL(text, source(w))
	}
	text, err := localfile.Read(ctx, n.resolve(w.URLFile), maxURLFile)
	if err != nil {
		return "", fmt.Errorf("cannot read the webhook's URL: %w", err)
	}
	return parseURL(text, source(w))
}

func parseURL(text []byte, from string) (string, error) {
	line, rest, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	u, err := url.Parse(strings.TrimSpace(line))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || strings.TrimSpace(rest) != "" {
		return "", fmt.Errorf("cannot use %s: want one line with a URL that begins with http:// or https://", from)
	}
	return u.String(), nil
}

// sameHost follows a redirection only to the place that the URL names, and only one that sends the event again: the path
// of a webhook is its password, and an event for one host is none of another's business.
func sameHost(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects || req.Method != http.MethodPost || req.URL.Scheme != via[0].URL.Scheme || req.URL.Host != via[0].URL.Host {
		return http.ErrUseLastResponse // the answer is then the redirection, which is not 2xx
	}
	return nil
}

// reason says why a request failed in words of our own: the errors of net, net/http and crypto name the URL, its host or
// its address in one place or another, so none of their texts is passed on.
func reason(err error) string {
	var (
		name     *net.DNSError
		call     syscall.Errno
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		invalid  x509.CertificateInvalidError
		alert    tls.AlertError
		noTLS    tls.RecordHeaderError
	)
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer in time"
	case errors.Is(err, context.Canceled):
		return "called off"
	case errors.As(err, &name):
		if name.IsNotFound {
			return "its host name does not exist"
		}
		return "its host name could not be looked up"
	case errors.As(err, &unknown):
		return "its certificate is signed by an unknown authority"
	case errors.As(err, &hostname):
		return "its certificate is for another host"
	case errors.As(err, &invalid):
		if invalid.Reason == x509.Expired {
			return "its certificate is not valid now"
		}
		return "its certificate is not valid"
	case errors.As(err, &alert):
		return "tls: " + alert.Error()
	case errors.As(err, &noTLS), errors.Is(err, http.ErrSchemeMismatch):
		return "it does not speak TLS"
	case errors.As(err, &call):
		return call.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed without an answer"
	}
	return "the request failed"
}
