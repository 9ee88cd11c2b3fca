//go:build servers

package database

import (
	"os"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/internal/dbtest"
)

func TestMain(m *testing.M) {
	warmAnswer = 10 * time.Second // tests count connections, and the machine may be busy
	code := m.Run()
	dbtest.Sweep()
	os.Exit(code)
}
