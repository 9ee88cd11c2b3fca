package probe

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// selfSigned makes a certificate for shop.example.com and 127.0.0.1, and writes it to a file as its own authority.
func selfSigned(t *testing.T, from, until time.Time) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "shop"}, NotBefore: from, NotAfter: until,
		DNSNames: []string{"shop.example.com"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, path
}

// tlsServer shakes hands with everybody until the test ends.
func tlsServer(t *testing.T, certificate tls.Certificate) string {
	t.Helper()
	config := &tls.Config{Certificates: []tls.Certificate{certificate}}
	url := rawServer(t, func(conn net.Conn) {
		_ = tls.Server(conn, config).Handshake() // some are meant to fail
	})
	return strings.TrimPrefix(url, "http://")
}

func TestTLS(t *testing.T) {
	now := time.Now().Truncate(time.Second).UTC()
	good, goodCA := selfSigned(t, now.Add(-time.Hour), now.Add(time.Hour))
	old, oldCA := selfSigned(t, now.Add(-2*time.Hour), now.Add(-time.Hour))
	early, earlyCA := selfSigned(t, now.Add(time.Hour), now.Add(2*time.Hour))
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	address := tlsServer(t, good)
	tests := []struct {
		name, address, server, ca string
		want                      string
		expires                   time.Time
	}{
		{"by the address", address, "", goodCA, "", now.Add(time.Hour)},
		{"by name", address, "shop.example.com", goodCA, "", now.Add(time.Hour)},
		{"other name", address, "other.test", goodCA, "certificate is valid for shop.example.com, not other.test", now.Add(time.Hour)},
		{"not trusted", address, "", oldCA, "unknown authority", now.Add(time.Hour)},
		{"the system's roots", address, "", "", "unknown authority", now.Add(time.Hour)},
		{"expired", tlsServer(t, old), "", oldCA, "certificate expired at " + now.Add(-time.Hour).Format(time.RFC3339), now.Add(-time.Hour)},
		{"too early", tlsServer(t, early), "", earlyCA, "certificate is not valid before " + now.Add(time.Hour).Format(time.RFC3339), now.Add(2 * time.Hour)},
		{"no handshake", silent.Addr().String(), "", goodCA, "no answer within 200ms", time.Time{}},
		{"refused", closedAddress(t), "", goodCA, "connection refused", time.Time{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			spec := failover.Probe{Kind: "tls", Address: tt.address, ServerName: tt.server}
			spec.CAFile = tt.ca
			check, _ := build(t, spec)
			timeout := testTimeout
			if strings.Contains(tt.want, "200ms") {
				timeout = 200 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			got, err := check.check(ctx)
			reason := ""
			if err != nil {
				reason = reasonOf(err, timeout)
			}
			if (tt.want == "") != (err == nil) || !strings.Contains(reason, tt.want) || judge(err) == unable {
				t.Errorf("reason %q, want %q", reason, tt.want)
			}
			if shown := !tt.expires.IsZero(); untrusted(err) != (shown && tt.want != "") {
				t.Errorf("untrusted %v: %v", untrusted(err), err)
			}
			if !got.expires.Equal(tt.expires) {
				t.Errorf("expires %v, want %v", got.expires, tt.expires)
			}
		})
	}
}

func TestCAFileIsReadAgain(t *testing.T) {
	now := time.Now()
	_, ca := selfSigned(t, now.Add(-time.Hour), now.Add(time.Hour))
	other, otherCA := selfSigned(t, now.Add(-time.Hour), now.Add(time.Hour))
	address := tlsServer(t, other)
	for _, kind := range []string{"tls", "http"} {
		t.Run(kind, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ca.pem")
			spec := failover.Probe{Kind: kind, Address: address}
			spec.CAFile, spec.URL = path, "https://"+address
			check, _ := build(t, spec)
			outcomeOf := func() (outcome, string) {
				ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
				defer cancel()
				_, err := check.check(ctx)
				if err == nil {
					return success, ""
				}
				return judge(err), err.Error()
			}
			if o, text := outcomeOf(); o != unable {
				t.Errorf("without the file: %d %s", o, text)
			}
			for _, step := range [][2]string{{ca, "unknown authority"}, {otherCA, ""}, {ca, "unknown authority"}} {
				from, want := step[0], step[1]
				data, err := os.ReadFile(from)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, data, 0o600); err != nil {
					t.Fatal(err)
				}
				if _, text := outcomeOf(); !strings.Contains(text, want) || want == "" && strings.Contains(text, "authority") {
					t.Errorf("%s, want %q", text, want)
				}
			}
			if err := os.WriteFile(path, []byte("nothing"), 0o600); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if o, text := outcomeOf(); o != unable || !strings.Contains(text, "no certificate in PEM form") {
					t.Errorf("with a broken file: %d %s", o, text)
				}
			}
		})
	}
}
