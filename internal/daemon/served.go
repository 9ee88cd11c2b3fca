package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/watchover-ha/watchover/internal/nameserver"
	"github.com/watchover-ha/watchover/pkg/failover"
)

const (
	servedFile   = "served.json" // in the data directory
	servedFormat = 1
	maxServed    = 8 << 20 // bytes; the policy that it comes from is smaller than that by far
)

// servedZone is the zone as this watcher last answered it. It is made durable before it is answered. A watcher that was
// restarted answers it, marked as stale, until it has caught up with the cluster: its log alone does not tell how much of
// it was committed, and answering from an older part of it would take back what resolvers have seen.
type servedZone struct {
	Format     int             `json:"format"`
	Generation uint64          `json:"generation"` // of the cluster's history; within one, the serial only rises
	Index      uint64          `json:"index"`      // of the state that the zone was made from
	Zone       nameserver.Zone `json:"zone"`       // without its other records
	Records    string          `json:"records,omitempty"`
}

func servedOf(s *failover.State, zone nameserver.Zone) *servedZone {
	zone.Static = nil
	return &servedZone{Format: servedFormat, Generation: s.Generation, Index: s.Index, Zone: zone, Records: s.Policy.Zone.Records}
}

// answers builds what was answered, marked as stale.
func (s *servedZone) answers() (*nameserver.Answers, error) {
	zone := s.Zone
	zone.Stale = true
	var err error
	if zone.Static, err = nameserver.ParseStatic(zone.Name, zone.TTL, s.Records); err != nil {
		zone.Static = nil // they were left out then, too
	}
	answers, _, err := buildMost(zone) // what was missing then is missing again
	return answers, err
}

// newerThan reports whether a state is of the time before s was answered. A new generation of the cluster's history
// begins with a person's decision, and is followed.
func (s *servedZone) newerThan(state *failover.State) bool {
	return s != nil && s.Generation == state.Generation && s.Zone.Serial > state.Serial
}

// readServed returns nil if nothing was kept yet.
func readServed(dir string) (*servedZone, error) {
	path := filepath.Join(dir, servedFile)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read what was answered last: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxServed+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read what was answered last: %w", err)
	}
	if len(text) > maxServed {
		return nil, fmt.Errorf("cannot use %s: it is larger than %d bytes", path, maxServed)
	}
	s := &servedZone{}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("cannot use %s: %w", path, err)
	}
	if s.Format != servedFormat {
		return nil, fmt.Errorf("cannot use %s: its format is %d, this program reads %d", path, s.Format, servedFormat)
	}
	return s, nil
}

// write replaces the file so that a crash leaves the old or the new one, and returns once the new one is durable.
func (s *servedZone) write(dir string) error {
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("cannot encode what is answered: %w", err)
	}
	path := filepath.Join(dir, servedFile)
	if err := writeDurably(path+".tmp", text); err != nil {
		return fmt.Errorf("cannot keep what is answered: %w", err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return fmt.Errorf("cannot keep what is answered: %w", err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("cannot keep what is answered: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("cannot keep what is answered: %w", err)
	}
	return nil
}

func writeDurably(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}
