package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"
)

// maxReason bounds a reason in bytes: reasons travel through the replicated log.
const maxReason = 200

// errUnable wraps a fault of this watcher (a missing file, no descriptors left). It must never count against the app.
type errUnable struct{ err error }

func (e errUnable) Error() string { return e.err.Error() }
func (e errUnable) Unwrap() error { return e.err }

// localFaults are the errors by which the kernel says that this machine, not the app, is in trouble.
var localFaults = []error{
	syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOBUFS, syscall.EADDRNOTAVAIL, syscall.EPERM,
}

// judge tells what a check's error means for the app.
func judge(err error) outcome {
	if err == nil {
		return success
	}
	var fault errUnable
	if errors.As(err, &fault) {
		return unable
	}
	var dns *net.DNSError
	if errors.As(err, &dns) && !dns.IsNotFound {
		return unable // a resolver that does not answer says nothing about the app
	}
	for _, local := range localFaults {
		if errors.Is(err, local) {
			return unable
		}
	}
	return failure
}

// reasonOf says in a few words why a check failed, the same words for the same fault whatever library met it, so that
// watchers agree on the cause and no address or URL is repeated in it.
func reasonOf(err error, timeout time.Duration) string {
	var (
		dns     *net.DNSError
		invalid x509.CertificateInvalidError
		network net.Error

		operation *net.OpError
	)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection reset"
	case errors.Is(err, syscall.EHOSTUNREACH):
		return "no route to host"
	case errors.Is(err, syscall.ENETUNREACH):
		return "network unreachable"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		return expiryReason(invalid.Cert)
	case errors.As(err, &dns) && dns.IsNotFound:
		return printable(fmt.Sprintf("host name %s does not exist", dns.Name))
	case dns != nil:
		return printable(fmt.Sprintf("cannot resolve %s", dns.Name))
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &network) && network.Timeout():
		return fmt.Sprintf("no answer within %s", timeout)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection closed without an answer"
	case errors.As(err, &operation):
		return printable(operation.Err.Error()) // without the addresses: the local port is another one each time
	}
	return printable(err.Error())
}

// untrusted reports whether a check failed on the certificate that the app showed, and not on what it said or did.
func untrusted(err error) bool {
	var refused *tls.CertificateVerificationError
	return errors.As(err, &refused)
}

// expiryReason names the date: Go's own message repeats the current time, which would differ from probe to probe.
func expiryReason(cert *x509.Certificate) string {
	if time.Now().Before(cert.NotBefore) {
		return "certificate is not valid before " + cert.NotBefore.UTC().Format(time.RFC3339)
	}
	return "certificate expired at " + cert.NotAfter.UTC().Format(time.RFC3339)
}

// printable makes text of the outside fit for a log line, a terminal and the replicated log.
func printable(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return ' '
		}
		return r
	}, text)
	text = strings.TrimSpace(text)
	if len(text) <= maxReason {
		return text
	}
	cut := maxReason - len("...")
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "..."
}
