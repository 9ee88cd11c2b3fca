package switchover

import (
	"testing"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// FuzzParseRole: what a role program prints is primary or replica with sound words, or an error; never good news by
// accident.
func FuzzParseRole(f *testing.F) {
	for _, text := range []string{"", "primary", "replica streaming lag_bytes=0 lag_seconds=0.5 id=x", "replica frozen\n", "Primary", "replica lag_bytes=-1",
		"replica lag_seconds=NaN", "replica lag_seconds=1e400", "primary primary", "replica id=", "\xff"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		o, err := parseRole(text)
		if err != nil {
			if o.Role != "" {
				t.Errorf("%q: role %q beside error %v", text, o.Role, err)
			}
			return
		}
		if o.Role != failover.RolePrimary && o.Role != failover.RoleReplica {
			t.Errorf("%q: role %q", text, o.Role)
		}
		if o.LagBytes != nil && *o.LagBytes < 0 || o.LagSeconds != nil && !(*o.LagSeconds >= 0) {
			t.Errorf("%q: %+v", text, o)
		}
	})
}
