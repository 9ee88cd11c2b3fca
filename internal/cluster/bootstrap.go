package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// The first start. A watcher whose data is gone has forgotten its votes and what it acknowledged; were it to begin again
// under its old name, committed entries could be lost. So every data directory has a random id, and raft is started on an
// empty one only under an agreement: the ids of all watchers' directories, confirmed by every one of them.
//
// Each watcher that is waiting asks all others for their ids and, when all have answered with the same cluster section,
// asks all to confirm the agreement made of these ids. To confirm is to write it to disk; a watcher that has not begun
// may exchange it for another one, a watcher that has begun never does. A watcher begins when all have confirmed and its own
// agreement has not changed since it asked the first of them, or when another one that has begun under an agreement
// tells so and the agreement names this very directory.
//
// A watcher that was added later, and a directory that takes the place of a lost one, begin otherwise: see members.go.
//
// Two different agreements cannot both begin: the second would need a confirmation by the first one's beginner, either
// after it began, which it refuses, or before it asked, and then its exchange back happened before all
// confirmed to it, which takes the second one's beginner off its own agreement.

// stage is how far a data directory's first start has come. What is not written yet counts as empty.
type stage string

const (
	stageEmpty    stage = ""
	stageBegun    stage = "begun"   // raft may have been given its first configuration, but has not run
	stageJoined   stage = "joined"  // added to a running cluster; its log is empty until the leader has filled it
	stageStarted  stage = "started" // raft may have run
	joinTimeout         = 2 * time.Second
	joinEvery           = 500 * time.Millisecond
	joinHurried         = 50 * time.Millisecond // while all answer and only the confirmations are missing
	sayWaitsEvery       = 5 * time.Second
)

// agreement says which data directories take part in the first start.
type agreement struct {
	Section string            `json:"section"`
	Nodes   map[string]string `json:"nodes"` // ids of the data directories by watcher
}

func (a *agreement) equal(b *agreement) bool {
	return a != nil && b != nil && a.Section == b.Section && maps.Equal(a.Nodes, b.Nodes)
}

// joinQuestion asks a watcher how it stands and, if Agreement is set, to confirm that.
type joinQuestion struct {
	Agreement *agreement `json:"agreement,omitempty"`
	Bind      bool       `json:"bind,omitempty"` // have the asking directory bound to its watcher, which is to join
	// Who asks only who answers. How the asking one stands is left out: to find that out may take the same question back.
	Who bool `json:"who,omitempty"`
}

// joinAnswer is how a watcher stands before or after its first start.
type joinAnswer struct {
	Node      string     `json:"node"`
	Section   string     `json:"section"`
	Begun     bool       `json:"begun"`
	Agreement *agreement `json:"agreement,omitempty"` // set if begun
	Confirmed bool       `json:"confirmed"`
	// What a watcher that has begun knows of the one that asks.
	failover.Life
	Standing failover.Standing `json:"standing,omitempty"`
	Bound    bool              `json:"bound,omitempty"` // the state names this very directory
	Members  []Peer            `json:"members,omitempty"`
	Error    string            `json:"error,omitempty"` // why the directory was not bound
}

