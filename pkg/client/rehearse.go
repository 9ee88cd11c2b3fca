package client

import (
	"context"
	"net/http"
)

// Rehearsal is what every watcher found when it tried what a group's plan would need, changing nothing.
type Rehearsal struct {
	Group  string           `json:"group"`
	Ready  bool             `json:"ready"` // every check passed on every watcher
	Checks []RehearsalCheck `json:"checks"`
}

// RehearsalCheck is one thing that was tried.
type RehearsalCheck struct {
	Watcher string `json:"watcher"`
	App     string `json:"app"`   // empty: of the whole group
	Check   string `json:"check"` // plan, files, dns, maintenance, database, privileges, settings, reach
	OK      bool   `json:"ok"`
	Detail  string `json:"detail"`
}

// Rehearse has every watcher try what the group's plan would need, changing nothing. It takes up to ten seconds.
func (c *Client) Rehearse(ctx context.Context, group string) (*Rehearsal, error) {
	return call[Rehearsal](ctx, c, http.MethodPost, GroupPath(group, "rehearse"), nil)
}

// ReprotectRequest asks that an old primary be made a replica of the new one.
type ReprotectRequest struct {
	App   string `json:"app,omitempty"`   // empty: the only one that is kept fenced
	Force bool   `json:"force,omitempty"` // also where writes on it would vanish
}

// Reprotect asks for it; it returns as soon as that is committed. App.Reprotecting tells how long it goes on, App.Marked how it
// went.
func (c *Client) Reprotect(ctx context.Context, group string, r ReprotectRequest) (*Accepted, error) {
	return call[Accepted](ctx, c, http.MethodPost, GroupPath(group, "reprotect"), r)
}
