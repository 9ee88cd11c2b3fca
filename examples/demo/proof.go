package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// evidence is what was written down at the moment of the kill.
type evidence struct {
	orders int    // in main's database
	sum    string // over all of them
}

// proof is one thing that must be true after the switch, and why it is not (nil: it is).
type proof struct {
	text string
	err  error
}

// prove asks everybody once more, over the wire and through their sockets.
func (st *story) prove(ctx context.Context) []proof {
	s := st.board.look()
	return []proof{
		{fmt.Sprintf("asked over UDP, all three watchers answer %s %d A %s", recordName, recordTTL, nextAddress), st.proveDNS(ctx)},
		{"all three watchers' history says: failover from main to standby, done", st.proveHistory(ctx)},
		{fmt.Sprintf("the %d orders that main had are on standby, the same and in the same order", st.fate.orders), st.proveData(ctx)},
		{fmt.Sprintf("the customer orders from standby; without service for %s", millis(s.customer.gap)), proveCustomer(&s)},
		{"the old main is in maintenance, its database frozen, and it refuses orders", st.proveFence(ctx)},
	}
}

func (st *story) proveDNS(ctx context.Context) error {
	var faults []error
	for _, w := range st.lab.watchers {
		address, ttl, err := lookUp(ctx, w.DNS)
		switch {
		case err != nil:
			faults = append(faults, fmt.Errorf("cannot ask %s at %s: %w", w.Name, w.DNS, err))
		case address != nextAddress || ttl != recordTTL:
			faults = append(faults, fmt.Errorf("%s answers %s with TTL %d", w.Name, address, ttl))
		}
	}
	return errors.Join(faults...)
}

func (st *story) proveHistory(ctx context.Context) error {
	var faults []error
	for _, w := range st.lab.watchers {
		h, err := w.api.History(ctx, group, 0)
		switch {
		case err != nil:
			faults = append(faults, fmt.Errorf("cannot ask %s for its history: %w", w.Name, err))
		case len(h.Switchovers) != 1:
			faults = append(faults, fmt.Errorf("%s knows of %d switchovers, not one", w.Name, len(h.Switchovers)))
		default:
			if r := h.Switchovers[0]; r.Kind != "failover" || r.From != "main" || r.To != "standby" || r.Result != "done" {
				faults = append(faults, fmt.Errorf("%s says: %s from %s to %s, %s %v", w.Name, r.Kind, r.From, r.To, r.Result, r.Exceptions))
			}
		}
	}
	return errors.Join(faults...)
}

func (st *story) proveData(ctx context.Context) error {
	sum, err := st.lab.standby().sum(ctx, st.fate.orders)
	if err == nil && sum != st.fate.sum {
		err = errors.New("the check sums over them differ")
	}
	return err
}

func proveCustomer(s *scene) error {
	if s.customer.again.IsZero() {
		return errors.New("standby has not taken an order")
	}
	return nil
}

func (st *story) proveFence(ctx context.Context) error {
	main := st.lab.main()
	c, err := main.condition(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("cannot ask main: %w", err)
	case c.Open || !c.Frozen:
		return fmt.Errorf("main in maintenance: %t, frozen: %t", !c.Open, c.Frozen)
	}
	status, _, err := ask(ctx, web, http.MethodPost, main.URL+"/orders", map[string][]string{"name": {"Mallory"}, "item": {"a second truth"}})
	if err == nil && status != http.StatusServiceUnavailable {
		err = fmt.Errorf("main answers %d to an order", status)
	}
	return err
}

// rows shows the proofs; the error holds those that failed.
func proofRows(list []proof, g signs) ([]row, error) {
	var rows []row
	var faults []error
	for _, p := range list {
		if p.err != nil {
			rows = append(rows, row{{bad, "  " + g.no + " not: " + p.text}})
			faults = append(faults, fmt.Errorf("not so: %s: %w", p.text, p.err))
			continue
		}
		rows = append(rows, row{{good, "  " + g.yes + " "}, {plain, p.text}})
	}
	return rows, errors.Join(faults...)
}
