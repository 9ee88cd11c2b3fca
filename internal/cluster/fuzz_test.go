package cluster

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// FuzzReadSnapshot: a damaged or foreign snapshot is an error, and never more memory than it has bytes.
func FuzzReadSnapshot(f *testing.F) {
	var sound bytes.Buffer
	if err := writeSnapshot(&sound, failover.NewState()); err != nil {
		f.Fatal(err)
	}
	f.Add(sound.Bytes())
	f.Add(sound.Bytes()[:sound.Len()-1])
	f.Add([]byte("{\"format\":1,\"length\":99999999999}\n"))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		state, err := readSnapshot(bytes.NewReader(text))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := writeSnapshot(&again, state); err != nil {
			t.Errorf("what was read cannot be written again: %v", err)
		}
	})
}

// FuzzFrame: what another watcher sends is taken as a whole or not at all, and bounded by what it announces.
func FuzzFrame(f *testing.F) {
	var sound bytes.Buffer
	if err := writeFrame(&sound, []byte(`{"failed":{"group":"shop","app":"main"}}`)); err != nil {
		f.Fatal(err)
	}
	f.Add(sound.Bytes())
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0, 0, 0, 9, '{'})
	f.Fuzz(func(t *testing.T, text []byte) {
		body, err := readFrame(bytes.NewReader(text), 1<<10)
		if err != nil {
			return
		}
		if len(body) > 1<<10 || len(body) > len(text)-4 {
			t.Errorf("%d bytes out of %d", len(body), len(text))
		}
		var q request
		var a answer
		_, _ = json.Unmarshal(body, &q), json.Unmarshal(body, &a)
	})
}
