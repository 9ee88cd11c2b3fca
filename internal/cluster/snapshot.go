package cluster

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/raft"

	"github.com/watchover-ha/watchover/pkg/failover"
)

const (
	snapshotFormat = 1
	maxHeader      = 4 << 10   // bytes of the header line
	maxSnapshot    = 256 << 20 // bytes of the encoded state
)

// header is the first line of a snapshot; the encoded state follows it. Restoring less than was saved must never pass
// for success, so length and digest are checked.
type header struct {
	Format int    `json:"format"`
	Length int64  `json:"length"`
	SHA256 string `json:"sha256"`
}

// WriteSnapshot writes a state with what is needed to tell a whole one from a damaged one. It is the form of raft's
// snapshots and of the files of watchover snapshot.
func WriteSnapshot(w io.Writer, s *failover.State) error {
	body, err := s.Encode()
	if err != nil {
		return err
	}
	sum := sha256.Sum256(body)
	head, err := json.Marshal(header{Format: snapshotFormat, Length: int64(len(body)), SHA256: hex.EncodeToString(sum[:])})
	if err != nil {
		return fmt.Errorf("cannot encode snapshot header: %w", err)
	}
	if _, err := w.Write(append(head, '\n')); err != nil {
		return fmt.Errorf("cannot write snapshot: %w", err)
	}
	if _, err := w.Write(body); err != nil {
		return fmt.Errorf("cannot write snapshot: %w", err)
	}
	return nil
}

// ReadSnapshot reads what WriteSnapshot wrote, no more than maxSnapshot of it.
func ReadSnapshot(r io.Reader) (*failover.State, error) {
	in := bufio.NewReaderSize(r, maxHeader)
	line, err := in.ReadSlice('\n')
	var h header
	if err == nil {
		err = json.Unmarshal(line, &h)
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read snapshot: it has no header, so it is damaged or no snapshot at all: %w", err)
	}
	if h.Format != snapshotFormat {
		return nil, fmt.Errorf("cannot read snapshot: its format is %d, this program reads %d; use the version that wrote it", h.Format, snapshotFormat)
	}
	if h.Length < 0 || h.Length > maxSnapshot {
		return nil, fmt.Errorf("cannot read snapshot: it claims %d bytes, the limit is %d", h.Length, maxSnapshot)
	}
	var body bytes.Buffer // grows with what is really there
	got, err := io.Copy(&body, io.LimitReader(in, h.Length+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read snapshot: %w", err)
	}
	if got < h.Length {
		return nil, fmt.Errorf("cannot read snapshot: it is cut off: it should have %d bytes after the header and has %d", h.Length, got)
	}
	if got > h.Length {
		return nil, fmt.Errorf("cannot read snapshot: something follows the %d bytes that it should have after the header", h.Length)
	}
	if sum := sha256.Sum256(body.Bytes()); hex.EncodeToString(sum[:]) != h.SHA256 {
		return nil, fmt.Errorf("cannot read snapshot: its %d bytes are damaged (the digest differs)", got)
	}
	return failover.DecodeState(body.Bytes())
}

// checkNewestSnapshot refuses a directory whose newest snapshot is damaged. Raft would silently fall back to an older
// one, and the log between the two may be gone. It returns the state, nil if there is no snapshot.
func checkNewestSnapshot(store raft.SnapshotStore) (*failover.State, error) {
	list, err := store.List()
	if err != nil {
		return nil, fmt.Errorf("cannot list snapshots: %w", err)
	}
	if len(list) == 0 {
		return nil, nil
	}
	meta, r, err := store.Open(list[0].ID)
	if err != nil {
		return nil, fmt.Errorf("cannot open snapshot %s: %w; move the data directory away and let this watcher join anew", list[0].ID, err)
	}
	defer func() { _ = r.Close() }()
	s, err := ReadSnapshot(r)
	if err != nil {
		return nil, fmt.Errorf("cannot use snapshot %s: %w; move the data directory away and let this watcher join anew", meta.ID, err)
	}
	return s, nil
}
