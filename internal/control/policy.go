package control

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/watchover-ha/watchover/pkg/client"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// maxPolicy bounds a policy that is proposed, in bytes; the same as for a file.
const maxPolicy = 1 << 20

// PolicyText is how a policy is written down; the daemon knows.
type PolicyText interface {
	// Parse reads zone and groups from YAML and holds them against what the state says of the members. Faults come all at
	// once. It reads no file: whoever asks may not be allowed to.
	Parse(text []byte, s *failover.State) (failover.Policy, []client.Fault)
	// YAML and JSON write a policy in the shape that Parse reads.
	YAML(p failover.Policy) ([]byte, error)
	JSON(p failover.Policy) ([]byte, error)
	// Diff is a unified diff of the two policies' YAML; empty if they are the same.
	Diff(before, after failover.Policy) (string, error)
}

func (s *Server) policy(r *http.Request) (int, any, *client.Error) {
	if e := onlyQuery(r, "format"); e != nil {
		return 0, nil, e
	}
	state := s.backend.State()
	switch format := r.URL.Query().Get("format"); format {
	case "", "json":
	case "yaml":
		return s.policyYAML(state)
	default:
		return 0, nil, fail(client.CodeInvalid, "format is json or yaml", "cannot write a policy as %q", format)
	}
	reply := client.Policy{Revision: state.PolicyRevision}
	if state.Policy != nil {
		text, err := s.policyText.JSON(*state.Policy)
		if err != nil {
			return 0, nil, fail(client.CodeInternal, "", "%v", err)
		}
		reply.Policy = text
	}
	return http.StatusOK, reply, nil
}

// policyYAML is for people, and for `watchover apply`: the revision is a comment.
func (s *Server) policyYAML(state *failover.State) (int, any, *client.Error) {
	if state.Policy == nil {
		return 0, nil, fail(client.CodeNotFound, "`watchover status` shows which watchers are missing", "cannot show the policy: the cluster has none before its first start is complete")
	}
	text, err := s.policyText.YAML(*state.Policy)
	if err != nil {
		return 0, nil, fail(client.CodeInternal, "", "%v", err)
	}
	return http.StatusOK, yamlReply(fmt.Sprintf("# policy revision %d of cluster %s\n%s", state.PolicyRevision, state.Cluster, text)), nil
}

// yamlReply is a reply that is no JSON.
type yamlReply string

// putPolicy proposes a policy, or tells what proposing it would come to. The latter changes nothing, so whoever may read
// may ask for it.
func (s *Server) putPolicy(r *http.Request) (int, any, *client.Error) {
	if e := onlyQuery(r, "revision", "dry_run"); e != nil {
		return 0, nil, e
	}
	dry, e := truth(r.URL.Query().Get("dry_run"), "dry_run", false)
	if e != nil {
		return 0, nil, e
	}
	if dry {
		return s.tryPolicy(r)
	}
	return s.changing(s.setPolicy)(r)
}

// tryPolicy asks the rules themselves, on a copy of the state that is thrown away.
func (s *Server) tryPolicy(r *http.Request) (int, any, *client.Error) {
	if e := onlyQuery(r, "dry_run"); e != nil {
		return 0, nil, e
	}
	state := s.backend.State()
	p, e := s.readPolicy(r, state)
	if e != nil {
		return 0, nil, e
	}
	trial := client.PolicyTrial{Revision: state.PolicyRevision}
	if p.Equal(state.Policy) {
		return http.StatusOK, trial, nil
	}
	trial.Changed = true
	var err error
	if trial.Diff, err = s.policyText.Diff(*state.Policy, *p); err != nil {
		return 0, nil, fail(client.CodeInternal, "", "%v", err)
	}
	if result := state.TryPolicy(*p); !result.Accepted {
		trial.Refused = result.Rule + ": " + result.Detail
	}
	return http.StatusOK, trial, nil
}

func (s *Server) setPolicy(r *http.Request) (int, any, *client.Error) {
	text := r.URL.Query().Get("revision")
	revision, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, nil, fail(client.CodeInvalid, "GET /v1/policy tells the revision in force; ?dry_run=true shows what would change",
			"cannot set the policy: revision %q is no number; it says which policy the proposal was made for", text)
	}
	state := s.backend.State()
	p, e := s.readPolicy(r, state)
	if e != nil {
		return 0, nil, e
	}
	result, e := s.order(r, "set the policy", failover.Command{SetPolicy: &failover.SetPolicy{Revision: revision, Policy: *p}})
	if e != nil {
		return 0, nil, e
	}
	reply := client.PolicySet{Index: result.Index, Revision: result.Index, Changed: true, Note: result.Note}
	if result.Note != "" { // unchanged
		reply.Revision, reply.Changed = revision, false
	}
	return http.StatusOK, reply, nil
}

// readPolicy reads the request's body.
func (s *Server) readPolicy(r *http.Request, state *failover.State) (*failover.Policy, *client.Error) {
	if state.Policy == nil {
		return nil, fail(client.CodeNoLeader, "`watchover status` shows which watchers are missing", "cannot take a policy: the cluster has none before its first start is complete")
	}
	text, err := io.ReadAll(r.Body)
	var limit *http.MaxBytesError
	switch {
	case errors.As(err, &limit):
		return nil, fail(client.CodeInvalid, "", "cannot read body: it is larger than %d bytes", limit.Limit)
	case err != nil:
		return nil, fail(client.CodeInvalid, "", "cannot read body: %v", err)
	}
	p, faults := s.policyText.Parse(text, state)
	if len(faults) > 0 {
		e := fail(client.CodeInvalid, "`watchover config check` names all faults of a file", "cannot take the policy: %s", summary(faults))
		e.Faults = faults
		return nil, e
	}
	return &p, nil
}

// summary is the faults in one line.
func summary(faults []client.Fault) string {
	first := faults[0]
	text := first.Message
	if first.Path != "" {
		text = first.Path + ": " + text
	}
	if first.Line > 0 {
		text = fmt.Sprintf("line %d: %s", first.Line, text)
	}
	if len(faults) == 1 {
		return text
	}
	return fmt.Sprintf("it has %d faults; %s", len(faults), text)
}
