package control

import (
	"context"
	"net/http"
	"time"

	"github.com/watchover-ha/watchover/pkg/client"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// settleTimeout is how long the removal of a watcher is waited for until raft has followed it, so that a script may give
// the next order at once. What is not done by then goes on.
const settleTimeout = 5 * time.Second

func (s *Server) members(r *http.Request) (int, any, *client.Error) {
	if e := onlyQuery(r); e != nil {
		return 0, nil, e
	}
	return http.StatusOK, membersView(s.backend.State(), s.backend.Local()), nil
}

func (s *Server) addMember(r *http.Request) (int, any, *client.Error) {
	var ask client.MemberRequest
	if e := readBody(r, &ask); e != nil {
		return 0, nil, e
	}
	return s.reply(r, "add watcher "+orNothing(ask.Name), failover.Command{
		AddMember: &failover.AddMember{Name: ask.Name, Address: ask.Address, DNS: ask.DNS},
	})
}

func (s *Server) removeMember(r *http.Request) (int, any, *client.Error) {
	name := r.PathValue("name")
	if name == "" { // the route of a watcher that is called like the verb
		name = "transfer"
	}
	if e := readBody(r, &struct{}{}); e != nil {
		return 0, nil, e
	}
	status, body, e := s.reply(r, "remove watcher "+name, failover.Command{RemoveMember: &failover.MemberOrder{Name: name}})
	if e == nil {
		s.awaitSettled(r.Context(), name)
	}
	return status, body, e
}

// awaitSettled returns when the removal of a watcher is complete, or after a while.
func (s *Server) awaitSettled(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	for {
		news := s.backend.Watch()
		if c := s.backend.State().Change; c == nil || c.Name != name || c.Kind != failover.ChangeRemove {
			return
		}
		select {
		case <-news:
		case <-ctx.Done():
			return
		}
	}
}

// transfer has the order judged and recorded by the rules first, like every change, and then carried out.
func (s *Server) transfer(r *http.Request) (int, any, *client.Error) {
	var ask client.TransferRequest
	if e := readBody(r, &ask); e != nil {
		return 0, nil, e
	}
	what := "hand leadership over"
	if ask.To != "" {
		what += " to " + ask.To
	}
	if leader := s.backend.Local().Leader; leader != "" && leader == ask.To {
		return http.StatusOK, client.Transferred{Leader: leader, Note: leader + " leads already"}, nil
	}
	if _, e := s.order(r, what, failover.Command{Transfer: &failover.MemberOrder{Name: ask.To}}); e != nil {
		return 0, nil, e
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), proposeTimeout)
	defer cancel()
	result, err := s.backend.Transfer(ctx, ask.To)
	switch {
	case err != nil:
		return 0, nil, proposeError(what, err)
	case !result.Accepted:
		return 0, nil, refusal(what, result)
	}
	return http.StatusOK, client.Transferred{Leader: s.backend.Local().Leader}, nil
}

// membersView shows the watchers and the change that is under way.
func membersView(s *failover.State, l Local) client.Members {
	cluster := clusterView(s, l)
	view := client.Members{Leader: cluster.Leader, Members: []client.Member{}, Quorum: s.Majority()}
	for i, m := range members(s, l) {
		w := cluster.Watchers[i]
		view.Members = append(view.Members, client.Member{
			Name: m.Name, Address: m.Address, DNS: append([]string{}, m.DNS...), State: w.State, Voter: w.Voter, Joining: m.Joining,
			Silent: w.Silent, Version: w.Version,
		})
	}
	if c := s.Change; c != nil {
		view.Change = &client.MemberChange{Kind: string(c.Kind), Name: c.Name, By: c.By, Since: timeValue(c.Since), WaitsFor: waitsFor(s, l)}
	}
	return view
}

// waitsFor is what the leader says of the change, or what anybody can see of it.
func waitsFor(s *failover.State, l Local) string {
	if l.MembersWait != "" {
		return l.MembersWait
	}
	m := s.Member(s.Change.Name)
	switch {
	case l.Leader == "":
		return "there is no leader"
	case m != nil && m.Joining && m.Node == "":
		return m.Name + " has not been started yet"
	case m != nil && m.Joining:
		return m.Name + " catches up"
	}
	return ""
}

func orNothing(name string) string {
	if name == "" {
		return "without a name"
	}
	return name
}
