//go:build !crashpoints

package switchover

import "github.com/watchover-ha/watchover/pkg/failover"

// crashPoint does nothing: only watchers built for tests, with the tag crashpoints, can be made to die at an entry.
func crashPoint(string, *failover.Journal) {}
