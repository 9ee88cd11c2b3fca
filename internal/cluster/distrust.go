package cluster

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// distrust is why a connection was ended before either end knew the other: what is wrong, and what to do about it, in
// words for an operator. Package tls tells it in its own words, some of them only as text.
type distrust struct {
	what string // in short
	text string
	tell string // to be said to the other end, in plain; empty: nothing
}

// What can be wrong, in short.
const (
	whatNoWatcher     = "no watcher"
	whatPlain         = "no TLS"
	whatNoCertificate = "no certificate"
	whatAuthority     = "unknown authority"
	whatExpired       = "expired certificate"
	whatName          = "wrong name"
	whatUsage         = "certificate of the wrong kind"
	whatRefused       = "certificate refused"
	whatSilent        = "no answer"
)

func (d *distrust) Error() string { return d.text }

// distrustCaller says why an accepted connection's handshake failed. The caller looked for the watcher called meant, if
// it said so.
func (g *gate) distrustCaller(err error, meant string) error {
	var header tls.RecordHeaderError
	var refused *tls.CertificateVerificationError
	switch text := err.Error(); {
	case errors.As(err, &header) && string(header.RecordHeader[:len(magic)]) == magic:
		return &distrust{what: whatPlain, text: "it speaks without TLS; set cluster.tls in its file too", tell: "this watcher speaks only TLS; set cluster.tls in your file too"}
	case errors.As(err, &header):
		return &distrust{what: whatNoWatcher, text: "it does not speak TLS, so it is no watcher"}
	case errors.As(err, &refused):
		return certificateDistrust(refused, g.claimed(refused))
	case strings.Contains(text, "didn't provide a certificate"):
		return &distrust{what: whatNoCertificate, text: "it shows no certificate; a watcher's own is made by `watchover pki issue`"}
	case strings.Contains(text, "unsupported application protocols"), strings.Contains(text, "unsupported versions"):
		return &distrust{what: whatNoWatcher, text: "it is no watcher, or one of another version: " + clip(strings.TrimPrefix(text, "tls: "))}
	case alertOf(err) != "":
		return g.refusedByCaller(alertOf(err), meant)
	}
	return &distrust{what: whatSilent, text: "it did not end the TLS handshake: " + clip(err.Error())}
}

// claimed is the member that an unverified certificate is made out to; empty: none. It is good for a hint only.
func (g *gate) claimed(refused *tls.CertificateVerificationError) string {
	for _, cert := range refused.UnverifiedCertificates[:min(1, len(refused.UnverifiedCertificates))] {
		for _, name := range cert.DNSNames {
			if _, known := g.n.member(name); known {
				return name
			}
		}
	}
	return ""
}

func (g *gate) refusedByCaller(alert, meant string) error {
	d := &distrust{what: whatRefused}
	switch {
	case meant != "" && meant != g.n.o.Name:
		d.what = whatName
		d.text = fmt.Sprintf("it looks for watcher %q here, which is %q; check the addresses under cluster.watchers", clip(meant), g.n.o.Name)
	case g.overdue():
		d.what = whatExpired
		d.text = "it does not accept this watcher's certificate, which has ended; " + renew(g.n.o.Name)
	default:
		d.text = fmt.Sprintf("it does not accept this watcher's certificate (%s); all watchers need the same ca_file, and its log says more", alert)
	}
	return d
}

// distrustPeer says why a watcher that was dialled is not trusted, or does not trust this one. With TLS 1.3 the latter
// is heard only when its answer is read. Nil: the error is of another kind, such as a lost connection.
func (g *gate) distrustPeer(err error, name string) *distrust {
	var known *distrust
	var header tls.RecordHeaderError
	var refused *tls.CertificateVerificationError
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &header):
		return &distrust{what: whatPlain, text: "it answers without TLS; set cluster.tls in its file too"}
	case errors.As(err, &refused):
		return certificateDistrust(refused, name)
	}
	own := g.n.o.Name
	switch alert := alertOf(err); alert {
	case "":
		return nil
	case "expired certificate":
		return &distrust{what: whatExpired, text: "it says that this watcher's certificate has ended, or has not begun by its clock; " + renew(own)}
	case "unknown certificate authority":
		return &distrust{what: whatAuthority, text: "it does not know the authority of this watcher's certificate; all watchers need the same ca_file"}
	case "no application protocol", "protocol version not supported":
		return &distrust{what: whatNoWatcher, text: "it is no watcher, or one of another version (" + alert + ")"}
	default:
		return &distrust{what: whatRefused, text: "it does not accept this watcher's certificate (" + alert + "); its log says why"}
	}
}

