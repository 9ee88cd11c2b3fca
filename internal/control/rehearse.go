package control

import (
	"net/http"

	"github.com/watchover-ha/watchover/pkg/client"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// rehearse tries everything that the plan would need, on every watcher, and judges the plan itself as a dry run does.
func (s *Server) rehearse(r *http.Request) (int, any, *client.Error) {
	group := r.PathValue("group")
	if e := readBody(r, &struct{}{}); e != nil {
		return 0, nil, e
	}
	if s.backend.State().Groups[group] == nil {
		return 0, nil, noGroup(group)
	}
	found := s.backend.Rehearse(r.Context(), group)
	view := rehearsalView(group, append([]failover.Finding{s.plan(group)}, found...))
	s.log.Info().Uint32("uid", caller(r)).Str("group", group).Bool("ready", view.Ready).Msg("rehearsed over the socket")
	return http.StatusOK, view, nil
}

// plan is whether a switchover that a person asked for now would be begun.
func (s *Server) plan(group string) failover.Finding {
	f := failover.Finding{Watcher: s.backend.Local().Watcher, Check: "plan"}
	plan, result := s.backend.State().DryRun(failover.Request{Group: group})
	switch {
	case !result.Accepted:
		f.Detail = result.Detail
	case plan.Refused != "":
		f.Detail = plan.Refused
	default:
		f.OK, f.Detail = true, "a switchover would move it to "+plan.To
	}
	return f
}

func rehearsalView(group string, found []failover.Finding) client.Rehearsal {
	view := client.Rehearsal{Group: group, Ready: true, Checks: []client.RehearsalCheck{}}
	for _, f := range found {
		view.Ready = view.Ready && f.OK
		view.Checks = append(view.Checks, client.RehearsalCheck{Watcher: f.Watcher, App: f.App, Check: f.Check, OK: f.OK, Detail: f.Detail})
	}
	return view
}
