package config

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// Bounds on programs and hooks.
const (
	maxArgs  = 64
	maxHooks = 16
)

var methods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

// action reads exactly one of http and exec. method is what an http request uses unless it says otherwise: GET where
// something is asked, POST where something is done.
func (r *reader) action(v value, method string) failover.Action {
	var a failover.Action
	m := v.mapping()
	http, hasHTTP := m.get("http")
	exec, hasExec := m.get("exec")
	m.refuse("webhook", "webhooks are for notifications, under notify; use http")
	if hasHTTP {
		h := http.mapping()
		request := r.http(h, method)
		h.done()
		a.HTTP = &request
	}
	if hasExec {
		a.Exec = exec.argv()
	}
	switch {
	case hasHTTP && hasExec:
		v.fault("want either http or exec, got both")
	case !m.broken && len(m.keys) == 0:
		v.fault("want http or exec, got neither")
	}
	m.done()
	return a
}

// http reads a request's keys out of m, which may hold others.
func (r *reader) http(m *mapping, method string) failover.HTTP {
	h := failover.HTTP{Method: method}
	choice(m, "method", &h.Method, methods...)
	if v, ok := m.need("url", "the address to send the request to, like http://192.0.2.10/healthz"); ok {
		h.URL = r.url(v)
	}
	if v, ok := m.get("host"); ok {
		if s, ok := v.oneLine(); ok && v.httpHost(s) {
			h.Host = s
		}
	}
	m.oneLine("ca_file", &h.CAFile)
	if h.CAFile != "" && strings.HasPrefix(h.URL, "http:") {
		m.fields["ca_file"].fault("has no use for an http URL; want https")
	}
	m.secret("header", &h.HeaderFile, &h.HeaderEnv)
	m.text("body", &h.Body, maxBody)
	if v, ok := m.get("expect_status"); ok {
		h.ExpectStatus = v.statuses()
	}
	return h
}

// httpHost checks a Host header: a host, with or without a port.
func (v value) httpHost(s string) bool {
	u, err := url.Parse("http://" + s)
	if err != nil || u.Host != s || u.Hostname() == "" {
		v.fault("want a host name for the Host header, got %q", clip(s))
		return false
	}
	return v.host(u.Hostname())
}

func (v value) statuses() []int {
	var out []int
	for _, item := range v.list(50) {
		n, ok := item.number(100, 599)
		if ok && slices.Contains(out, n) {
			item.fault("%d is given twice", n)
		} else if ok {
			out = append(out, n)
		}
	}
	return out
}

// secretParameters are names of URL parameters that hold credentials more often than not.
var secretParameters = []string{"access_token", "api_key", "apikey", "auth", "key", "password", "secret", "token"}

// url reads an absolute http or https URL. It never repeats one that holds a password.
func (r *reader) url(v value) string {
	s, ok := v.oneLine()
	if !ok {
		return ""
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		v.fault("is not a URL") // url.Error quotes the text, userinfo and all
	case u.User != nil:
		v.fault("holds a user name or password; secrets stay out of the file: use header_file or header_env")
	case u.Scheme != "http" && u.Scheme != "https":
		v.fault("want a URL that begins with http:// or https://, got %q", clip(s))
	case u.Hostname() == "":
		v.fault("%q has no host", clip(s))
	case u.Fragment != "":
		v.fault("%q has a fragment (#), which is never sent", clip(s))
	case !validPort(u):
		v.fault("want a port of 1 to 65535, got %q", clip(u.Port()))
	case v.host(u.Hostname()):
		for parameter := range u.Query() {
			if slices.Contains(secretParameters, strings.ToLower(parameter)) {
				r.warn(v, "parameter "+strconv.Quote(clip(parameter))+" looks like a secret, and URLs are replicated and shown; use header_file or header_env")
			}
		}
		return s
	}
	return ""
}

func validPort(u *url.URL) bool {
	if u.Port() == "" {
		return !strings.HasSuffix(u.Host, ":")
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	return err == nil && n > 0
}

// argv reads a program and its arguments. The program is a path, so that what runs does not depend on whose PATH it is
// looked up in: an absolute one, or one with a slash that is resolved beside the file.
func (v value) argv() []string {
	items := v.list(maxArgs)
	if len(items) == 0 {
		if v.emptyList() {
			v.fault("is empty; want a program and its arguments")
		}
		return nil
	}
	out := make([]string, 0, len(items))
	for i, item := range items {
		s, ok := item.text(maxText)
		switch {
		case !ok:
			continue
		case i == 0 && s == "":
			item.fault("is empty; want the path of a program")
		case i == 0 && !strings.Contains(s, "/"):
			item.fault("want the path of a program, got %q; PATH is not searched: write it out, or ./%s for one beside this file", clip(s), clip(s))
		}
		out = append(out, s)
	}
	return out
}

// hooks reads a list of actions.
func (r *reader) hooks(m *mapping, key string) []failover.Action {
	v, ok := m.get(key)
	if !ok {
		return nil
	}
	var out []failover.Action
	for _, item := range v.list(maxHooks) {
		out = append(out, r.action(item, "POST"))
	}
	return out
}
