package cluster

import (
	"bytes"
	"encoding/json"
	"testing"
)

// FuzzReadHello: whatever a caller sends first, no more is taken in than a hello may have, and a hello that is read can
// be written again.
func FuzzReadHello(f *testing.F) {
	f.Add([]byte(greeting(`{"protocol":1,"kind":"raft","cluster":"prod","name":"w1"}`)))
	f.Add([]byte(greeting(`{}`)))
	f.Add([]byte(magic + "\xff\xff\xff\xff"))
	f.Add([]byte{tlsHandshake, 3, 1, 0, 0})
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r := bytes.NewReader(text)
		h, err := readHello(r)
		if taken := len(text) - r.Len(); taken > len(magic)+4+maxHello {
			t.Errorf("took %d bytes", taken)
		}
		if err != nil {
			return
		}
		if _, err := json.Marshal(h); err != nil {
			t.Error(err)
		}
	})
}

// FuzzRequest: no message between watchers is larger than its bound, and none that is no request is taken for one.
func FuzzRequest(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02{}"), int64(100))
	f.Add([]byte("\x00\x00\x00\x10"+`{"beat":{"a":1}}`), int64(100))
	f.Add([]byte("\xff\xff\xff\xff"), int64(100))
	f.Fuzz(func(t *testing.T, text []byte, limit int64) {
		body, err := readFrame(bytes.NewReader(text), limit)
		if err != nil {
			return
		}
		if int64(len(body)) > limit || len(body) > len(text)-4 {
			t.Errorf("read %d bytes of %d, at most %d", len(body), len(text), limit)
		}
		var back bytes.Buffer
		if err := writeFrame(&back, body); err != nil || !bytes.Equal(back.Bytes(), text[:4+len(body)]) {
			t.Errorf("writing it again: %v", err)
		}
		var q request
		_ = json.Unmarshal(body, &q)
	})
}
