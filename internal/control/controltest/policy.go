package controltest

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/watchover-ha/watchover/pkg/client"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// PolicyText writes a policy as plain JSON, and nothing else: what a file looks like is not this package's business.
type PolicyText struct{}

// Parse reads what YAML writes, strictly.
func (PolicyText) Parse(text []byte, _ *failover.State) (failover.Policy, []client.Fault) {
	var p failover.Policy
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil {
		return p, []client.Fault{{Line: 1, Path: "groups.shop", Message: err.Error()}, {Line: 2, Message: "and so on"}}
	}
	return p, nil
}

// YAML writes a policy.
func (PolicyText) YAML(p failover.Policy) ([]byte, error) { return json.Marshal(p) }

// JSON writes a policy.
func (PolicyText) JSON(p failover.Policy) ([]byte, error) { return json.Marshal(p) }

// Diff says how many groups there were and are.
func (PolicyText) Diff(before, after failover.Policy) (string, error) {
	return fmt.Sprintf("-%d groups\n+%d groups\n", len(before.Groups), len(after.Groups)), nil
}
