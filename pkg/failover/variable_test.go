package failover

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestVariable(t *testing.T) {
	environment := map[string]string{"EMPTY": "", "FULL": "hunter2", "LONG": "hunter2hunter2"}
	lookup := func(name string) (string, bool) {
		value, ok := environment[name]
		return value, ok
	}
	for _, tc := range []struct {
		name        Variable
		value, want string
	}{
		{"FULL", "hunter2", ""},
		{"EMPTY", "", ""},
		{"NONE", "", "cannot read environment variable NONE: it is not set"},
		{"LONG", "", "cannot use environment variable LONG: it is larger than 7 bytes"},
	} {
		value, err := tc.name.Read(lookup, 7)
		if string(value) != tc.value || err == nil && tc.want != "" || err != nil && err.Error() != tc.want {
			t.Errorf("%s: %q, %v; want %q, %s", tc.name, value, err, tc.value, tc.want)
		}
	}
}

// The name of a webhook's variable, and nothing else, is in the log; a target named by a file is the one that it was before
// there were variables, so that it is not told everything anew.
func TestWebhookInTheLog(t *testing.T) {
	for want, w := range map[string]*Webhook{`{"webhook":{"url_file":"slack.url"}}`: {URLFile: "slack.url"}, `{"webhook":{"url_env":"SLACK_URL"}}`: {URLEnv: "SLACK_URL"}} {
		if text, err := json.Marshal(&Action{Webhook: w}); err != nil || string(text) != want {
			t.Errorf("got %s, %v; want %s", text, err, want)
		}
	}
	a, b := Action{Webhook: &Webhook{URLFile: "X"}}, Action{Webhook: &Webhook{URLEnv: "X"}}
	if a.Key() == b.Key() || strings.Contains(a.Key(), "X") {
		t.Errorf("%s and %s are two targets", a.Key(), b.Key())
	}
}
