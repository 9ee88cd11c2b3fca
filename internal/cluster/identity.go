package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// Who is who. A watcher is known by its name, by its data directory's id and by the life of the process that uses the
// directory. Each end of a connection says who it is and whom it means to reach, and each judges the other by the members
// in the state. So a directory that was removed, one that took another's place, an old copy, and a copy that runs beside
// its original are refused before a vote or an entry goes over the line, and told why.
//
// A watcher whose state may be out of date cannot tell a new watcher from a wrong one. Then it refuses only what stays
// wrong for ever (a removed directory, an old copy); raft itself refuses votes to names that its configuration does not
// have.

// standingCopy is a directory whose watcher runs elsewhere at the same time, from another copy of it.
const standingCopy failover.Standing = "copy"

const (
	refusesWord  = " refuses: "
	copyTimeout  = time.Second // to ask a watcher's address who is there
	doubtPause   = 200 * time.Millisecond
	maxLivesKept = 64
)

// claim is what the dialling end says of itself and of the one that it means to reach.
type claim struct {
	Node string `json:"node,omitempty"` // id of its data directory
	failover.Life
	To *meant `json:"to,omitempty"`
}

// meant is whom a caller means to reach, as far as it knows. Sure: its state is up to date.
type meant struct {
	Name string `json:"name"`
	Node string `json:"node,omitempty"`
	failover.Life
	Sure bool `json:"sure,omitempty"`
}

// copies remembers which lives were found to be a watcher's only one.
type copies struct {
	mu   sync.Mutex
	sole map[string]string // guarded by mu: life's word by watcher
}

func (n *Node) life() failover.Life { return failover.Life{Boot: n.dir.boot, Word: n.dir.word} }

// claims is what this watcher says when it dials an address.
func (n *Node) claims(address string) claim {
	c := claim{Node: n.identity().Node, Life: n.life()}
	isolated, _ := n.Isolation()
	for _, m := range n.State().Members {
		if m.Address == address {
			c.To = &meant{Name: m.Name, Node: m.Node, Life: failover.Life{Boot: m.About.Boot, Word: m.About.Life}, Sure: !isolated}
		}
	}
	return c
}

// judgeCaller refuses a caller that is not the watcher it says it is, or that means to reach another one.
func (n *Node) judgeCaller(h hello) error {
	if h.Kind == kindJoin {
		return nil
	}
	if err := n.judgeSelf(h); err != nil {
		return err
	}
	isolated, _ := n.Isolation()
	switch standing := n.standing(h.Name, h.claim); standing {
	case failover.StandingMember:
		return nil
	case failover.StandingUnknown:
		if _, known := n.member(h.Name); !known && !n.configured(h.Name) {
			return fmt.Errorf("%q is not a watcher of this cluster", h.Name)
		}
		return nil
	case failover.StandingNone, failover.StandingOther, failover.StandingWanted:
		if isolated {
			return nil
		}
		return errors.New(standingText(standing, h.Name))
	default:
		return errors.New(standingText(standing, h.Name))
	}
}

// judgeSelf refuses a caller that expects another watcher here, or another directory or a later life of it.
func (n *Node) judgeSelf(h hello) error {
	to := h.To
	if to == nil {
		return nil
	}
	own, life := n.identity().Node, n.life()
	if to.Name != n.o.Name {
		if to.Sure {
			return fmt.Errorf("this is watcher %s, not %s; `watchover members add %s ADDRESS` corrects an address", n.o.Name, to.Name, to.Name)
		}
		return nil
	}
	switch {
	case to.Node != "" && to.Node != own && to.Sure:
		n.doubt()
		return errors.New(standingText(failover.StandingOther, n.o.Name))
	case to.Node == own && to.Word != "" && (to.Boot > life.Boot || to.Boot == life.Boot && to.Word != life.Word):
		n.doubt()
		return errors.New(standingText(failover.StandingOld, n.o.Name))
	}
	return nil
}

// standing judges another watcher's directory by the state, by raft's configuration, and by whether the same watcher
// runs twice.
func (n *Node) standing(name string, c claim) failover.Standing {
	s := n.State()
	standing := s.Standing(name, c.Node, c.Life)
	switch standing {
	case failover.StandingRemoved, failover.StandingNone:
		// Its removal is under way, and its vote may be needed to complete it; or the log that adds it is being read.
		if s.Member(name) == nil && n.configured(name) {
			return failover.StandingMember
		}
	case failover.StandingMember, failover.StandingOld:
		if m := s.Member(name); c.Word != "" && c.Word != m.About.Life && n.runsElsewhere(*m, c) {
			return standingCopy
		}
	}
	return standing
}

