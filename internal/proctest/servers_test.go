//go:build servers

package proctest

import "github.com/watchover-ha/watchover/internal/dbtest"

func init() { sweep = dbtest.Sweep }
