package control

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/watchover-ha/watchover/pkg/client"
)

// FuzzBodies: whatever is sent as an order is taken or refused in one line, and what is taken is within its bounds.
func FuzzBodies(f *testing.F) {
	for _, body := range []string{"", "{}", `{"to":"standby","force":true}`, `{"skip_step":true}`, `{"for":"2h","reason":"work"}`,
		`{"for":1}`, "[]", "{}{}", `{"x":`, "\xff", strings.Repeat("[", 2000)} {
		f.Add(body, "")
	}
	f.Add("", "force=true")
	f.Add("{}", "%zz")
	f.Fuzz(func(t *testing.T, body, query string) {
		for _, ask := range []any{&client.SwitchoverRequest{}, &client.RetryRequest{}, &client.PauseRequest{}, &struct{}{}} {
			r := httptest.NewRequest("POST", "/v1/x", strings.NewReader(body))
			r.URL.RawQuery = query
			e := readBody(r, ask)
			if e == nil {
				if p, ok := ask.(*client.PauseRequest); ok {
					d, refused := pauseFor(*p)
					if refused == nil && (d < 0 || len(p.Reason) > maxReason) {
						t.Errorf("%q was taken as a pause for %s", body, d)
					}
				}
				continue
			}
			if e.Code != client.CodeInvalid || e.Message == "" || len(e.Message) > 1<<10 && len(body) < 100 {
				t.Errorf("%q: %+v", body, e)
			}
		}
	})
}

// FuzzQuery: parameters are taken or refused, never half understood.
func FuzzQuery(f *testing.F) {
	for _, query := range []string{"", "follow=false", "since=1&n=2", "since=-1", "n=0", "follow=maybe", "since=1&since=2", "%zz", "a;b"} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		r := httptest.NewRequest("GET", "/v1/events", nil)
		r.URL.RawQuery = query
		if strings.Contains(query, "group") {
			return // asks the state
		}
		ask, e := (&Server{}).eventsAsked(r)
		if e == nil && (ask.most < 0 || ask.most > eventsMost) {
			t.Errorf("%q: %+v", query, ask)
		}
	})
}
