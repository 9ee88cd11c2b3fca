package proctest

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/watchover-ha/watchover/pkg/client"
)

func (c *cluster) client(watcher string) *client.Client { return client.New(c.path(watcher + ".sock")) }

// status asks one watcher; nil if it does not answer.
func (c *cluster) status(watcher string) *client.Status {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	cl := c.client(watcher)
	defer cl.Close()
	s, err := cl.Status(ctx)
	if err != nil || len(s.Groups) != 1 {
		return nil
	}
	return s
}

// history is the ended switchovers, newest first, as a watcher knows them.
func (c *cluster) history(watcher string) []client.Switchover {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cl := c.client(watcher)
	defer cl.Close()
	h, err := cl.History(ctx, group, 100)
	must(c.t, err)
	return h.Switchovers
}

// running lists the watchers that were started and have neither ended nor been frozen.
func (c *cluster) running() []string {
	var list []string
	for _, name := range names {
		if p := c.watchers[name]; p != nil && p.alive() && !c.frozen[name] {
			list = append(list, name)
		}
	}
	return list
}

// leader waits until all running watchers agree who leads, and names it and one that does not lead.
func (c *cluster) leader() (leader, follower string) {
	c.t.Helper()
	eventually(c.t, "a leader that all running watchers name", func() (bool, any) {
		leader, follower = "", ""
		seen := map[string]string{}
		for _, name := range c.running() {
			if s := c.status(name); s != nil && s.Cluster.Leader != nil {
				seen[name] = *s.Cluster.Leader
			}
		}
		for name, said := range seen {
			if leader == "" {
				leader = said
			}
			if said != leader {
				return false, seen
			}
			if name != leader {
				follower = name
			}
		}
		return len(seen) == len(c.running()) && leader != "" && slices.Contains(c.running(), leader), seen
	})
	return leader, follower
}

// on waits until a watcher's status fulfils a condition.
func (c *cluster) on(watcher, what string, condition func(*client.Status, *client.Group) bool) *client.Status {
	c.t.Helper()
	var last *client.Status
	eventually(c.t, what+" on "+watcher, func() (bool, any) {
		s := c.status(watcher)
		if s == nil {
			return false, "no answer"
		}
		last = s
		return condition(s, &s.Groups[0]), shown(s.Groups[0])
	})
	return last
}

// onAll waits until the statuses of all running watchers fulfil a condition.
func (c *cluster) onAll(what string, condition func(*client.Status, *client.Group) bool) {
	c.t.Helper()
	for _, name := range c.running() {
		c.on(name, what, condition)
	}
}

// waitReady waits until every running watcher sees the whole cluster heard and the group guarded, with the other app
// ready to take over.
func (c *cluster) waitReady(standby string) {
	c.t.Helper()
	c.onAll(standby+" ready", func(s *client.Status, g *client.Group) bool {
		for _, w := range s.Cluster.Watchers {
			if w.Silent {
				return false
			}
		}
		armed := g.Automation.Armed || c.settings.mode == "manual"
		return s.Cluster.Leader != nil && g.Active == other(standby) && armed && g.Switchover == nil &&
			appOf(g, standby).Ready && !appOf(g, standby).Marked && appOf(g, other(standby)).Health == "up"
	})
}

func appOf(g *client.Group, name string) *client.App {
	for i := range g.Apps {
		if g.Apps[i].Name == name {
			return &g.Apps[i]
		}
	}
	return &client.App{}
}

func stepOf(w *client.Switchover, name string) *client.Step {
	if w != nil {
		for i := range w.Steps {
			if w.Steps[i].Name == name {
				return &w.Steps[i]
			}
		}
	}
	return &client.Step{}
}

// answer is what a watcher's name server says to a query for the record.
type answer struct {
	address string
	ttl     uint32
	ede     int // extended error, -1: none
}

// ask queries one watcher's name server.
func (c *cluster) ask(watcher string) (answer, error) {
	q := question()
	conn, err := c.dialDNS(watcher, watcher)
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	r, _, err := (&dns.Client{Timeout: 2 * time.Second}).ExchangeWithConn(q, conn)
	if err != nil {
		return answer{}, err
	}
	return readAnswer(r)
}

// dialDNS connects to a watcher's name server; where there are hosts, from one of them.
func (c *cluster) dialDNS(from, watcher string) (*dns.Conn, error) {
	if c.lab == nil {
		return dns.Dial("udp", c.dnsAddress(watcher))
	}
	conn, err := c.lab.hosts[from].dial(context.Background(), "udp", c.dnsAddress(watcher))
	return &dns.Conn{Conn: conn}, err
}

// question asks for the record.
func question() *dns.Msg {
	q := new(dns.Msg)
	q.SetQuestion(fqdn, dns.TypeA)
	q.SetEdns0(1232, false)
	return q
}

func readAnswer(r *dns.Msg) (answer, error) {
	a := answer{ede: -1}
	if opt := r.IsEdns0(); opt != nil {
		for _, option := range opt.Option {
			if e, ok := option.(*dns.EDNS0_EDE); ok {
				a.ede = int(e.InfoCode)
			}
		}
	}
	if len(r.Answer) != 1 {
		return a, fmt.Errorf("%d answers, %s", len(r.Answer), dns.RcodeToString[r.Rcode])
	}
	if record, ok := r.Answer[0].(*dns.A); ok {
		a.address, a.ttl = record.A.String(), record.Hdr.Ttl
	}
	return a, nil
}

// waitRecord waits until every running watcher answers with the address of app.
func (c *cluster) waitRecord(app string) {
	c.t.Helper()
	for _, name := range c.running() {
		eventually(c.t, name+" answers "+app, func() (bool, any) {
			a, err := c.ask(name)
			return err == nil && a.address == addresses[app], fmt.Sprint(a, err)
		})
	}
}

// serves reports whether an app serves its page.
func (c *cluster) serves(app string) bool {
	cl := c.visitor()
	resp, err := cl.Get("http://" + c.appAddress(app) + "/")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// visitor is a client of the apps, on a host of its own where there are hosts.
func (c *cluster) visitor() *http.Client {
	transport := &http.Transport{DisableKeepAlives: true}
	if c.lab != nil {
		transport.DialContext = c.lab.hosts["visitor"].dial
	}
	return &http.Client{Timeout: 2 * time.Second, Transport: transport}
}

func (c *cluster) changes() []Change {
	c.t.Helper()
	list, err := ReadLines[Change](c.path(ChangesFile))
	must(c.t, err)
	return list
}

func (c *cluster) hookLines() []HookLine {
	c.t.Helper()
	list, err := ReadLines[HookLine](c.path(HooksFile))
	must(c.t, err)
	return list
}
