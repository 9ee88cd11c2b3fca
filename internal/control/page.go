package control

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"time"

	"github.com/watchover-ha/watchover/pkg/client"
)

//go:embed page.html
var pageText string

//go:embed page.css
var pageStyle string

// pagePolicy lets the page load nothing but its own style sheet, named by its digest: even if something of the state
// were not escaped, it could not run.
var pagePolicy = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src 'sha256-" + digest(pageStyle) + "'"

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.StdEncoding.EncodeToString(sum[:])
}

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"ago":   func(t *client.Time, now time.Time) string { return ago(t, now) },
	"class": class,
	"ended": func(s *client.Switchover) bool { return s.EndedAt != nil },
}).Parse(pageText))

type pageData struct {
	client.Status
	Style  template.CSS
	Now    time.Time
	Leader string
	Shown  []shownGroup
}

// shownGroup is a group with the switchover worth showing: the open one, else the last.
type shownGroup struct {
	client.Group
	Run *client.Switchover
}

func renderPage(s client.Status, now time.Time) ([]byte, error) {
	data := pageData{Status: s, Style: template.CSS(pageStyle), Now: now}
	if s.Cluster.Leader != nil {
		data.Leader = *s.Cluster.Leader
	}
	for _, g := range s.Groups {
		run := g.Switchover
		if run == nil {
			run = g.LastSwitchover
		}
		data.Shown = append(data.Shown, shownGroup{Group: g, Run: run})
	}
	var out bytes.Buffer
	if err := pageTemplate.Execute(&out, data); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// ago is how long something has been so, in a person's measure.
func ago(t *client.Time, now time.Time) string {
	if t == nil {
		return ""
	}
	d := max(now.Sub(t.Time), 0)
	switch {
	case d < time.Minute:
		return d.Truncate(time.Second).String()
	case d < 48*time.Hour:
		return d.Truncate(time.Minute).String()
	}
	return d.Truncate(time.Hour).String()
}

// class sorts the words of the API into good, bad and in between, for their colour.
func class(word string) string {
	switch word {
	case "up", "steady", "done", "ready", "armed":
		return "good"
	case "down", "halted", "failed", "aborted":
		return "bad"
	case "suspect", "switching", "running", "marked", "undone", "unknown", "done_with_exceptions":
		return "warn"
	}
	return "plain"
}
