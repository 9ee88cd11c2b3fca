//go:build servers

package database

import (
	"os"
	"testing"

	"github.com/watchover-ha/watchover/internal/dbtest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	dbtest.Sweep()
	os.Exit(code)
}
