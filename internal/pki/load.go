package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/watchover-ha/watchover/internal/localfile"
)

// maxFile bounds each file, in bytes: a handful of certificates.
const maxFile = 1 << 20

// Files are where a watcher's identity is kept.
type Files struct {
	CA   string // the authorities that it trusts
	Cert string // its certificate, and those between it and the authority
	Key  string
}

// Identity is what a watcher proves itself with and whom it believes. It never changes.
type Identity struct {
	Certificate tls.Certificate
	Authorities *x509.CertPool
	Leaf        *x509.Certificate // the certificate itself
	Expires     time.Time         // of the certificate or one that it depends on, whichever ends first
}

// Part is one of the three files, by its key in the configuration.
type Part string

// The parts.
const (
	PartCA   Part = "ca_file"
	PartCert Part = "cert_file"
	PartKey  Part = "key_file"
)

// Fault is what is wrong with a file.
type Fault struct {
	Part Part
	Text string
	Err  error // of the operating system, if the file could not be read
}

func (f *Fault) Error() string { return string(f.Part) + ": " + f.Text }

// Unwrap gives errors.Is the reason why the file could not be read.
func (f *Fault) Unwrap() error { return f.Err }

// Absent reports whether the file is missing or not readable by this user: on another machine it may be.
func (f *Fault) Absent() bool {
	return errors.Is(f.Err, fs.ErrNotExist) || errors.Is(f.Err, fs.ErrPermission)
}

// Load reads the identity of the watcher called name. All that is wrong is told, as Faults joined in one error. A
// certificate out of its time is no fault: Overdue tells.
func Load(f Files, name string, now time.Time) (*Identity, error) {
	id, faults := load(f, name, now)
	if len(faults) == 0 {
		return id, nil
	}
	errs := make([]error, len(faults))
	for i, fault := range faults {
		errs[i] = fault
	}
	return nil, errors.Join(errs...)
}

// Faults are those that Load joined in err.
func Faults(err error) []*Fault {
	var faults []*Fault
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			if f := (*Fault)(nil); errors.As(e, &f) {
				faults = append(faults, f)
			}
		}
	}
	return faults
}

func load(f Files, name string, now time.Time) (*Identity, []*Fault) {
	var faults []*Fault
	read := func(part Part, path string) []byte {
		text, err := localfile.ReadSoon(path, maxFile)
		if err != nil {
			faults = append(faults, &Fault{Part: part, Text: "cannot read file: " + err.Error(), Err: err})
		}
		return text
	}
	caText, certText, keyText := read(PartCA, f.CA), read(PartCert, f.Cert), read(PartKey, f.Key)
	id := &Identity{}
	fault := func(part Part, format string, args ...any) {
		faults = append(faults, &Fault{Part: part, Text: fmt.Sprintf(format, args...)})
	}
	if caText != nil {
		if id.Authorities = authorities(caText); id.Authorities == nil {
			fault(PartCA, "%s holds no certificate of an authority in PEM form", f.CA)
		}
	}
	if certText == nil {
		return nil, faults
	}
	leaf, between := chain(certText)
	switch {
	case leaf == nil:
		fault(PartCert, "%s holds no certificate in PEM form", f.Cert)
		return nil, faults
	case !slices.Contains(leaf.DNSNames, name):
		fault(PartCert, "%s is made out to %s, not to this watcher, %q; `watchover pki issue %s` makes one", f.Cert, names(leaf), name, name)
	}
	id.Leaf = leaf
	if id.Authorities != nil {
		var why string
		if id.Expires, why = vouched(leaf, between, id.Authorities, now); why != "" {
			fault(PartCert, "%s %s", f.Cert, why)
		}
	}
	if keyText != nil {
		var err error
		if id.Certificate, err = tls.X509KeyPair(certText, keyText); err != nil {
			fault(PartKey, "%s is not the key of %s: %s", f.Key, f.Cert, plain(err))
		}
	}
	return id, faults
}

