package cluster

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// Pushing commits. Raft tells followers of a commit with the next message that it sends them, which on an idle cluster
// is up to two CommitTimeouts later; so long a follower's name server would answer the old record after a switch.
// Therefore the leader, once it has applied an entry, sends each follower the AppendEntries that raft would send next
// anyway: without entries, the applied entry as the previous one, its index as the commit index. That is a message
// that a leader of this term may send at any time. A follower takes it only if its log holds that entry with that term, as any
// other (Raft, section 5.3), and ignores it if the term is over. Nothing is added to the log, and CommitTimeout can be long, which saves more CPU
// than the pushes cost.

// pushTries bounds the tries of one push; between them the pauses grow from pushPause to about 30 ms. Then raft's own
// message takes over.
const (
	pushTries = 6
	pushPause = time.Millisecond
)

// pusher pushes commits to one follower.
type pusher struct {
	to   Peer
	gone context.CancelFunc // ends it
	sign chan struct{}      // one slot
	mark atomic.Pointer[appliedMark]
}

// appliedMark is an applied entry's place in the log.
type appliedMark struct{ index, term uint64 }

func (t *term) startPushing() {
	for _, p := range t.n.members() {
		if p.Name != t.n.o.Name {
			t.startPusher(p)
		}
	}
}

func (t *term) startPusher(to Peer) {
	ctx, gone := context.WithCancel(t.ctx)
	p := &pusher{to: to, gone: gone, sign: make(chan struct{}, 1)}
	t.pushes = append(t.pushes, p)
	// Not waited for at the term's end: a frozen follower holds the last push until its deadline, and followers ignore
	// what comes from a term that is over.
	t.n.spawn(func() { t.pushLoop(ctx, p) })
}

// followMembers keeps one pusher for each other member, at its present address.
func (t *term) followMembers() {
	members := t.n.members()
	t.pushes = slices.DeleteFunc(t.pushes, func(p *pusher) bool {
		stays := slices.ContainsFunc(members, func(m Peer) bool { return m.Name == p.to.Name && m.Address == p.to.Address })
		if !stays {
			p.gone()
		}
		return !stays
	})
	for _, m := range members {
		if m.Name != t.n.o.Name && !slices.ContainsFunc(t.pushes, func(p *pusher) bool { return p.to.Name == m.Name }) {
			t.startPusher(m)
		}
	}
}

// push has every follower told that this entry is committed.
func (t *term) push(index, term uint64) {
	t.followMembers()
	mark := &appliedMark{index, term}
	for _, p := range t.pushes {
		p.mark.Store(mark)
		select {
		case p.sign <- struct{}{}:
		default:
		}
	}
}

func (t *term) pushLoop(ctx context.Context, p *pusher) {
	for {
		select {
		case <-p.sign:
			if t.heardLately(p.to.Name) {
				t.pushTo(p)
			}
		case <-ctx.Done():
			return
		}
	}
}

// pushTo sends the newest mark, again if the follower does not hold the entry yet or the connection was stale.
func (t *term) pushTo(p *pusher) {
	wait := pushPause
	for range pushTries {
		mark := p.mark.Load()
		var answer raft.AppendEntriesResponse
		err := t.n.trans.AppendEntries(raft.ServerID(p.to.Name), raft.ServerAddress(p.to.Address), t.commitMessage(*mark), &answer)
		if err == nil && answer.Success || answer.Term > t.number {
			return
		}
		if !pause(t.ctx, wait) || !t.heardLately(p.to.Name) {
			return
		}
		wait *= 2
	}
}

func (t *term) commitMessage(m appliedMark) *raft.AppendEntriesRequest {
	id, address := raft.ServerID(t.n.o.Name), t.n.trans.LocalAddr()
	encoded := t.n.trans.EncodePeer(id, address)
	return &raft.AppendEntriesRequest{
		RPCHeader:         raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(id), Addr: encoded},
		Term:              t.number,
		PrevLogEntry:      m.index,
		PrevLogTerm:       m.term,
		LeaderCommitIndex: m.index,
	}
}
