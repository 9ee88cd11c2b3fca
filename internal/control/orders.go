package control

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"time"

	"github.com/watchover-ha/watchover/pkg/client"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// maxReason bounds the text of a pause, in bytes.
const maxReason = 1024

func (s *Server) switchover(r *http.Request) (int, any, *client.Error) {
	var ask client.SwitchoverRequest
	if e := readBody(r, &ask); e != nil {
		return 0, nil, e
	}
	request := failover.Request{Group: r.PathValue("group"), To: ask.To, Force: ask.Force}
	what := "switch " + request.Group + " over"
	if ask.DryRun {
		plan, result := s.backend.State().DryRun(request)
		if !result.Accepted {
			return 0, nil, refusal(what, result)
		}
		return http.StatusOK, dryRunView(plan, s.backend.Local(), request.Group), nil
	}
	result, e := s.order(r, what, failover.Command{Request: &request})
	if e != nil {
		return 0, nil, e
	}
	if result.Switchover == 0 {
		return http.StatusOK, already{AlreadyActive: true, Active: ask.To, Note: result.Note}, nil
	}
	return http.StatusAccepted, s.opened(request.Group, result), nil
}

// already is the reply to a request for what is so.
type already struct {
	AlreadyActive bool   `json:"already_active"`
	Active        string `json:"active"`
	Note          string `json:"note"`
}

// opened is the switchover that an order opened. It may have ended by now; and if this watcher is too far behind to see
// it at all, the caller still learns its id.
func (s *Server) opened(group string, result failover.Result) *client.Switchover {
	if g := s.backend.State().Groups[group]; g != nil {
		if g.Switchover != nil && g.Switchover.ID == result.Switchover {
			return switchoverView(g.Switchover)
		}
		for _, w := range g.History {
			if w.ID == result.Switchover {
				return switchoverView(w)
			}
		}
	}
	return switchoverView(&failover.Switchover{ID: result.Switchover, Group: group, Result: failover.ResultRunning})
}

func (s *Server) abort(r *http.Request) (int, any, *client.Error) {
	group := r.PathValue("group")
	return s.simple(r, nil, "abort the switchover of "+group, func() failover.Command {
		return failover.Command{Abort: &failover.GroupOrder{Group: group}}
	})
}

func (s *Server) retry(r *http.Request) (int, any, *client.Error) {
	group := r.PathValue("group")
	var ask client.RetryRequest
	return s.simple(r, &ask, "retry the switchover of "+group, func() failover.Command {
		return failover.Command{Retry: &failover.RetryOrder{Group: group, Skip: ask.SkipStep}}
	})
}

func (s *Server) ack(r *http.Request) (int, any, *client.Error) {
	group := r.PathValue("group")
	return s.simple(r, nil, "acknowledge "+group, func() failover.Command {
		return failover.Command{Ack: &failover.GroupOrder{Group: group}}
	})
}

func (s *Server) pause(r *http.Request) (int, any, *client.Error) {
	group := r.PathValue("group")
	var ask client.PauseRequest
	if e := readBody(r, &ask); e != nil {
		return 0, nil, e
	}
	limit, e := pauseFor(ask)
	if e != nil {
		return 0, nil, e
	}
	return s.reply(r, "pause "+groupOrAll(group), failover.Command{Pause: &failover.PauseOrder{Group: group, For: limit, Reason: ask.Reason}})
}

func pauseFor(ask client.PauseRequest) (time.Duration, *client.Error) {
	if len(ask.Reason) > maxReason {
		return 0, fail(client.CodeInvalid, "", "cannot keep a reason of %d bytes: the limit is %d", len(ask.Reason), maxReason)
	}
	if ask.For == "" {
		return 0, nil
	}
	limit, err := time.ParseDuration(ask.For)
	if err != nil || limit <= 0 {
		return 0, fail(client.CodeInvalid, "a duration is written like 90s, 30m or 2h; leave it out to pause until resume",
			"cannot pause for %q: it is no duration above zero", ask.For)
	}
	return limit, nil
}

func (s *Server) resume(r *http.Request) (int, any, *client.Error) {
	group := r.PathValue("group")
	return s.simple(r, nil, "resume "+groupOrAll(group), func() failover.Command {
		return failover.Command{Resume: &failover.GroupOrder{Group: group}}
	})
}

func (s *Server) reprotect(r *http.Request) (int, any, *client.Error) {
	group := r.PathValue("group")
	var ask client.ReprotectRequest
	return s.simple(r, &ask, "reprotect "+group, func() failover.Command {
		return failover.Command{Reprotect: &failover.ReprotectOrder{Group: group, App: ask.App, Force: ask.Force}}
	})
}

func groupOrAll(group string) string {
	if group == "" {
		return "all groups"
	}
	return group
}

// simple reads the body into ask (nil: there must be none, or an empty object) and gives the order made from it.
func (s *Server) simple(r *http.Request, ask any, what string, command func() failover.Command) (int, any, *client.Error) {
	if ask == nil {
		ask = &struct{}{}
	}
	if e := readBody(r, ask); e != nil {
		return 0, nil, e
	}
	return s.reply(r, what, command())
}

// reply gives an order whose answer is only that it was taken.
func (s *Server) reply(r *http.Request, what string, c failover.Command) (int, any, *client.Error) {
	result, e := s.order(r, what, c)
	if e != nil {
		return 0, nil, e
	}
	return http.StatusOK, client.Accepted{Index: result.Index, Switchover: result.Switchover, Note: result.Note}, nil
}

// order proposes a command in the caller's name and waits until this watcher has applied it, so that whoever gave an
// order sees it in the next status. The id makes repeating it on its way to the leader harmless. It does not end with
// the caller's connection: an order half given is given.
func (s *Server) order(r *http.Request, what string, c failover.Command) (failover.Result, *client.Error) {
	uid := caller(r)
	c.ID, c.By = newID(), fmt.Sprintf("uid:%d", uid)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), proposeTimeout)
	defer cancel()
	result, err := s.backend.Propose(ctx, c)
	entry := s.log.Info()
	if err != nil || !result.Accepted {
		entry = s.log.Warn().Err(err).Str("rule", result.Rule).Str("detail", result.Detail)
	}
	entry.Uint32("uid", uid).Str("order", what).Uint64("index", result.Index).Bool("accepted", err == nil && result.Accepted).Msg("order given over the socket")
	if err != nil {
		return result, proposeError(what, err)
	}
	if !result.Accepted {
		return result, refusal(what, result)
	}
	s.await(r.Context(), result.Index, applyTimeout)
	return result, nil
}

// newID names a command; crypto/rand.Read never fails since Go 1.24.
func newID() string {
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	return hex.EncodeToString(id)
}

// await returns when this watcher has applied index, or after limit, or with ctx.
func (s *Server) await(ctx context.Context, index uint64, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		news := s.backend.Watch() // before looking, so that nothing is missed in between
		if s.backend.State().Index >= index {
			return
		}
		select {
		case <-news:
		case <-ctx.Done():
			return
		}
	}
}
