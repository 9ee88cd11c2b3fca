package control_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/watchover-ha/watchover/internal/control"
)

// methods are all that a program could send.
var methods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions}

// refusal holds a reply to what every error looks like.
func refusal(t *testing.T, response *http.Response, text string, status int, code, part string) {
	t.Helper()
	var reply struct{ Error, Code, Hint string }
	if err := json.Unmarshal([]byte(text), &reply); err != nil {
		t.Fatalf("no JSON: %d %q", response.StatusCode, text)
	}
	if response.StatusCode != status || reply.Code != code || !strings.HasPrefix(reply.Error, "cannot ") || !strings.Contains(reply.Error, part) {
		t.Errorf("got %d %s, want %d %s with %q", response.StatusCode, text, status, code, part)
	}
	if strings.Contains(reply.Error, "\n") {
		t.Errorf("more than one line: %q", reply.Error)
	}
}

// at fills a path's names in.
func at(pattern, group string) string {
	path := strings.NewReplacer("{group}", group, "{name}", "w3").Replace(pattern)
	if path == "/v1/policy" {
		path += "?revision=1"
	}
	return path
}

// TestEveryRoute sends to every path of the table what it should refuse: whoever adds a path is asked the same.
func TestEveryRoute(t *testing.T) {
	s := startServer(t, up())
	table := s.Table()
	if len(table) < 13 {
		t.Fatalf("only %d paths", len(table))
	}
	table["/v1/events"] = []string{http.MethodGet}
	for pattern, allowed := range table {
		t.Run(pattern, func(t *testing.T) {
			for _, method := range methods {
				if method == http.MethodHead { // has no body to look at
					if response, _ := s.ask(t, method, at(pattern, "shop"), ""); response.StatusCode != 405 {
						t.Errorf("HEAD: %d", response.StatusCode)
					}
					continue
				}
				if !slices.Contains(allowed, method) {
					response, text := s.ask(t, method, at(pattern, "shop"), "")
					refusal(t, response, text, 405, "invalid", "the method is not allowed")
					if response.Header.Get("Allow") != strings.Join(allowed, ", ") {
						t.Errorf("Allow: %q", response.Header.Get("Allow"))
					}
				}
			}
			for _, method := range allowed {
				if method == http.MethodGet {
					reads(t, s, pattern)
				} else {
					changes(t, s, method, pattern)
				}
			}
		})
	}
	if g := s.State().Groups["shop"]; g.Pause != nil || g.Switchover != nil || s.State().PolicyRevision != 1 {
		t.Error("a request that should be refused has changed something")
	}
}

func reads(t *testing.T, s *server, pattern string) {
	t.Helper()
	response, text := s.ask(t, "GET", pathOf(pattern)+"?colour=blue", "")
	refusal(t, response, text, 400, "invalid", `"colour"`)
	response, text = s.ask(t, "GET", pathOf(pattern)+"?%zz", "")
	refusal(t, response, text, 400, "invalid", "cannot read the parameters")
	if strings.Contains(pattern, "{group}") {
		response, text := s.ask(t, "GET", at(pattern, "shap"), "")
		refusal(t, response, text, 404, "not_found", `"shap"`)
	}
}

func pathOf(pattern string) string {
	path, _, _ := strings.Cut(at(pattern, "shop"), "?")
	return path
}

func changes(t *testing.T, s *server, method, pattern string) {
	t.Helper()
	path, policy := at(pattern, "shop"), pattern == "/v1/policy"
	limit := control.MaxBody
	if policy {
		limit = control.MaxPolicy
	}
	for body, part := range map[string]string{
		`{"colour":"blue"}`:          "",
		`["shop"]`:                   "",
		`"shop"`:                     "",
		`to: standby`:                "",
		`<html>`:                     "",
		"\x00\xff":                   "",
		`{`:                          "",
		strings.Repeat("[", 10000):   "",
		strings.Repeat(" ", limit+1): "larger than",
		`{"x":"` + strings.Repeat("x", limit) + `"}`: "",
	} {
		response, text := s.ask(t, method, path, body)
		refusal(t, response, text, 400, "invalid", part)
	}
	response, text := s.ask(t, method, pathOf(pattern)+"?force=true", "{}")
	refusal(t, response, text, 400, "invalid", `"force"`)
	if strings.Contains(pattern, "{group}") {
		response, text := s.ask(t, method, at(pattern, "shap"), "")
		refusal(t, response, text, 404, "not_found", `"shap"`)
	}
	s.uid.Store(65534)
	defer s.uid.Store(0)
	for _, body := range []string{"", "{}", "nonsense"} {
		response, text := s.ask(t, method, path, body)
		refusal(t, response, text, 403, "not_allowed", "uid 65534 is not allowed")
	}
}

// TestLimitsOfARequest: whatever is larger than it may be ends the request and nothing else.
func TestLimitsOfARequest(t *testing.T) {
	s := startServer(t, up())
	response, _ := s.ask(t, "GET", "/v1/status?wait="+strings.Repeat("1", 2*control.MaxHeader), "")
	if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a long request line: %d", response.StatusCode)
	}
	if response, _ := s.ask(t, "GET", "/v1/status", ""); response.StatusCode != 200 {
		t.Errorf("afterwards: %d", response.StatusCode)
	}
}
