//go:build crashpoints

package cluster

import (
	"os"
	"time"

	"github.com/hashicorp/raft"
)

// stallFile names a file as long as which exists every write to the log hangs.
const stallFile = "WATCHOVER_TEST_STALL"

// faulty makes the disk hang when a test wants it to.
func faulty(d Disk) Disk { return stalling{d} }

type stalling struct{ Disk }

func (s stalling) StoreLogs(logs []*raft.Log) error {
	stall()
	return s.Disk.StoreLogs(logs)
}

func (s stalling) SetUint64(key []byte, value uint64) error {
	stall()
	return s.Disk.SetUint64(key, value)
}

func stall() {
	file := os.Getenv(stallFile)
	for file != "" {
		if _, err := os.Stat(file); err != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}
