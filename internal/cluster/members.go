package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// Members. A change of the members is decided in the state; the leader then brings raft's configuration after it, one step
// at a time, always by comparing the two: nextStep knows nothing of what was done before, so a new leader goes on with
// a change that the old one left half done.
//
// A watcher that is added: the state has it as joining -> it is started with an empty directory, which is bound to it
// (joinMember) -> raft has it as a nonvoter -> it catches up -> raft has it as a voter -> the state counts it.
// One that is removed: the state drops it -> raft drops it. A new address: the state has it -> raft has it.

const (
	// caughtUp is how many entries a joining watcher may be behind when it is made a voter.
	caughtUp = 32
	// memberPause is the time between two looks at a change that waits.
	memberPause = 200 * time.Millisecond
	// sayWaitsForEvery is how often the leader logs what a change waits for.
	sayWaitsForEvery = 30 * time.Second
)

// stepKind is what a memberStep does.
type stepKind int

// The kinds, in the order of life of a watcher.
const (
	stepNone stepKind = iota
	stepWait          // for something outside; why tells
	stepAddNonvoter
	stepAddVoter
	stepAdmit
	stepMove
	stepRemove
	stepSettle
)

// memberStep is the next thing that brings raft's configuration after the state's members.
type memberStep struct {
	kind   stepKind
	peer   Peer
	change uint64
	why    string
}

// nextStep compares the state's members with raft's configuration. behind says by how many entries a watcher is behind,
// and whether it is heard at all.
func nextStep(s *failover.State, c raft.Configuration, behind func(name string) (entries uint64, heard bool)) memberStep {
	for _, server := range c.Servers {
		if s.Member(string(server.ID)) == nil {
			return memberStep{kind: stepRemove, peer: Peer{Name: string(server.ID), Address: string(server.Address)}}
		}
	}
	wait := memberStep{}
	for i := range s.Members {
		switch step := nextStepOf(&s.Members[i], c, behind); step.kind {
		case stepNone:
		case stepWait:
			wait = step
		default:
			return step
		}
	}
	if s.Change != nil && wait.kind == stepNone && s.Change.Kind != failover.ChangeAdd {
		return memberStep{kind: stepSettle, change: s.Change.Index, peer: Peer{Name: s.Change.Name}}
	}
	return wait
}

func nextStepOf(m *failover.Member, c raft.Configuration, behind func(string) (uint64, bool)) memberStep {
	peer := Peer{Name: m.Name, Address: m.Address}
	server, in := raftAddress(c, m.Name)
	switch {
	case !in && m.Joining && m.Node == "":
		return memberStep{kind: stepWait, peer: peer, why: fmt.Sprintf("%s has not been started yet: start it with an empty data_dir and itself under cluster.watchers", m.Name)}
	case !in && m.Joining:
		return memberStep{kind: stepAddNonvoter, peer: peer}
	case !in:
		return memberStep{kind: stepWait, peer: peer, why: fmt.Sprintf("%s counts, but raft does not know it; remove and add it", m.Name)}
	case string(server.Address) != m.Address:
		return memberStep{kind: stepMove, peer: peer}
	case !m.Joining:
		return memberStep{}
	case server.Suffrage == raft.Voter:
		return memberStep{kind: stepAdmit, peer: peer}
	}
	switch entries, heard := behind(m.Name); {
	case !heard:
		return memberStep{kind: stepWait, peer: peer, why: fmt.Sprintf("%s is not heard: does it run, and is it reached at %s?", m.Name, m.Address)}
	case entries > caughtUp:
		return memberStep{kind: stepWait, peer: peer, why: fmt.Sprintf("%s catches up: %d entries to go", m.Name, entries)}
	}
	return memberStep{kind: stepAddVoter, peer: peer}
}

// keepMembers brings raft's configuration after the state's members for as long as this watcher leads.
func (t *term) keepMembers(ctx context.Context) {
	defer t.n.waits.Store(nil)
	for ctx.Err() == nil {
		published := t.n.Watch()
		step := t.nextStep()
		t.tellWait(step)
		var again <-chan time.Time
		if step.kind != stepNone {
			again = time.After(memberPause)
		}
		if step.kind > stepWait {
			err := t.perform(ctx, step)
			if err == nil {
				continue
			}
			if ok, _ := t.n.limit.allow("member step " + err.Error()); ok && ctx.Err() == nil {
				t.n.log.Warn().Err(err).Str(keyPeer, step.peer.Name).Msg("a change of the watchers does not go on, it is tried again")
			}
		}
		select {
		case <-published:
		case <-again:
		case <-ctx.Done():
		}
	}
}

