package sim

import "time"

// client writes to whichever app its DNS answer names, and remembers what was acknowledged.
type client struct {
	w       *world
	name    string
	app     string // of the answer it holds
	expires time.Duration
}

func newClient(w *world, name string) *client { return &client{w: w, name: name} }

func (c *client) start() { c.w.after(c.w.delay("client", time.Second), c.write) }

func (c *client) write() {
	w := c.w
	if w.now() >= c.expires {
		c.ask()
	}
	if a := w.app(c.app); a != nil && a.open() && a.writable() {
		x := &write{id: w.orders, at: w.now(), acked: true}
		a.db.take(x)
	}
	w.after(w.delay("write", 2*time.Second), c.write)
}

// ask takes the answer of some watcher that runs.
func (c *client) ask() {
	n := c.w.watchers[c.w.roll("ask", len(c.w.watchers))]
	if n.life == nil || n.paused || n.state.Groups[group] == nil {
		return
	}
	c.app, c.expires = n.state.Groups[group].Active, c.w.now()+ttl
}
