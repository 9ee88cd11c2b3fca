package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

// Credentials are what this watcher proves itself with and whom it believes. A watcher's name is one of the DNS names of
// its certificate.
type Credentials struct {
	Certificate tls.Certificate
	Authorities *x509.CertPool
}

// Application protocols (ALPN, RFC 7301) keep the kinds of connection apart before anything is said.
var alpn = map[string]string{kindRaft: "watchover-raft/1", kindRequest: "watchover-request/1", kindJoin: "watchover-join/1"}

// serverConfig is for a connection that was accepted. It is made anew for each, so that new certificates count at once.
func (g *gate) serverConfig() *tls.Config {
	have := g.n.o.Credentials()
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{have.Certificate},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    have.Authorities,
		NextProtos:   []string{alpn[kindRaft], alpn[kindRequest], alpn[kindJoin]},
		// A resumed session would be let in on a certificate that was looked at long ago. And tickets come unasked, after
		// which an idle connection looks like one that has something to say: see alive.
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true, // a frame leaves in one write
	}
}

// clientConfig is for a connection to the watcher called name.
func (g *gate) clientConfig(name, kind string) *tls.Config {
	have := g.n.o.Credentials()
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		RootCAs:    have.Authorities,
		ServerName: name, // the certificate has to be made out to it
		NextProtos: []string{alpn[kind]},
		// Always shown, also to a watcher that does not know its authority: otherwise the other end could only say that it
		// saw no certificate.
		GetClientCertificate:        func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &have.Certificate, nil },
		DynamicRecordSizingDisabled: true,
	}
}

// names reports whether the certificate is made out to the watcher called name.
func names(leaf *x509.Certificate, name string) bool { return slices.Contains(leaf.DNSNames, name) }

// secureAccepted makes the caller prove itself. It returns the kind of connection that was agreed on.
func (g *gate) secureAccepted(ctx context.Context, c *conn) (kind string, err error) {
	t := tls.Server(c.Conn, g.serverConfig())
	if err := t.HandshakeContext(ctx); err != nil {
		return "", g.distrustCaller(err, t.ConnectionState().ServerName)
	}
	agreed := t.ConnectionState().NegotiatedProtocol
	for k, protocol := range alpn {
		if protocol == agreed {
			return k, g.secured(c, t)
		}
	}
	return "", &distrust{what: whatNoWatcher, text: "it asks for no protocol of the watchers"}
}

// secureDialled makes the other end prove that it is the watcher called name.
func (g *gate) secureDialled(ctx context.Context, c *conn, name, kind string) error {
	t := tls.Client(c.Conn, g.clientConfig(name, kind))
	if err := t.HandshakeContext(ctx); err != nil {
		return err
	}
	return g.secured(c, t)
}

// secured makes what is read and written on c go through t from now on. The authorities may have changed during the
// handshake: either this look finds that, or Retrust finds the connection.
func (g *gate) secured(c *conn, t *tls.Conn) error {
	g.mu.Lock()
	c.tls = t
	g.mu.Unlock()
	if !vouched(t.ConnectionState().PeerCertificates, g.n.o.Credentials().Authorities) {
		return &distrust{what: whatAuthority, text: "its certificate is issued by an authority that was just taken out of ca_file"}
	}
	return nil
}

// Retrust ends the connections of watchers whose authority this watcher no longer believes. It is called when the
// credentials have changed. The mere end of a certificate's time ends no connection: it says nothing about who is at
// the other end, and certificates that were issued together would otherwise take the whole cluster apart in one moment.
func (n *Node) Retrust() {
	if n.o.Credentials == nil {
		return
	}
	authorities := n.o.Credentials().Authorities
	var ended []*conn
	n.gate.mu.Lock()
	for c := range n.gate.conns {
		if c.tls != nil && !vouched(c.tls.ConnectionState().PeerCertificates, authorities) {
			ended = append(ended, c)
		}
	}
	n.gate.mu.Unlock()
	for _, c := range ended {
		_ = c.Close()
	}
	if len(ended) > 0 {
		n.log.Warn().Int("connections", len(ended)).Msg("connections of watchers were ended whose authority is no longer in ca_file")
	}
}

// vouched reports whether the authorities vouch for the certificate, whatever the time is.
func vouched(chain []*x509.Certificate, authorities *x509.CertPool) bool {
	if len(chain) == 0 {
		return false
	}
	between := x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	leaf := chain[0]
	for _, at := range []time.Time{time.Now(), leaf.NotAfter, leaf.NotBefore} {
		if _, err := leaf.Verify(x509.VerifyOptions{
			Roots: authorities, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		}); err == nil {
			return true
		}
	}
	return false
}

// nameAt is the watcher that is dialled at an address: Raft knows only that. The configuration is asked too, for a
// watcher that Raft knows already and the state does not yet, and those removed last: Raft still has to tell them that they are.
func (n *Node) nameAt(address string) (string, error) {
	for _, p := range slices.Concat(n.members(), n.configurationPeers(), n.o.Peers) {
		if p.Address == address {
			return p.Name, nil
		}
	}
	for _, m := range slices.Backward(n.State().Removed) {
		if m.Address == address {
			return m.Name, nil
		}
	}
	return "", fmt.Errorf("cannot dial %s: no watcher has that address", address)
}
