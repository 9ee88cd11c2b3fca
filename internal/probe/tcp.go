package probe

import (
	"context"
	"fmt"
	"net"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// tcpCheck: a connection that is accepted is up.
type tcpCheck struct {
	address string
	dialer  net.Dialer
}

func newTCPCheck(spec failover.Probe, around surroundings) (checker, error) {
	if err := checkAddress(spec.Address); err != nil {
		return nil, err
	}
	// The connection is closed at once, so no keep-alive needs to be set up for it.
	return &tcpCheck{address: spec.Address, dialer: net.Dialer{Timeout: around.timeout, KeepAlive: -1}}, nil
}

func (c *tcpCheck) check(ctx context.Context) (answer, error) {
	conn, err := c.dialer.DialContext(ctx, "tcp", c.address)
	if err != nil {
		return answer{}, err
	}
	_ = conn.Close() // that it was accepted is all that was asked
	return answer{}, nil
}

func (c *tcpCheck) drop() {}

func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || port == "" {
		return fmt.Errorf("cannot use address %q: write it as host:port", address)
	}
	return nil
}