func (t *term) nextStep() memberStep {
	f := t.n.raft.Load().GetConfiguration()
	if halt := t.n.o.haltMembers; f.Error() != nil || t.n.State().Cluster == "" || halt != nil && halt.Load() {
		return memberStep{}
	}
	commit := t.n.raft.Load().CommitIndex()
	return nextStep(t.n.State(), f.Configuration(), func(name string) (uint64, bool) {
		if !t.heardLately(name) {
			return 0, false
		}
		return commit - min(t.appliedBy(name), commit), true
	})
}

// tellWait notes what a change waits for, for the status and, once in a while, for the log.
func (t *term) tellWait(step memberStep) {
	if step.kind != stepWait {
		t.n.waits.Store(nil)
		return
	}
	t.n.waits.Store(&step.why)
	if t.sayWaits.IsZero() || time.Since(t.sayWaits) >= sayWaitsForEvery {
		t.sayWaits = time.Now()
		t.n.log.Warn().Str(keyPeer, step.peer.Name).Str(keyReason, step.why).Msg("a change of the watchers waits")
	}
}

// perform does one step. Raft refuses a configuration change while another one is not committed.
func (t *term) perform(ctx context.Context, step memberStep) error {
	r, id, address := t.n.raft.Load(), raft.ServerID(step.peer.Name), raft.ServerAddress(step.peer.Address)
	own := step.peer.Name == t.n.o.Name
	var f raft.Future
	switch step.kind {
	case stepAdmit:
		return t.commitStep(ctx, failover.Command{AdmitMember: &failover.MemberOrder{Name: step.peer.Name}})
	case stepSettle:
		return t.commitStep(ctx, failover.Command{SettleMembers: &failover.Settle{Change: step.change}})
	case stepRemove, stepMove:
		why := handover{reason: map[stepKind]string{stepRemove: "this watcher was removed", stepMove: "this watcher's address has changed"}[step.kind]}
		if own && t.canGiveWay(why) {
			t.giveWay(why)
			return t.waitGone(ctx)
		}
		if step.kind == stepRemove {
			t.forgetWatcher(step.peer.Name)
			f = r.RemoveServer(id, 0, t.n.o.Timing.Heartbeat)
			break
		}
		f = t.readdress(r, id, address)
	case stepAddNonvoter:
		f = r.AddNonvoter(id, address, 0, t.n.o.Timing.Heartbeat)
	case stepAddVoter:
		f = r.AddVoter(id, address, 0, t.n.o.Timing.Heartbeat)
	}
	if err := t.n.await(ctx, f); err != nil {
		return fmt.Errorf("cannot change raft's configuration: %w", err)
	}
	t.n.log.Info().Str(keyPeer, step.peer.Name).Str(keyAddress, step.peer.Address).
		Str("step", map[stepKind]string{stepRemove: "removed", stepMove: "moved", stepAddNonvoter: "is sent the log", stepAddVoter: "votes"}[step.kind]).
		Msg("raft's configuration follows the members")
	return nil
}

// readdress gives a server another address and leaves its vote as it is: each call changes only the address of a server
// that is there with that suffrage.
func (t *term) readdress(r *raft.Raft, id raft.ServerID, address raft.ServerAddress) raft.Future {
	server, _ := raftAddress(r.GetConfiguration().Configuration(), string(id))
	if server.Suffrage == raft.Voter {
		return r.AddVoter(id, address, 0, t.n.o.Timing.Heartbeat)
	}
	return r.AddNonvoter(id, address, 0, t.n.o.Timing.Heartbeat)
}

// waitGone waits for the leadership to be handed over, which ends Lead and what runs beside it, or for the attempt to have
// failed.
func (t *term) waitGone(ctx context.Context) error {
	if !pause(ctx, 3*t.n.o.Timing.Election) {
		return ctx.Err()
	}
	return errors.New("leadership was not handed over")
}

func (t *term) commitStep(ctx context.Context, c failover.Command) error {
	c.By = "watcher:" + t.n.o.Name
	result, err := t.proposeAsync(c)(ctx)
	if err == nil && !result.Accepted {
		err = fmt.Errorf("refused by %s: %s", result.Rule, result.Detail)
	}
	return err
}