// certificateDistrust says what is wrong with the certificate that the other end shows.
func certificateDistrust(refused *tls.CertificateVerificationError, want string) *distrust {
	leaf := &x509.Certificate{}
	if len(refused.UnverifiedCertificates) > 0 {
		leaf = refused.UnverifiedCertificates[0]
	}
	whose := fmt.Sprintf("its certificate for %q ", clip(strings.Join(leaf.DNSNames, ", ")))
	var invalid x509.CertificateInvalidError
	var hostname x509.HostnameError
	switch err := refused.Err; {
	case errors.As(err, &x509.UnknownAuthorityError{}):
		return &distrust{what: whatAuthority, text: whose + fmt.Sprintf("is issued by %q, which is not in ca_file here; all watchers need the same ca_file", clip(leaf.Issuer.CommonName))}
	case errors.As(err, &hostname):
		return wrongName(leaf, want)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		if time.Now().Before(leaf.NotBefore) {
			return &distrust{what: whatExpired, text: whose + "is not good before " + leaf.NotBefore.UTC().Format(time.RFC3339) + "; check the clocks of both machines"}
		}
		return &distrust{what: whatExpired, text: whose + "has ended at " + leaf.NotAfter.UTC().Format(time.RFC3339) + "; " + renew(want)}
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return &distrust{what: whatUsage, text: whose + "may not be used for this end of a connection; it needs the extended key usages serverAuth and clientAuth"}
	default:
		return &distrust{what: whatRefused, text: whose + "cannot be verified: " + clip(strings.TrimPrefix(err.Error(), "x509: "))}
	}
}

func wrongName(leaf *x509.Certificate, want string) *distrust {
	return &distrust{what: whatName, text: fmt.Sprintf("its certificate is made out to %q, not to %q, whom cluster.watchers has at this address", clip(strings.Join(leaf.DNSNames, ", ")), want)}
}

// renew says how to get a new certificate; without a name, whose is not known for certain.
func renew(name string) string {
	if name == "" {
		name = "NAME"
	}
	return "`watchover pki issue " + name + "` makes a new one"
}

// overdue reports whether this watcher's own certificate has ended.
func (g *gate) overdue() bool {
	leaf := g.n.o.Credentials().Certificate.Leaf
	return leaf != nil && time.Now().After(leaf.NotAfter)
}

// alertOf is the alert (RFC 8446, section 6) with which the other end ended the handshake; empty: it did not.
func alertOf(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		return strings.TrimPrefix(op.Err.Error(), "tls: ")
	}
	return ""
}

// clip keeps a text from outside short in the log.
func clip(text string) string {
	const limit = 120
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "") + "..."
}

// turnAway logs once in a while why a caller was not let in, each reason of each host, and ends the connection.
func (g *gate) turnAway(c *conn, err error) {
	host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
	what := whatSilent
	var d *distrust
	if errors.As(err, &d) {
		what = d.what
		if d.tell != "" {
			_ = writeFrame(c.Conn, []byte(d.tell)) // it hears this or it does not
		}
	}
	g.say(host+" "+what, what, "", c.RemoteAddr().String(), err)
	c.linger()
}

// say logs a failure between watchers, each key once a minute: who is wrong stays so for a while, and tries again all
// the time.
func (g *gate) say(key, what, name, address string, err error) {
	ok, held := g.strangers.allow(key)
	if !ok {
		return
	}
	line := g.n.log.Warn().Err(err).Str(keyAddress, address).Str(keyReason, what).Int(keySuppressed, held)
	if name != "" {
		line = line.Str(keyPeer, name)
	}
	line.Msg("connection between watchers failed")
}

const (
	lingerTimeout = time.Second
	maxLinger     = 64 << 10 // bytes
)

// linger ends a connection so that the other end hears what was said last: what it has sent meanwhile is read, because
// the kernel would otherwise reset the connection, and the reset overtakes the words.
func (c *conn) linger() {
	defer func() { _ = c.Close() }()
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = c.SetDeadline(time.Now().Add(lingerTimeout))
	_, _ = io.CopyN(io.Discard, c.Conn, maxLinger)
}
