package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Errors of Transfer.
var (
	// ErrNoSuccessor means that no other watcher, or not the one asked for, can take the leadership now.
	ErrNoSuccessor = errors.New("no other watcher can take the leadership now")
	// ErrTransferred means that this term's one transfer was used (hashicorp/raft #696).
	ErrTransferred = errors.New("leadership was to be handed over in this term before; at most once in a term is safe")
)

// handover is a wish to give leadership away.
type handover struct {
	reason string
	to     []string   // one of these; empty: whoever is best
	done   chan error // one slot, or nil: nobody waits for the end
}

func (h handover) answer(err error) {
	if h.done != nil {
		h.done <- err
	}
}

// transferOrder is a request to the leader.
type transferOrder struct {
	To string `json:"to,omitempty"`
}

// Transfer has leadership handed over, to a watcher or, if to is empty, to the one that is best prepared. It returns when
// another watcher leads. Errors: ErrNoLeader, ErrNoSuccessor, ErrTransferred.
func (n *Node) Transfer(ctx context.Context, to string) error {
	view := n.view.Load()
	switch {
	case view.id == "":
		return ErrNoLeader
	case view.id == to:
		return nil
	case view.id == n.o.Name:
		if err := n.transferOwn(ctx, to); err != nil {
			return err
		}
	default:
		p, ok := n.member(view.id)
		if !ok {
			return fmt.Errorf("%w: %q leads and is not known here", ErrNoLeader, view.id)
		}
		a, err := n.peer(view.id).call(ctx, p.Address, request{Transfer: &transferOrder{To: to}})
		if err != nil {
			return fmt.Errorf("%w: %v", ErrNoLeader, err)
		}
		if err := transferError(a); err != nil {
			return err
		}
	}
	return n.awaitLeader(ctx, view.id)
}

// awaitLeader waits until another watcher than old leads.
func (n *Node) awaitLeader(ctx context.Context, old string) error {
	for {
		view := n.view.Load()
		if view.id != "" && view.id != old {
			return nil
		}
		if n.stopping.Load() { // then the view's end is no word of another
			return fmt.Errorf("%w: the old one was asked to give way, and this watcher has stopped meanwhile", ErrNoLeader)
		}
		select {
		case <-view.changed.Done():
		case <-ctx.Done():
			return fmt.Errorf("%w: the old one has given way and no new one was seen", ErrNoLeader)
		}
	}
}

func (n *Node) transferOwn(ctx context.Context, to string) error {
	t := n.term.Load()
	if t == nil {
		return ErrNoLeader
	}
	h := handover{reason: "asked for", done: make(chan error, 1)}
	if to != "" {
		h.to = []string{to}
	}
	if _, ok := t.successor(time.Now(), h.to...); !ok {
		return ErrNoSuccessor
	}
	select {
	case t.give <- h:
	case <-t.ctx.Done():
		return ErrNoLeader
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-h.done:
		return err
	case <-t.gone:
		return nil // it was lost meanwhile, which is what was wanted
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Kinds of answers to a transferOrder, beside errorNoLeader.
var transferErrors = map[string]error{"no_successor": ErrNoSuccessor, "transferred": ErrTransferred}

func (n *Node) takeTransfer(ctx context.Context, o transferOrder) answer {
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	err := n.transferOwn(ctx, o.To)
	for kind, known := range transferErrors {
		if errors.Is(err, known) {
			return answer{Kind: kind, Error: err.Error()}
		}
	}
	if err != nil {
		return answer{Kind: errorNoLeader, Error: err.Error()}
	}
	return answer{}
}

func transferError(a answer) error {
	if a.Kind == "" {
		return nil
	}
	if known := transferErrors[a.Kind]; known != nil {
		return known
	}
	return fmt.Errorf("%w: %s", ErrNoLeader, a.Error)
}
