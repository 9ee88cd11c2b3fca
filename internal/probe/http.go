package probe

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/watchover-ha/watchover/pkg/failover"
)

const (
	maxBody           = 64 << 10 // bytes of an answer that are read, and searched for expect_body
	maxResponseHeader = 64 << 10 // bytes
	// connectionIntervals is for how many intervals a connection is kept: so often even an app that answers shows that it
	// still accepts connections, and that its certificate is still in time. What one watcher then finds, all others look
	// for at once, on connections of their own.
	connectionIntervals = 5
)

// httpCheck: an expected status and, if asked for, a body with an expected text is up. Redirects are answers like any
// other, and no proxy of the environment is used: the probe asks this one server.
//
// Between two checks one connection is kept. It saves handshakes, and it is a sensor: when a process dies, its kernel
// closes the connection, and the next check is asked for at once instead of with the next interval.
type httpCheck struct {
	keeper     keeper
	transport  *http.Transport
	request    *http.Request // copied for every check
	body       string
	status     []int // empty: any 2xx
	expectBody []byte
	caFile     *watchedFile
	headerFile *watchedFile
	headerEnv  failover.Variable // instead of headerFile
	maxAge     time.Duration     // of the kept connection
	buffer     []byte            // for the answer's body
}

func newHTTPCheck(spec failover.Probe, around surroundings) (checker, error) {
	request, err := newRequest(spec.HTTP)
	if err != nil {
		return nil, err
	}
	check := &httpCheck{
		request:    request,
		body:       spec.Body,
		status:     spec.ExpectStatus,
		expectBody: []byte(spec.ExpectBody),
		caFile:     newWatchedFile(around.dir, spec.CAFile),
		headerFile: newWatchedFile(around.dir, spec.HeaderFile),
		headerEnv:  spec.HeaderEnv,
		maxAge:     connectionIntervals * around.interval,
		buffer:     make([]byte, 0, 512),
	}
	check.keeper.dialer.Timeout = around.timeout
	check.keeper.hurry = around.hurry
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	check.transport = &http.Transport{
		DialContext:            check.keeper.dial,
		TLSClientConfig:        &tls.Config{ServerName: serverName(request), MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    around.timeout,
		Protocols:              &protocols,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    1,
		MaxResponseHeaderBytes: maxResponseHeader,
	}
	return check, nil
}

func newRequest(spec failover.HTTP) (*http.Request, error) {
	target, err := url.Parse(spec.URL)
	if err != nil || (target.Scheme != "http" && target.Scheme != "https") || target.Host == "" {
		return nil, fmt.Errorf("cannot use url %q: write it as http://host/path or https://host/path", spec.URL)
	}
	if target.User != nil {
		return nil, errors.New("cannot use a url with a user in it: put an Authorization line into header_file or header_env")
	}
	if !httpguts.ValidHostHeader(spec.Host) {
		return nil, fmt.Errorf("cannot use host %q: it is not a host name", spec.Host)
	}
	request, err := http.NewRequest(cmp.Or(spec.Method, http.MethodGet), spec.URL, nil)
	if err != nil {
		return nil, fmt.Errorf("cannot make a request: %w", err)
	}
	request.Host = cmp.Or(spec.Host, target.Host)
	request.Header.Set("User-Agent", "watchover")
	return request, nil
}

// serverName is the name that the certificate must be made out to.
func serverName(request *http.Request) string {
	if host, _, err := net.SplitHostPort(request.Host); err == nil {
		return host
	}
	return strings.Trim(request.Host, "[]")
}

func (c *httpCheck) check(ctx context.Context) (answer, error) {
	c.keeper.begin()
	if err := c.refresh(ctx); err != nil {
		return answer{}, err
	}
	if c.keeper.age() > c.maxAge {
		c.drop()
	}
	response, err := c.ask(ctx)
	if err != nil {
		c.drop()
		return answer{expires: expiry(tls.ConnectionState{}, err)}, err
	}
	kept, err := c.read(response)
	if err != nil || !kept {
		c.drop()
	} else {
		c.keeper.keep()
	}
	var got answer
	if response.TLS != nil {
		got.expires = expiry(*response.TLS, nil)
	}
	return got, err
}

// ask sends the request. A kept connection that the server closed in that very moment is no sign of trouble, so then
// the request is sent once more over a new one, within the same deadline.
func (c *httpCheck) ask(ctx context.Context) (*http.Response, error) {
	dialled := c.keeper.dialled.Load()
	response, err := c.send(ctx)
	if err == nil || ctx.Err() != nil || c.keeper.dialled.Load() != dialled {
		return response, err
	}
	c.drop()
	return c.send(ctx)
}

// send sends the request once. The transport dials apart from the request, so at the deadline it says that time is up
// and not whose fault that is: if the host's name is still being looked up then, it is the resolver's.
func (c *httpCheck) send(ctx context.Context) (*http.Response, error) {
	host := c.request.URL.Hostname()
	if _, err := netip.ParseAddr(host); err == nil {
		return c.transport.RoundTrip(c.newRequest(ctx))
	}
	var resolving atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart: func(httptrace.DNSStartInfo) { resolving.Store(true) },
		DNSDone:  func(httptrace.DNSDoneInfo) { resolving.Store(false) },
	})
	response, err := c.transport.RoundTrip(c.newRequest(ctx))
	if err != nil && ctx.Err() != nil && resolving.Load() {
		err = &net.DNSError{Err: "no answer in time", Name: host, IsTimeout: true}
	}
	return response, err
}

