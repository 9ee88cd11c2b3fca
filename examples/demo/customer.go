package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	orderPace  = 20 * time.Millisecond
	marksShown = 60 // orders on the strip
	marksLead  = 10 // of them from before the kill
)

var (
	buyers = []string{"Ada", "Grace", "Edsger", "Barbara", "Leslie", "Radia", "Ken", "Frances"}
	goods  = []string{"an espresso", "a slice of cake", "a loaf of rye", "a jar of honey", "a red balloon"}
)

// customer orders all the time. For each order it asks one watcher after the other for the shop's name and goes to the
// address in the answer: a client whose resolver has nothing in its cache.
type customer struct {
	board   *board
	servers []string // the watchers' DNS addresses
	port    string
	client  *http.Client
	// between is held while an order is under way, so that the story can kill a shop between two orders.
	between sync.Mutex
}

func newCustomer(l *lab, b *board) *customer {
	_, port, _ := net.SplitHostPort(l.main().Listen)
	c := &customer{board: b, port: port, client: &http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	for _, w := range l.watchers {
		c.servers = append(c.servers, w.DNS)
	}
	return c
}

// order goes shopping until the context ends.
func (c *customer) order(ctx context.Context) {
	defer c.client.CloseIdleConnections()
	for n := 0; ctx.Err() == nil; n++ {
		c.between.Lock()
		address, err := c.buy(ctx, n)
		c.between.Unlock()
		if ctx.Err() != nil {
			return
		}
		now := time.Now()
		c.board.update(func(s *scene) { s.ordered(now, address, err == nil) })
		pause(ctx, c.board.pace(orderPace))
	}
}

// buy places order n and returns the address that took it.
func (c *customer) buy(ctx context.Context, n int) (string, error) {
	address, _, err := lookUp(ctx, c.servers[n%len(c.servers)])
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("%s (%d)", buyers[n%len(buyers)], n+1)
	return address, order(ctx, c.client, "http://"+net.JoinHostPort(address, c.port), name, goods[n%len(goods)])
}

// ordered notes how an order went.
func (s *scene) ordered(now time.Time, address string, taken bool) {
	v := &s.customer
	if s.killed.IsZero() || len(v.marks) < marksShown {
		v.marks = append(v.marks, taken)
	}
	if s.killed.IsZero() {
		v.marks = v.marks[max(0, len(v.marks)-marksShown):]
	}
	if !taken {
		v.refused++
		return
	}
	if !s.killed.IsZero() && v.again.IsZero() && address == s.shops[1].address {
		v.again, v.gap = now, now.Sub(v.last)
	}
	v.taken, v.last, v.at = v.taken+1, now, address
}

// strike notes the kill; the strip goes on from shortly before it.
func (s *scene) strike(now time.Time) {
	s.killed = now
	marks := s.customer.marks
	s.customer.marks = marks[max(0, len(marks)-marksLead):]
}
