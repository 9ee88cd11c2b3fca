// Package pki is how watchers come by their names: a private certificate authority for one cluster, the certificates
// that it issues, and the checks on them that a watcher makes before it relies on its own.
//
// A watcher's name stands in its certificate as a DNS name, alone and without a dot ("w1"), since every tool that issues
// certificates can put it there, and every one that reads them shows it. Names with a dot and addresses may stand
// beside it for other tools; they mean nothing to the watchers, whose addresses change without their names.
//
// The authority's key is needed only to issue. It belongs on none of the watchers: whoever holds it can become all of
// them. Nothing here overwrites a file, for a key that is gone is gone for every watcher that trusted it.
//
// What was learnt elsewhere the hard way: a cluster whose certificates all end on the same night loses all of its
// connections at once. So a certificate that has ended ends no connection, a watcher with one starts all the same (it
// still answers DNS), and its end is announced for a month: see Keeper.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Files of the authority; those of a watcher are NAME.pem and NAME.key.
const (
	CAFile    = "ca.pem"
	CAKeyFile = "ca.key"
)

// Days that are given to certificates if nobody says otherwise.
const (
	CADays   = 3650
	LeafDays = 730
	MaxDays  = 36500
)

// skew is how far a watcher's clock may be behind the issuer's.
const skew = time.Hour

const day = 24 * time.Hour

// What Init and Issue may fail with.
var (
	// ErrExists: they do not overwrite.
	ErrExists = errors.New("is there already and is not overwritten")
	// ErrNoAuthority: Init comes first.
	ErrNoAuthority = errors.New("there is no authority")
	// ErrUsage: what was asked for makes no sense.
	ErrUsage = errors.New("wrong usage")
)

// Written is a certificate with its key on disk.
type Written struct {
	CertFile string
	KeyFile  string
	Expires  time.Time
}

// Init makes an authority in dir, which is made if need be: ca.pem and ca.key. It ends after days from now. Files that
// are there already are left alone and are an error.
func Init(dir string, days int, now time.Time) (Written, error) {
	none := Written{}
	if err := checkDays(days); err != nil {
		return none, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return none, fmt.Errorf("cannot make directory: %w", err)
	}
	id := make([]byte, 4)
	if _, err := rand.Read(id); err != nil {
		return none, err
	}
	template := &x509.Certificate{
		// The random part tells two authorities apart in messages about a certificate of the wrong one.
		Subject:               pkix.Name{CommonName: "Watchover CA " + hex.EncodeToString(id)},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(time.Duration(days) * day),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}
	return write(dir, CAFile, CAKeyFile, template, nil)
}

// Issue makes the certificate of the watcher called name with the authority in dir: NAME.pem and NAME.key. Hosts are
// names with a dot and IP addresses to stand beside the name. It ends after days from now, or with its authority.
func Issue(dir, name string, hosts []string, days int, now time.Time) (Written, error) {
	none := Written{}
	if err := errors.Join(CheckName(name), checkDays(days)); err != nil {
		return none, err
	}
	ca, err := loadAuthority(dir, now)
	if err != nil {
		return none, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		DNSNames:              []string{name},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(time.Duration(days) * day),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, // a watcher dials and is dialled
		BasicConstraintsValid: true,
	}
	if template.NotAfter.After(ca.cert.NotAfter) {
		template.NotAfter = ca.cert.NotAfter
	}
	if err := addHosts(template, hosts); err != nil {
		return none, err
	}
	return write(dir, name+".pem", name+".key", template, ca)
}

// CheckName judges a watcher's name: lower-case letters, digits and hyphens, at most 63.
func CheckName(name string) error {
	switch {
	case name == "" || len(name) > 63 || strings.Trim(name, "-") != name || strings.ContainsFunc(name, notInName):
		return fmt.Errorf("%q is not a watcher's name; want lower-case letters, digits and hyphens", name)
	case name+".pem" == CAFile:
		return fmt.Errorf("a watcher cannot be called %q: the authority's own files have that name", name)
	}
	return nil
}

func notInName(c rune) bool { return c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') }

func checkDays(days int) error {
	if days < 1 || days > MaxDays {
		return fmt.Errorf("%w: %d days are out of range, want 1 to %d", ErrUsage, days, MaxDays)
	}
	return nil
}

// write signs the template for a new key, with its own if ca is nil, and writes both, the key first. Either both files
// are new or none is left.
func write(dir, certFile, keyFile string, template *x509.Certificate, ca *authority) (Written, error) {
	none := Written{}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return none, fmt.Errorf("cannot make key: %w", err)
	}
	// 127 bits: positive, and never the same twice.
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return none, fmt.Errorf("cannot make serial number: %w", err)
	}
	if ca == nil {
		ca = &authority{cert: template, key: key}
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		return none, fmt.Errorf("cannot sign certificate: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return none, fmt.Errorf("cannot encode key: %w", err)
	}
	w := Written{CertFile: filepath.Join(dir, certFile), KeyFile: filepath.Join(dir, keyFile), Expires: template.NotAfter}
	if _, err := os.Lstat(w.CertFile); err == nil {
		return none, exists(w.CertFile)
	}
	if err := create(w.KeyFile, 0o600, &pem.Block{Type: "PRIVATE KEY", Bytes: secret}); err != nil {
		return none, err
	}
	if err := create(w.CertFile, 0o644, &pem.Block{Type: "CERTIFICATE", Bytes: signed}); err != nil {
		return none, errors.Join(err, os.Remove(w.KeyFile))
	}
	return w, nil
}

// create writes a file that was not there before, to the disk.
func create(path string, mode os.FileMode, block *pem.Block) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return exists(path)
	}
	if err != nil {
		return fmt.Errorf("cannot write file: %w", err)
	}
	err = errors.Join(pem.Encode(f, block), f.Sync())
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("cannot write %q: %w", path, err), os.Remove(path))
	}
	return nil
}

func exists(path string) error { return fmt.Errorf("%s %w", path, ErrExists) }
