package probe

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// tlsCheck: a handshake with a certificate that is trusted, in time and made out to the name is up.
type tlsCheck struct {
	address string
	dialer  net.Dialer
	config  *tls.Config
	caFile  *watchedFile // nil: the system's roots
}

func newTLSCheck(spec failover.Probe, around surroundings) (checker, error) {
	if err := checkAddress(spec.Address); err != nil {
		return nil, err
	}
	host, _, _ := net.SplitHostPort(spec.Address) // checked just above
	return &tlsCheck{
		address: spec.Address,
		dialer:  net.Dialer{Timeout: around.timeout, KeepAlive: -1},
		config:  &tls.Config{ServerName: cmp.Or(spec.ServerName, host), MinVersion: tls.VersionTLS12},
		caFile:  newWatchedFile(around.dir, spec.CAFile),
	}, nil
}

func (c *tlsCheck) check(ctx context.Context) (answer, error) {
	if c.caFile != nil {
		pool, err := loadPool(ctx, c.caFile)
		if err != nil {
			return answer{}, err
		}
		if pool != nil {
			c.config = withRoots(c.config, pool)
		}
	}
	raw, err := c.dialer.DialContext(ctx, "tcp", c.address)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = raw.Close() }() // the raw one: tls.Conn.Close would write first, perhaps to nobody
	conn := tls.Client(raw, c.config)
	err = conn.HandshakeContext(ctx)
	return answer{expires: expiry(conn.ConnectionState(), err)}, err
}

func (c *tlsCheck) drop() {}

// withRoots copies the config: a handshake may still be using the old one.
func withRoots(config *tls.Config, pool *x509.CertPool) *tls.Config {
	config = config.Clone()
	config.RootCAs = pool
	return config
}

// expiry is when the app's own certificate expires; also of one that was refused, because then it matters most.
func expiry(state tls.ConnectionState, err error) time.Time {
	if len(state.PeerCertificates) > 0 {
		return state.PeerCertificates[0].NotAfter
	}
	var refused *tls.CertificateVerificationError
	if errors.As(err, &refused) && len(refused.UnverifiedCertificates) > 0 {
		return refused.UnverifiedCertificates[0].NotAfter
	}
	return time.Time{}
}
