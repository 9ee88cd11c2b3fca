package failover

import (
	"bytes"
	"encoding/json"
)

// Equal reports whether two policies mean the same: whether they are written alike in the log.
func (p *Policy) Equal(other *Policy) bool {
	if p == nil || other == nil {
		return p == other
	}
	a, errA := json.Marshal(p)
	b, errB := json.Marshal(other)
	return errA == nil && errB == nil && bytes.Equal(a, b)
}
