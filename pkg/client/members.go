package client

import (
	"context"
	"net/http"
	"net/url"
)

// Paths of the members.
const (
	MembersPath  = "/v1/members"
	TransferPath = MembersPath + "/transfer"
)

// MemberPath is the path of one watcher.
func MemberPath(name string) string { return MembersPath + "/" + url.PathEscape(name) }

// Members asks for the watchers of the cluster and the change of them that is under way.
func (c *Client) Members(ctx context.Context) (*Members, error) {
	return call[Members](ctx, c, http.MethodGet, MembersPath, nil)
}

// AddMember adds a watcher, or gives one another address. It returns when that is committed; the watcher counts once it
// has been started and has caught up.
func (c *Client) AddMember(ctx context.Context, r MemberRequest) (*Accepted, error) {
	return call[Accepted](ctx, c, http.MethodPost, MembersPath, r)
}

// RemoveMember removes a watcher.
func (c *Client) RemoveMember(ctx context.Context, name string) (*Accepted, error) {
	return call[Accepted](ctx, c, http.MethodDelete, MemberPath(name), nil)
}

// Transfer has leadership handed to a watcher; empty: to any other one.
func (c *Client) Transfer(ctx context.Context, to string) (*Transferred, error) {
	return call[Transferred](ctx, c, http.MethodPost, TransferPath, TransferRequest{To: to})
}
