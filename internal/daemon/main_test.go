package daemon

import (
	"os"
	"testing"

	"github.com/watchover-ha/watchover/internal/guard"
)

func TestMain(m *testing.M) {
	if guard.Main() { // this process is the guard of a test's programs
		return
	}
	os.Exit(m.Run())
}