// runsElsewhere asks a watcher's address whether another process answers there for the same data directory.
func (n *Node) runsElsewhere(m failover.Member, c claim) bool {
	n.copies.mu.Lock()
	sole := n.copies.sole[m.Name] == c.Word
	n.copies.mu.Unlock()
	if sole {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), copyTimeout)
	defer cancel()
	reply, err := n.line(kindJoin, m.Name).call(ctx, m.Address, request{Join: &joinQuestion{Who: true}})
	if err == nil && reply.Join != nil && reply.Join.Node == c.Node && reply.Join.Word != "" && reply.Join.Word != c.Word {
		return true
	}
	n.copies.mu.Lock()
	defer n.copies.mu.Unlock()
	if n.copies.sole == nil || len(n.copies.sole) >= maxLivesKept {
		n.copies.sole = map[string]string{}
	}
	n.copies.sole[m.Name] = c.Word
	return false
}

// configured reports whether raft's configuration has a watcher.
func (n *Node) configured(name string) bool {
	for _, p := range n.configurationPeers() {
		if p.Name == name {
			return true
		}
	}
	return false
}

// configurationPeers are the watchers that raft's newest configuration has; none before raft runs.
func (n *Node) configurationPeers() []Peer {
	r := n.raft.Load()
	if r == nil {
		return nil
	}
	f := r.GetConfiguration()
	if f.Error() != nil {
		return nil
	}
	var peers []Peer
	for _, s := range f.Configuration().Servers {
		peers = append(peers, Peer{Name: string(s.ID), Address: string(s.Address)})
	}
	return peers
}

// standingText says of a watcher what its standing means, and the next command.
func standingText(s failover.Standing, name string) string {
	anew := fmt.Sprintf("`watchover members remove %s`, then `watchover members add %s ADDRESS --dns IP`, both on a running watcher", name, name)
	switch s {
	case failover.StandingRemoved:
		return fmt.Sprintf("watcher %s was removed from the cluster with this data directory; to take it back: an empty data_dir and `watchover members add %s ADDRESS --dns IP` on a running watcher", name, name)
	case failover.StandingNone:
		return fmt.Sprintf("%q is not a watcher of this cluster; `watchover members add %s ADDRESS --dns IP` on a running watcher adds it", name, name)
	case failover.StandingWanted:
		return fmt.Sprintf("watcher %s is to join with an empty data directory, and this one is not empty; move it away and start again", name)
	case failover.StandingOther:
		return fmt.Sprintf("watcher %s has another data directory in this cluster, and a watcher must not vote with two; put the old one back, or give this one its place: %s", name, anew)
	case failover.StandingOld:
		return fmt.Sprintf("this is an old copy of watcher %s's data directory: it has run since with another one, and a vote could be given twice; start the newest one, or an empty one after %s", name, anew)
	case standingCopy:
		return fmt.Sprintf("watcher %s runs already with another copy of this data directory; leave that one running, and give this one a name and an empty data_dir of its own", name)
	}
	return fmt.Sprintf("watcher %s is not known to take part", name)
}

// retiredText is what a directory that takes part no more says when it is opened again.
func retiredText(s failover.Standing, name, path string) string {
	return fmt.Sprintf("it takes part no more: %s (move it away: mv %s %s.old)", standingText(s, name), path, path)
}

// renameHint is the next command for a directory that belongs to another name.
func renameHint(i identity, name, cluster string) string {
	if i.Cluster != cluster {
		return "a data directory cannot change its cluster; use an empty one"
	}
	return fmt.Sprintf("to rename a watcher: `watchover members remove %s`, then `watchover members add %s ADDRESS --dns IP` on a running watcher, and an empty data_dir", i.Name, name)
}

// doubt has this watcher's own standing looked at: another one refuses it.
func (n *Node) doubt() {
	select {
	case n.doubts <- struct{}{}:
	default:
	}
}