// forgetWatcher forgets what was heard of a watcher that is gone: another one may take its name in this term.
func (t *term) forgetWatcher(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h := t.heard[name]; h != nil {
		h.counted, h.at = time.Time{}, time.Time{}
		clear(h.proposed)
	}
}

// votes reports whether a watcher counts: all do until the state says otherwise.
func (n *Node) votes(name string) bool {
	s := n.State()
	if s.Cluster == "" {
		return true
	}
	m := s.Member(name)
	return m != nil && m.Voter()
}

// voters is the number of watchers that count.
func (n *Node) voters() int {
	s := n.State()
	if s.Cluster == "" {
		return len(n.members())
	}
	return s.Voters()
}

// agreedNode is the id of a watcher's data directory under the first start's agreement; empty: there was none.
func (n *Node) agreedNode(name string) string {
	if a := n.identity().Agreement; a != nil {
		return a.Nodes[name]
	}
	return ""
}

// answerStanding tells a watcher that asks how its directory stands with the cluster, and binds it if it is to join.
func (n *Node) answerStanding(ctx context.Context, h hello, q joinQuestion, a *joinAnswer) {
	a.Standing = n.standing(h.Name, h.claim)
	if q.Bind && a.Standing == failover.StandingWanted {
		ctx, cancel := context.WithTimeout(ctx, joinTimeout)
		defer cancel()
		result, err := n.Propose(ctx, failover.Command{By: "watcher:" + h.Name, JoinMember: &failover.JoinMember{Name: h.Name, Node: h.Node}})
		switch {
		case err != nil:
			a.Error = err.Error()
		case !result.Accepted:
			a.Error = result.Detail
		default:
			a.Standing = failover.StandingMember
		}
	}
	if m := n.State().Member(h.Name); m != nil && m.Node != "" && m.Node == h.Node && a.Standing == failover.StandingMember {
		a.Bound, a.Members = true, n.members()
	}
}

// enter takes part in a cluster that has begun: under the first start's agreement if it names this directory, else if
// this watcher is to join. It returns why it cannot.
func (n *Node) enter(ctx context.Context, name string, a joinAnswer) (string, error) {
	i := n.identity()
	agreed := i.Stage == stageEmpty && a.Agreement != nil && a.Agreement.Nodes[i.Name] == i.Node
	switch a.Standing {
	case failover.StandingMember:
		if agreed {
			return n.follow(name, a.Agreement)
		}
		if a.Bound {
			n.learned.Store(&a.Members)
			return "", n.setStage(stageJoined)
		}
		a.Standing = failover.StandingOther
	case failover.StandingUnknown:
		return n.follow(name, a.Agreement)
	case failover.StandingWanted:
		return n.bind(ctx, name)
	case failover.StandingRemoved, failover.StandingOld, standingCopy:
		n.retire(a.Standing)
		return "", <-n.fatal
	}
	return fmt.Sprintf("this data directory is empty, and watcher %s says: %s", name, n.ownText(a.Standing)), nil
}

// bind asks a watcher that has begun to have this empty directory taken for the one of the watcher that is to join.
func (n *Node) bind(ctx context.Context, name string) (string, error) {
	p, ok := n.member(name)
	if !ok {
		return "watcher " + name + " is not known here any more", nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*joinTimeout)
	defer cancel()
	reply, err := n.line(kindJoin, name).call(ctx, p.Address, request{Join: &joinQuestion{Bind: true}})
	switch {
	case err != nil:
		return err.Error(), nil
	case reply.Join == nil || !reply.Join.Bound:
		why := "it does not say why"
		if reply.Join != nil && reply.Join.Error != "" {
			why = reply.Join.Error
		}
		return fmt.Sprintf("watcher %s cannot let this one join: %s", name, why), nil
	}
	n.learned.Store(&reply.Join.Members)
	return "", n.setStage(stageJoined)
}

// noteStarted makes a joined directory a started one as soon as its log has reached it: from then on its loss is noticed.
// This comes before the watcher is counted, so a log that has helped to decide anything cannot be lost unseen.
func (n *Node) noteStarted(s *failover.State) {
	if s.Cluster == "" || n.identity().Stage != stageJoined {
		return
	}
	if err := n.setStage(stageStarted); err != nil {
		n.fail(err)
	}
}