// authorities are those of a PEM file; nil if there are none.
func authorities(text []byte) *x509.CertPool {
	pool, some := x509.NewCertPool(), false
	for _, cert := range certificates(text) {
		if cert.IsCA {
			pool.AddCert(cert)
			some = true
		}
	}
	if !some {
		return nil
	}
	return pool
}

// chain is the first certificate of a PEM file and those that follow it.
func chain(text []byte) (leaf *x509.Certificate, between *x509.CertPool) {
	list := certificates(text)
	if len(list) == 0 {
		return nil, nil
	}
	between = x509.NewCertPool()
	for _, cert := range list[1:] {
		between.AddCert(cert)
	}
	return list[0], between
}

func certificates(text []byte) (list []*x509.Certificate) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			list = append(list, cert)
		}
	}
	return list
}

// vouched tells when the first certificate ends that the leaf depends on, or why the authorities do not vouch for it,
// whatever the time is.
func vouched(leaf *x509.Certificate, between, authorities *x509.CertPool, now time.Time) (expires time.Time, why string) {
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		chains, err := verify(leaf, now, x509.VerifyOptions{Roots: authorities, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{usage}})
		var invalid x509.CertificateInvalidError
		switch {
		case err == nil:
			expires = lasts(chains)
		case errors.As(err, &x509.UnknownAuthorityError{}):
			return expires, fmt.Sprintf("is issued by %q, which is not in ca_file", leaf.Issuer.CommonName)
		case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
			return expires, "may not be used for both ends of a connection: it needs the extended key usages serverAuth and clientAuth"
		case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
			return expires, fmt.Sprintf("is issued by %q and has no time in common with it", leaf.Issuer.CommonName)
		default:
			return expires, "is not vouched for by ca_file: " + plain(err)
		}
	}
	return expires, ""
}

// verify looks for a chain that holds now, at the end of the leaf's time, or at its beginning.
func verify(leaf *x509.Certificate, now time.Time, o x509.VerifyOptions) (chains [][]*x509.Certificate, err error) {
	for _, at := range []time.Time{now, leaf.NotAfter, leaf.NotBefore} {
		o.CurrentTime = at
		if chains, err = leaf.Verify(o); err == nil {
			break
		}
	}
	return chains, err
}

// lasts is how long the longest-lived chain holds.
func lasts(chains [][]*x509.Certificate) (best time.Time) {
	for _, chain := range chains {
		first := chain[0].NotAfter
		for _, cert := range chain {
			if cert.NotAfter.Before(first) {
				first = cert.NotAfter
			}
		}
		if first.After(best) {
			best = first
		}
	}
	return best
}

// Overdue says why the certificate is not good at this time; empty: it is.
func (id *Identity) Overdue(now time.Time) string {
	switch {
	case now.Before(id.Leaf.NotBefore):
		return "is not good before " + stamp(id.Leaf.NotBefore) + "; check this machine's clock"
	case now.After(id.Expires):
		return "ended at " + stamp(id.Expires)
	}
	return ""
}

// Exposed reports whether others than the owner and the group may read the key.
func (f Files) Exposed() bool {
	info, err := stat(f.Key)
	return err == nil && info.Mode().Perm()&0o007 != 0
}

// names shows whom a certificate is made out to.
func names(cert *x509.Certificate) string {
	if len(cert.DNSNames) == 0 {
		return "no name"
	}
	shown := cert.DNSNames[:min(len(cert.DNSNames), 5)]
	return fmt.Sprintf("%q", strings.Join(shown, ", "))
}

// stat is os.Stat, but no longer than a file system that is well needs.
func stat(path string) (os.FileInfo, error) {
	ctx, cancel := context.WithTimeout(context.Background(), localfile.Patience)
	defer cancel()
	return localfile.Look(ctx, path, func() (os.FileInfo, error) { return os.Stat(path) })
}