func (c *httpCheck) newRequest(ctx context.Context) *http.Request {
	request := c.request.WithContext(ctx)
	if c.body != "" {
		request.Body = io.NopCloser(strings.NewReader(c.body))
		request.ContentLength = int64(len(c.body))
	}
	return request
}

// read judges the answer. kept says whether its connection can serve the next check.
func (c *httpCheck) read(response *http.Response) (kept bool, err error) {
	defer func() { _ = response.Body.Close() }() // what was read is what counts
	whole, err := c.readBody(response.Body)
	if err != nil {
		return false, err
	}
	kept = whole && !response.Close
	if len(c.status) > 0 && !slices.Contains(c.status, response.StatusCode) {
		return false, fmt.Errorf("status %d, want %s", response.StatusCode, listed(c.status))
	}
	if len(c.status) == 0 && response.StatusCode/100 != 2 {
		return false, fmt.Errorf("status %d, want 2xx", response.StatusCode)
	}
	if !bytes.Contains(c.buffer, c.expectBody) {
		return false, errors.New(printable(fmt.Sprintf("body without %q", c.expectBody)))
	}
	return kept, nil
}

// readBody fills the buffer with at most maxBody bytes; whole says whether that was everything.
func (c *httpCheck) readBody(body io.Reader) (whole bool, err error) {
	c.buffer = c.buffer[:0]
	for len(c.buffer) < maxBody {
		if len(c.buffer) == cap(c.buffer) {
			c.buffer = slices.Grow(c.buffer, min(cap(c.buffer), maxBody-len(c.buffer)))
		}
		n, err := body.Read(c.buffer[len(c.buffer):min(cap(c.buffer), maxBody)])
		c.buffer = c.buffer[:len(c.buffer)+n]
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, fmt.Errorf("body: %w", err)
		}
	}
	return false, nil
}

// refresh takes in changed files, and the headers as they are in the environment.
func (c *httpCheck) refresh(ctx context.Context) error {
	if c.headerEnv != "" {
		if err := c.readVariable(); err != nil {
			return errUnable{err}
		}
	}
	if c.headerFile != nil {
		data, err := c.headerFile.changed(ctx)
		if err != nil {
			return err
		}
		if data != nil {
			if err := c.setHeaders(data); err != nil {
				c.headerFile.forget()
				return errUnable{fmt.Errorf("cannot use %s: %w", c.headerFile.path, err)}
			}
		}
	}
	if c.caFile == nil {
		return nil
	}
	pool, err := loadPool(ctx, c.caFile)
	if err != nil || pool == nil {
		return err
	}
	c.drop()
	// A transport must not be changed once used, so the new roots come with a new one.
	next := c.transport.Clone()
	next.TLSClientConfig = withRoots(c.transport.TLSClientConfig, pool)
	c.transport = next
	return nil
}

// readVariable takes the headers from the environment.
func (c *httpCheck) readVariable() error {
	data, err := c.headerEnv.Read(os.LookupEnv, maxFile)
	if err != nil {
		return err
	}
	if err := c.setHeaders(data); err != nil {
		return fmt.Errorf("cannot use %s: %w", c.headerEnv, err)
	}
	return nil
}

func (c *httpCheck) setHeaders(data []byte) error {
	header, err := parseHeaders(data)
	if err != nil {
		return err
	}
	if header.Get("User-Agent") == "" {
		header.Set("User-Agent", "watchover")
	}
	request := c.request.Clone(context.Background())
	request.Header = header
	c.request = request
	return nil
}

func (c *httpCheck) drop() {
	c.keeper.begin() // a connection that we close is no news
	c.transport.CloseIdleConnections()
}

func listed(status []int) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(status), " ", " or "), "[]")
}
