//go:build servers

package database

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/internal/dbtest"
	"github.com/watchover-ha/watchover/pkg/failover"
)

// certificates makes an authority and a certificate of it for 127.0.0.1, and returns the directory with ca.pem, server.pem
// and server.key, which every user may read: the servers run as others.
func certificates(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "watchover-tls-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Chmod(dir, 0o755))
	write := func(name, kind string, der []byte) {
		t.Helper()
		must(os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o644))
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	must(err)
	write("ca.pem", "CERTIFICATE", der)
	server := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "db"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	der, err = x509.CreateCertificate(rand.Reader, server, ca, &key.PublicKey, caKey)
	must(err)
	write("server.pem", "CERTIFICATE", der)
	der, err = x509.MarshalPKCS8PrivateKey(key)
	must(err)
	write("server.key", "PRIVATE KEY", der)
	return dir
}

// secured looks at a server through TLS: with its authority, without one, and with what is no authority at all.
func secured(t *testing.T, kind string, o Options, ca string) {
	t.Helper()
	look := func(caFile string) error {
		o.CAFile = caFile
		db, err := Open(kind, o)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		seen, err := db.Observe(t.Context())
		if err == nil && seen.Role != failover.RolePrimary {
			t.Errorf("got %+v", seen)
		}
		return err
	}
	if err := look(ca); err != nil {
		t.Errorf("with its authority: %v", err)
	}
	if err := look(""); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without its authority: %v", err)
	}
	if err := look(o.PasswordFile); err == nil || !strings.Contains(err.Error(), "no certificate in PEM form") {
		t.Errorf("with a wrong file: %v", err)
	}
}

func TestTLSMySQL(t *testing.T) {
	t.Parallel()
	dir := certificates(t)
	m := dbtest.NewMariaDB(t, 1, "--ssl-cert="+dir+"/server.pem", "--ssl-key="+dir+"/server.key", "--require-secure-transport=1")
	m.Populate(t)
	secured(t, "mysql", Options{DSN: m.DSN() + "?tls=true", PasswordFile: m.PasswordFile(t)}, dir+"/ca.pem")
	plain, err := Open("mysql", Options{DSN: m.DSN(), PasswordFile: m.PasswordFile(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if _, err := plain.Observe(t.Context()); err == nil {
		t.Error("in plain")
	}
}

func TestTLSRedis(t *testing.T) {
	t.Parallel()
	dir := certificates(t)
	port := dbtest.Port(t)
	s := dbtest.NewRedis(t, fmt.Sprintf("tls-port %d", port), "tls-cert-file "+dir+"/server.pem", "tls-key-file "+dir+"/server.key", "tls-ca-cert-file "+dir+"/ca.pem", "tls-auth-clients no")
	secured(t, "redis", Options{DSN: fmt.Sprintf("rediss://watchover@127.0.0.1:%d", port), PasswordFile: s.PasswordFile(t)}, dir+"/ca.pem")
}

// What a server or a client library says of a login must not repeat the secret.
func TestWrongPasswordMySQL(t *testing.T) {
	t.Parallel()
	m := dbtest.NewMariaDB(t, 1)
	m.Populate(t)
	m.Exec(t, "ALTER USER watchover IDENTIFIED BY 'another'")
	err := pingMySQL(t.Context(), Options{DSN: m.DSN(), PasswordFile: m.PasswordFile(t)})
	if !saidMySQL(err, 1045) || strings.Contains(err.Error(), "us all") {
		t.Errorf("got %v", err)
	}
}
