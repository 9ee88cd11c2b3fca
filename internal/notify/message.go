package notify

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/watchover-ha/watchover/pkg/client"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// message is one event as a target gets it.
type message struct {
	id    string // equal each time the event is told
	body  []byte
	pairs [][2]string // identity, as for actions and hooks: environment or headers
}

// body is the event as /v1/events shows it, and the id.
type body struct {
	ID      string            `json:"id"`
	Seq     uint64            `json:"seq"`
	Time    client.Time       `json:"time"`
	Type    string            `json:"type"`
	Group   string            `json:"group"`
	App     string            `json:"app"`
	Text    string            `json:"text"`
	Data    map[string]string `json:"data"`
	Dropped uint64            `json:"dropped,omitempty"` // events before this one that were never told
}

// maxText is how much is told of an event's text, and of each of its data, in bytes: a program takes 64 KiB in all, and what
// it cannot take would be tried for ever. It cuts only what no person would read to its end.
const maxText = 4 << 10

func newMessage(n failover.Notice, watcher, group string, attempt int, deadline time.Time) (*message, error) {
	b := body{ID: n.ID, Seq: n.Seq, Time: client.Time{Time: n.Time}, Type: n.Type, Group: n.Group, App: n.App, Text: cut(n.Text), Data: map[string]string{}, Dropped: n.Lost}
	for key, value := range n.Data {
		b.Data[key] = cut(value)
	}
	text, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("cannot encode event %d: %w", n.Seq, err)
	}
	return &message{id: n.ID, body: append(text, '\n'), pairs: [][2]string{
		{"Group", group}, {"App", n.App}, {"From", n.Data["from"]}, {"To", n.Data["to"]}, {"Step", n.Data["step"]}, {"Kind", n.Data["kind"]},
		{"Switchover", n.Data["switchover"]}, {"Epoch", n.Data["epoch"]}, {"Attempt", strconv.Itoa(attempt)},
		{"Deadline", deadline.UTC().Format("2006-01-02T15:04:05.000Z07:00")}, {"Watcher", watcher},
	}}, nil
}

func cut(text string) string {
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxText], "") + "…"
}

// firstLine turns an output into the end of an error: ": " and its first line that says something.
func firstLine(output []byte) string {
	for line := range strings.Lines(string(output)) {
		if line = strings.TrimSpace(line); line != "" {
			const most = 200
			if len(line) > most {
				line = line[:most] + "…"
			}
			return ": " + strings.ToValidUTF8(line, "?")
		}
	}
	return ""
}
