package pki

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/watchover-ha/watchover/internal/localfile"
)

// authority is what signs.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// loadAuthority reads ca.pem and ca.key of dir.
func loadAuthority(dir string, now time.Time) (*authority, error) {
	certPath, keyPath := filepath.Join(dir, CAFile), filepath.Join(dir, CAKeyFile)
	certText, err := localfile.ReadSoon(certPath, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w in %q: %s is missing", ErrNoAuthority, dir, CAFile)
	}
	if err != nil {
		return nil, err
	}
	keyText, err := localfile.ReadSoon(keyPath, maxFile)
	if err != nil {
		return nil, fmt.Errorf("the authority's key is needed to issue: %w", err)
	}
	pair, err := tls.X509KeyPair(certText, keyText)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %v", certPath, keyPath, plain(err))
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	switch {
	case !ok:
		return nil, fmt.Errorf("%s holds a key that cannot sign", keyPath)
	case !pair.Leaf.IsCA:
		return nil, fmt.Errorf("%s is not an authority's certificate", certPath)
	case now.After(pair.Leaf.NotAfter):
		return nil, fmt.Errorf("%s has ended at %s; make a new authority", certPath, stamp(pair.Leaf.NotAfter))
	}
	return &authority{cert: pair.Leaf, key: key}, nil
}

// addHosts puts names and addresses beside the watcher's name.
func addHosts(template *x509.Certificate, hosts []string) error {
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
			continue
		}
		name := strings.ToLower(strings.TrimSuffix(host, "."))
		switch {
		case !strings.Contains(name, "."):
			return fmt.Errorf("%w: host %q would make this the certificate of a watcher of that name too; give a name with a dot or an address", ErrUsage, host)
		case len(name) > 253 || strings.ContainsFunc(name, func(c rune) bool { return c != '.' && c != '_' && notInName(c) }):
			return fmt.Errorf("%w: host %q is neither a host name nor an address", ErrUsage, host)
		}
		template.DNSNames = append(template.DNSNames, name)
	}
	return nil
}

// plain is an error of package tls or x509 without its prefix, which means nothing to an operator.
func plain(err error) string {
	return strings.TrimPrefix(strings.TrimPrefix(err.Error(), "tls: "), "x509: ")
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