// standingLoop ends this watcher when it must not take part any more, and says why. Until raft's configuration has
// dropped it, a removed watcher goes on voting: the removal may need its vote.
func (n *Node) standingLoop(ctx context.Context) {
	n.doubt() // a directory may be an old one without anybody's having refused it yet
	for {
		published, view := n.Watch(), n.view.Load()
		var again <-chan time.Time
		s := n.State()
		own := s.Standing(n.o.Name, n.identity().Node, failover.Life{})
		switch gone := own == failover.StandingRemoved || own == failover.StandingNone; {
		case gone && !n.configured(n.o.Name) && (own == failover.StandingRemoved || n.isCurrent()): // history may not know it yet
			n.retire(failover.StandingRemoved)
			return
		case gone:
			again = time.After(doubtPause)
		}
		select {
		case <-published:
			continue
		case <-again:
			continue
		case <-n.doubts:
		case <-view.changed.Done():
		case <-ctx.Done():
			return
		}
		if n.askStanding(ctx) {
			return
		}
		if !pause(ctx, joinEvery) {
			return
		}
	}
}

// askStanding asks the other watchers how this one stands; true: it takes part no more.
func (n *Node) askStanding(ctx context.Context) bool {
	answers, missing := n.askOthers(ctx, joinQuestion{})
	if ctx.Err() != nil {
		return false
	}
	n.noteApart(answers, missing)
	unknown := true
	for _, a := range answers {
		switch a.Standing {
		case failover.StandingRemoved, failover.StandingOld, standingCopy:
			n.retire(a.Standing)
			return true
		case failover.StandingOther:
			n.fail(fmt.Errorf("cannot take part in cluster %q: %s", n.o.Cluster, n.ownText(a.Standing)))
			return true
		case failover.StandingMember:
			unknown = false
		}
	}
	if unknown && len(answers) > 0 || n.waiting.Load() != nil {
		n.doubt() // none of them has read its log yet, or what keeps this watcher apart may end
	}
	return false
}

// noteApart notes for the status that no watcher lets this one in, or that the others look for it elsewhere.
func (n *Node) noteApart(answers map[string]joinAnswer, missing []string) {
	var apart []string
	for name, a := range answers {
		for _, m := range a.Members {
			if m.Name == n.o.Name && m.Address != n.ownPeer().Address {
				apart = append(apart, fmt.Sprintf("%s looks for this watcher at %s; `watchover members add %s %s` on a running watcher tells the others that it has moved",
					name, m.Address, m.Name, n.ownPeer().Address))
			}
		}
	}
	for _, why := range missing {
		if len(answers) == 0 && strings.Contains(why, refusesWord) {
			apart = append(apart, why)
		}
	}
	if len(apart) == 0 {
		n.waiting.Store(nil)
		return
	}
	slices.Sort(apart)
	n.waiting.Store(&apart[0])
	if ok, _ := n.limit.allow("apart: " + apart[0]); ok {
		n.log.Warn().Str(keyReason, apart[0]).Msg("this watcher is apart from the others")
	}
}

// ownPeer is this watcher as its file names it.
func (n *Node) ownPeer() Peer {
	for _, p := range n.o.Peers {
		if p.Name == n.o.Name {
			return p
		}
	}
	return Peer{Name: n.o.Name}
}

// ownText is standingText about this watcher, with commands that can be typed as they are.
func (n *Node) ownText(s failover.Standing) string {
	p := n.ownPeer()
	dns := "IP"
	if len(p.DNS) > 0 {
		dns = strings.Join(p.DNS, ",")
	}
	return strings.ReplaceAll(standingText(s, n.o.Name), "ADDRESS --dns IP", p.Address+" --dns "+dns)
}

// retire ends this watcher for good.
func (n *Node) retire(s failover.Standing) {
	n.joining.mu.Lock()
	i := n.dir.identity
	i.Retired = s
	err := n.dir.save(i)
	n.joining.mu.Unlock()
	if err != nil {
		n.log.Error().Err(err).Msg("cannot note that this watcher takes part no more")
	}
	n.fail(fmt.Errorf("cannot take part in cluster %q any more: %s", n.o.Cluster, n.ownText(s)))
}

// raftAddress is where raft's configuration says that a watcher is.
func raftAddress(c raft.Configuration, name string) (raft.Server, bool) {
	for _, s := range c.Servers {
		if string(s.ID) == name {
			return s, true
		}
	}
	return raft.Server{}, false
}