// sectionDigest identifies the cluster section of a configuration: its name, and each watcher with its addresses.
func sectionDigest(cluster string, peers []Peer) string {
	sorted := slices.Clone(peers)
	slices.SortFunc(sorted, func(a, b Peer) int { return strings.Compare(a.Name, b.Name) })
	text, err := json.Marshal(struct {
		Cluster string
		Peers   []Peer
	}{cluster, sorted})
	if err != nil {
		return "" // strings cannot fail to encode
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// joining guards the data directory's identity while others may ask for it.
type joining struct {
	mu      sync.Mutex
	changes int // how often the agreement was exchanged
}

// checkStage compares what the directory says of its start with what is in it.
func (n *Node) checkStage() error {
	has, err := n.hasState()
	if err != nil {
		return err
	}
	voted, err := n.hasVoted()
	if err != nil {
		return err
	}
	switch s := n.dir.identity.Stage; {
	case s == stageStarted && !voted:
		return fmt.Errorf("cannot open data directory %q: its log %s is gone, and this watcher may have voted; move the directory away and add the watcher anew", n.o.DataDir, filepath.Join(n.o.DataDir, logFile))
	case s == stageEmpty && has:
		return fmt.Errorf("cannot open data directory %q: it has a log but was never started; it is damaged or put together by hand", n.o.DataDir)
	}
	return nil
}

// identity is what the data directory says of itself now.
func (n *Node) identity() identity {
	n.joining.mu.Lock()
	defer n.joining.mu.Unlock()
	return n.dir.identity
}

// setStage makes a step of the first start durable.
func (n *Node) setStage(s stage) error {
	n.joining.mu.Lock()
	defer n.joining.mu.Unlock()
	i := n.dir.identity
	i.Stage = s
	return n.dir.save(i)
}

// takeJoin answers another watcher's question.
func (n *Node) takeJoin(ctx context.Context, h hello, q joinQuestion) joinAnswer {
	a := n.answerFirstStart(h.Name, q)
	a.Life = n.life()
	if a.Begun && !q.Who {
		n.answerStanding(ctx, h, q, &a)
	}
	return a
}

func (n *Node) answerFirstStart(from string, q joinQuestion) joinAnswer {
	n.joining.mu.Lock()
	defer n.joining.mu.Unlock()
	i := n.dir.identity
	a := joinAnswer{Node: i.Node, Section: n.section, Begun: i.Stage != stageEmpty}
	if a.Begun {
		a.Agreement = i.Agreement
		a.Confirmed = i.Agreement.equal(q.Agreement)
		return a
	}
	if q.Agreement != nil {
		err := n.confirm(q.Agreement)
		a.Confirmed = err == nil
		if ok, _ := n.limit.allow("confirm " + from); err != nil && ok {
			n.log.Warn().Err(err).Str(keyPeer, from).Msg("agreement on the first start was not confirmed")
		}
	}
	return a
}

// confirm writes an agreement that names this directory. It is called with the lock held, before the start.
func (n *Node) confirm(a *agreement) error {
	i := n.dir.identity
	if a.Section != n.section || a.Nodes[i.Name] != i.Node || len(a.Nodes) != len(n.o.Peers) {
		return errors.New("it is not about this data directory and cluster section")
	}
	if i.Agreement.equal(a) {
		return nil
	}
	i.Agreement = a
	if err := n.dir.save(i); err != nil {
		return err
	}
	n.joining.changes++
	return nil
}

// join returns when this watcher may start raft: at once if it has before, else when the cluster has agreed. It ends
// early with ctx's error.
func (n *Node) join(ctx context.Context) error {
	for {
		why, wait, err := n.joinOnce(ctx)
		if err != nil {
			return err
		}
		if why == "" {
			return nil
		}
		n.waiting.Store(&why)
		if ok, _ := n.limit.allow("waiting: " + why); ok {
			n.log.Warn().Str(keyReason, why).Msg("waiting to take part in the cluster")
		}
		if !pause(ctx, wait) {
			return fmt.Errorf("cannot take part in cluster %q: %s: %w", n.o.Cluster, why, ctx.Err())
		}
	}
}

// joinOnce makes one round of the first start. It returns why this watcher cannot begin yet, empty if it can.
func (n *Node) joinOnce(ctx context.Context) (why string, wait time.Duration, err error) {
	own := n.identity()
	switch {
	case own.Stage == stageBegun && own.Agreement != nil && own.Agreement.Section != n.section:
		return "the cluster section was changed after this watcher had begun its first start; put it back as it was, start, and change it then", joinEvery, nil
	case own.Stage == stageBegun || own.Stage == stageStarted:
		return "", 0, nil
	}
	answers, why := n.ask(ctx, nil)
	if why == "" {
		why = n.judgeSections(answers)
	}
	if why != "" {
		return why, joinEvery, nil
	}
	if name := begunOne(answers); name != "" {
		why, err = n.enter(ctx, name, answers[name])
		return why, joinEvery, err
	}
	if own.Stage == stageJoined {
		return "no other watcher that has begun is reachable", joinEvery, nil
	}
	mine := &agreement{Section: n.section, Nodes: map[string]string{n.o.Name: own.Node}}
	for name, a := range answers {
		mine.Nodes[name] = a.Node
	}
	n.joining.mu.Lock()
	if err := n.confirm(mine); err != nil {
		n.joining.mu.Unlock()
		return "", 0, err
	}
	changes := n.joining.changes
	n.joining.mu.Unlock()
	answers, why = n.ask(ctx, mine)
	if why != "" {
		return why, joinHurried, nil
	}
	for name, a := range answers {
		if !a.Confirmed {
			return fmt.Sprintf("watcher %s has not confirmed the first start yet", name), joinHurried, nil
		}
	}
	return n.begin(mine, changes)
}

// begunOne names a watcher that has begun, if there is one: rather one that knows how this watcher stands.
func begunOne(answers map[string]joinAnswer) string {
	found := ""
	for _, name := range slices.Sorted(maps.Keys(answers)) {
		switch a := answers[name]; {
		case a.Begun && a.Standing != failover.StandingUnknown:
			return name
		case a.Begun && found == "":
			found = name
		}
	}
	return found
}

// begin starts under an agreement that all have confirmed, unless it was exchanged meanwhile.
func (n *Node) begin(a *agreement, changes int) (string, time.Duration, error) {
	n.joining.mu.Lock()
	defer n.joining.mu.Unlock()
	i := n.dir.identity
	if n.joining.changes != changes || !i.Agreement.equal(a) {
		return "the agreement on the first start has just changed", joinHurried, nil
	}
	i.Stage = stageBegun
	return "", 0, n.dir.save(i)
}

// follow starts under the agreement that another watcher has begun with, if it names this directory.
func (n *Node) follow(name string, a *agreement) (string, error) {
	n.joining.mu.Lock()
	defer n.joining.mu.Unlock()
	i := n.dir.identity
	if a == nil || a.Nodes[i.Name] != i.Node {
		return "watcher " + name + " has not read its log yet", nil
	}
	i.Agreement, i.Stage = a, stageBegun
	return "", n.dir.save(i)
}

// judgeSections says which watchers have been configured otherwise.
func (n *Node) judgeSections(answers map[string]joinAnswer) string {
	var others []string
	for name, a := range answers {
		if a.Section != n.section && !a.Begun {
			others = append(others, name)
		}
	}
	if len(others) == 0 {
		return ""
	}
	slices.Sort(others)
	return fmt.Sprintf("the cluster section here differs from that of %s; make cluster.name and cluster.watchers the same everywhere", strings.Join(others, ", "))
}

// ask asks all other watchers to confirm an agreement, or, if it is nil, how they stand. It returns the answers, and who
// did not give one.
func (n *Node) ask(ctx context.Context, a *agreement) (map[string]joinAnswer, string) {
	answers, missing := n.askOthers(ctx, joinQuestion{Agreement: a})
	// One that has begun is enough to follow.
	for _, reply := range answers {
		if reply.Begun && a == nil {
			return answers, ""
		}
	}
	if len(missing) == 0 {
		return answers, ""
	}
	slices.Sort(missing)
	return answers, "for the first start all watchers are needed: " + strings.Join(missing, "; ")
}

// askOthers puts the question to all other watchers at once. It returns the answers, and of each that did not give one why.
func (n *Node) askOthers(ctx context.Context, q joinQuestion) (map[string]joinAnswer, []string) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	var (
		mu      sync.Mutex
		asking  sync.WaitGroup
		answers = map[string]joinAnswer{}
		missing []string
	)
	for _, p := range n.members() {
		if p.Name == n.o.Name {
			continue
		}
		asking.Go(func() {
			reply, err := n.line(kindJoin, p.Name).call(ctx, p.Address, request{Join: &q})
			mu.Lock()
			defer mu.Unlock()
			if err == nil && reply.Join != nil {
				answers[p.Name] = *reply.Join
				return
			}
			why := " is not reachable at " + p.Address
			if refused := (*refusal)(nil); errors.As(err, &refused) {
				why = refusesWord + refused.reason
			}
			if d := (*distrust)(nil); errors.As(err, &d) {
				why = " at " + p.Address + ": " + d.text
			}
			missing = append(missing, p.Name+why)
		})
	}
	asking.Wait()
	return answers, missing
}
