package proctest

import (
	"encoding/json"
	"testing"
	"time"
)

// eventually polls until a condition holds; the second result is shown when it never does.
func eventually(t *testing.T, what string, condition func() (bool, any)) {
	t.Helper()
	end := time.NewTimer(patience)
	defer end.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, last := condition()
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-end.C:
			t.Fatalf("still not after %s: %s; last seen: %v", patience, what, last)
		}
	}
}

// during checks again and again, for a while, that a condition goes on to hold.
func during(t *testing.T, d time.Duration, what string, condition func() (bool, any)) {
	t.Helper()
	end := time.NewTimer(d)
	defer end.Stop()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, last := condition(); !ok {
			t.Fatalf("no longer so: %s; seen: %v", what, last)
		}
		select {
		case <-tick.C:
		case <-end.C:
			return
		}
	}
}

func shown(v any) string {
	text, _ := json.Marshal(v)
	return string(text)
}

func orElse(text, fallback string) string {
	if text == "" {
		return fallback
	}
	return text
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
