package cluster

import (
	"context"
	"sync"
	"time"
)

const (
	// pokeEvery is how often one app may be poked.
	pokeEvery = 100 * time.Millisecond
	// maxPokes bounds the pokes that wait; a poke that finds no room is dropped, like one that is older than pokeLife.
	maxPokes = 64
	pokeLife = time.Second
	maxPoked = 4096 // apps remembered for pokeEvery
)

// pokes are the first failures on their way to the other watchers. They only hasten what the probes would find anyway,
// so they are sent once and forgotten.
type pokes struct {
	queue chan outgoing

	mu   sync.Mutex
	last map[pokeKey]time.Time // guarded by mu
}

type pokeKey struct {
	failure
	spread bool // as the leader, to the others
}

// outgoing is one poke for one watcher.
type outgoing struct {
	to  string
	q   request
	at  time.Time
	own bool // to the leader, whoever that is by then
}

func newPokes() *pokes {
	return &pokes{queue: make(chan outgoing, maxPokes), last: map[pokeKey]time.Time{}}
}

// allow keeps one app's pokes apart by pokeEvery.
func (p *pokes) allow(key pokeKey, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.last[key]) < pokeEvery {
		return false
	}
	if len(p.last) >= maxPoked {
		for k, at := range p.last {
			if now.Sub(at) >= pokeEvery {
				delete(p.last, k)
			}
		}
		if len(p.last) >= maxPoked {
			return false
		}
	}
	p.last[key] = now
	return true
}

func (p *pokes) put(o outgoing) {
	select {
	case p.queue <- o:
	default:
	}
}

// FirstFailure says that this watcher has seen an app fail for the first time: the leader makes the others probe it at
// once. It returns immediately; more than one call in 100 ms for one app does nothing.
func (n *Node) FirstFailure(group, app string) {
	f := failure{Group: group, App: app}
	if n.pokes.allow(pokeKey{f, false}, time.Now()) {
		n.pokes.put(outgoing{own: true, q: request{Failed: &f}, at: time.Now()})
	}
}

// spreadFailure is the leader's part: to all but the one that has seen it.
func (n *Node) spreadFailure(from string, f failure) {
	if n.term.Load() == nil || !n.pokes.allow(pokeKey{f, true}, time.Now()) {
		return
	}
	for _, p := range n.members() {
		switch p.Name {
		case from:
		case n.o.Name:
			n.poked(f)
		default:
			n.pokes.put(outgoing{to: p.Name, q: request{Poke: &f}, at: time.Now()})
		}
	}
}

func (n *Node) poked(f failure) {
	if n.o.OnPoke != nil {
		n.o.OnPoke(f.Group, f.App)
	}
}

// pokeLoop sends pokes, each in its own time so that a frozen watcher does not hold up the others.
func (n *Node) pokeLoop(ctx context.Context) {
	slots := make(chan struct{}, maxPokes)
	for {
		select {
		case o := <-n.pokes.queue:
			select {
			case slots <- struct{}{}:
				n.spawn(func() {
					defer func() { <-slots }()
					n.sendPoke(ctx, o)
				})
			default:
			}
		case <-ctx.Done():
			return
		}
	}
}

func (n *Node) sendPoke(ctx context.Context, o outgoing) {
	to := o.to
	if o.own {
		to = n.view.Load().id
	}
	if to == n.o.Name {
		n.spreadFailure(n.o.Name, *o.q.Failed)
		return
	}
	p, ok := n.member(to)
	if !ok {
		return
	}
	ctx, cancel := context.WithDeadline(ctx, o.at.Add(pokeLife))
	defer cancel()
	_, _ = n.peer(to).call(ctx, p.Address, o.q) // fire and forget
}
