package client

import (
	"encoding/json"
	"testing"
)

// FuzzReplies: no reply, by whomever, makes a client fail otherwise than by an error that says something.
func FuzzReplies(f *testing.F) {
	for _, text := range []string{
		"", "{}", "null", "<html>", `{"error":"cannot","code":"refused","rule":"open","hint":"wait"}`,
		`{"error":"x","faults":[{"line":1,"path":"a","message":"b"}]}`,
		`{"watcher":"w1","time":"2026-01-01T12:00:00.500Z","groups":[{"name":"shop","apps":[{"name":"main","database":{"lag_bytes":null}}]}]}`,
		`{"seq":1,"time":"2026-01-01T12:00:00Z","type":"x","data":{"a":"b"}}`, `{"time":1}`, `{"revision":1,"policy":{"zone":{}}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, status := range []int{302, 400, 409, 503} {
			if err := replyError(status, text); err.Error() == "" {
				t.Errorf("%d %q: an error without a word", status, text)
			}
		}
		for _, reply := range []any{&Status{}, &Group{}, &Explanation{}, &History{}, &DryRun{}, &Started{}, &Accepted{}, &Event{}, &Policy{}, &PolicyTrial{}, &PolicySet{}} {
			if json.Unmarshal(text, reply) != nil {
				continue
			}
			if _, err := json.Marshal(reply); err != nil {
				t.Errorf("%T from %q cannot be written again: %v", reply, text, err)
			}
		}
	})
}
