package client

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
)

// YAML is a request's body that is sent as it is.
type YAML []byte

// Policy is the reply to GET /v1/policy.
type Policy struct {
	Revision uint64 `json:"revision"` // of the policy in force; 0: there is none yet
	// Policy is zone and groups in the shape of the file, every default written out; null: there is none yet. JSON being
	// YAML, it can be sent back as it is.
	Policy json.RawMessage `json:"policy"`
}

// PolicyTrial is what proposing a policy would come to: the reply to PUT /v1/policy?dry_run=true.
type PolicyTrial struct {
	Revision uint64 `json:"revision"` // of the policy in force, that it was measured against
	Changed  bool   `json:"changed"`
	Diff     string `json:"diff"`    // unified; empty: nothing changes
	Refused  string `json:"refused"` // the rule and its detail; empty: it would be accepted
}

// PolicySet is the reply to PUT /v1/policy.
type PolicySet struct {
	Index    uint64 `json:"index"`    // of the entry that holds the proposal
	Revision uint64 `json:"revision"` // of the policy now in force
	Changed  bool   `json:"changed"`
	Note     string `json:"note"`
}

// Fault is one thing that is wrong in a policy that was sent.
type Fault struct {
	Line    int    `json:"line"` // counted from 1; 0: of the text as a whole
	Path    string `json:"path"` // such as groups.shop.apps[0].probes[1].url
	Message string `json:"message"`
}

// PolicyPath is the path by which a policy is proposed to whoever has seen that revision; dry: only tried.
func PolicyPath(revision uint64, dry bool) string {
	if dry {
		return "/v1/policy?dry_run=true"
	}
	return "/v1/policy?revision=" + strconv.FormatUint(revision, 10)
}

// Policy asks for the policy in force.
func (c *Client) Policy(ctx context.Context) (*Policy, error) {
	return call[Policy](ctx, c, http.MethodGet, "/v1/policy", nil)
}

// TryPolicy asks what proposing the policy would come to.
func (c *Client) TryPolicy(ctx context.Context, text YAML) (*PolicyTrial, error) {
	return call[PolicyTrial](ctx, c, http.MethodPut, PolicyPath(0, true), text)
}

// SetPolicy puts a policy in force if the one in force is still that revision.
func (c *Client) SetPolicy(ctx context.Context, revision uint64, text YAML) (*PolicySet, error) {
	return call[PolicySet](ctx, c, http.MethodPut, PolicyPath(revision, false), text)
}
