package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	askTimeout = 300 * time.Millisecond // of one request to a shop
	maxAnswer  = 64 << 10               // bytes of a shop's answer that are read
)

// shop is one sample app: where it is and how to talk to it.
type shop struct {
	Name, Address, Listen, URL string
	data                       string // its directory
	process                    *process
}

func newShop(name, address string, port int, data string) *shop {
	listen := net.JoinHostPort(address, strconv.Itoa(port))
	return &shop{Name: name, Address: address, Listen: listen, URL: "http://" + listen, data: data}
}

// condition is what a shop says of itself.
type condition struct {
	Open   bool   // not in maintenance
	Role   string // of its database
	Frozen bool
	Seq    int // orders in its database
}

// web is the HTTP client for everything but the customer's orders. Connections are not kept, so that a killed shop is
// noticed at once.
var web = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// ask sends one request and returns the HTTP status and the body.
func ask(ctx context.Context, c *http.Client, method, target string, form url.Values) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, nil, fmt.Errorf("cannot make request for %s: %w", target, err)
	}
	if form != nil {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	response, err := c.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	return response.StatusCode, body, err
}

// order places an order; an error means that it was not taken, as far as the customer can know.
func order(ctx context.Context, c *http.Client, base, name, item string) error {
	status, body, err := ask(ctx, c, http.MethodPost, base+"/orders", url.Values{"name": {name}, "item": {item}})
	if err == nil && status != http.StatusSeeOther {
		err = fmt.Errorf("the shop answers %d: %.80s", status, body)
	}
	return err
}

// closed tells whether the shop is in maintenance.
func (s *shop) closed(ctx context.Context) (bool, error) {
	status, _, err := ask(ctx, web, http.MethodGet, s.URL+"/admin/maintenance", nil)
	return status == http.StatusOK, err
}

// close puts the shop into maintenance.
func (s *shop) close(ctx context.Context) error {
	status, body, err := ask(ctx, web, http.MethodPut, s.URL+"/admin/maintenance", nil)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("it answers %d: %.80s", status, body)
	}
	if err != nil {
		return fmt.Errorf("cannot put %s into maintenance: %w", s.Name, err)
	}
	return nil
}

// condition asks the shop and its database how they are.
func (s *shop) condition(ctx context.Context) (condition, error) {
	closed, err := s.closed(ctx)
	if err != nil {
		return condition{}, err
	}
	c := condition{Open: !closed}
	_, body, err := ask(ctx, web, http.MethodGet, s.URL+"/admin/db", nil)
	if err != nil {
		return condition{}, err
	}
	if err := json.Unmarshal(body, &c); err != nil {
		return condition{}, fmt.Errorf("cannot read what the database of %s says: %w", s.Name, err)
	}
	return c, nil
}

// sum is the check sum over the first n orders of the shop's database, each with its number, time and text. Two
// databases with the same sum hold the same orders.
func (s *shop) sum(ctx context.Context, n int) (string, error) {
	status, body, err := ask(ctx, web, http.MethodGet, s.URL+"/replication/sum?seq="+strconv.Itoa(n), nil)
	if err != nil {
		return "", fmt.Errorf("cannot ask %s for its orders: %w", s.Name, err)
	}
	var answer struct{ Sum string }
	if err := json.Unmarshal(body, &answer); status != http.StatusOK || err != nil || answer.Sum == "" {
		return "", fmt.Errorf("%s does not have %d orders: %.80s", s.Name, n, body)
	}
	return answer.Sum, nil
}
