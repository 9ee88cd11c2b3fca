package daemon

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/watchover-ha/watchover/internal/config"
	"github.com/watchover-ha/watchover/internal/pki"
)

// issued is a directory with an authority and the certificate of w1, made at a time.
func issued(t *testing.T, at time.Time) (dir string, tls *config.TLS) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "pki")
	if _, err := pki.Init(dir, pki.CADays, at); err != nil {
		t.Fatal(err)
	}
	if _, err := pki.Issue(dir, "w1", nil, 100, at); err != nil {
		t.Fatal(err)
	}
	return dir, tlsOf(dir)
}

func tlsOf(dir string) *config.TLS {
	return &config.TLS{CAFile: filepath.Join(dir, "ca.pem"), CertFile: filepath.Join(dir, "w1.pem"), KeyFile: filepath.Join(dir, "w1.key")}
}

func openedTrust(t *testing.T, tls *config.TLS) *trust {
	t.Helper()
	k, err := openTrust(&config.File{Watcher: config.Watcher{Name: "w1"}, Cluster: config.Cluster{TLS: tls}}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestCheckTLSFiles(t *testing.T) {
	now := time.Now()
	_, good := issued(t, now)
	_, other := issued(t, now)
	_, old := issued(t, now.Add(-200*24*time.Hour))
	for _, c := range []struct {
		name  string
		tls   config.TLS
		watch string
		want  []string // key, whether it is only odd, and a part of the text
	}{
		{"good", *good, "w1", nil},
		{"another watcher's", *good, "w2", []string{`cert_file false is made out to "w1"`}},
		{"on another machine", config.TLS{CAFile: "/nonexistent/ca", CertFile: "/nonexistent/cert", KeyFile: "/nonexistent/key"}, "w1",
			[]string{"ca_file true cannot read file", "cert_file true cannot read file", "key_file true cannot read file"}},
		{"another authority", config.TLS{CAFile: other.CAFile, CertFile: good.CertFile, KeyFile: good.KeyFile}, "w1", []string{"cert_file false is issued by"}},
		{"another key", config.TLS{CAFile: good.CAFile, CertFile: good.CertFile, KeyFile: other.KeyFile}, "w1", []string{"key_file false is not the key of"}},
		{"ended", *old, "w1", []string{"cert_file true ended at"}},
	} {
		var got []string
		for _, r := range checkTLS(c.tls, c.watch) {
			got = append(got, fmt.Sprintf("%s %t %s", r.Key, r.Odd, r.Text))
		}
		matches := slices.EqualFunc(got, c.want, func(got, want string) bool {
			head, part, _ := strings.Cut(want, " ")
			odd, part, _ := strings.Cut(part, " ")
			return strings.HasPrefix(got, head+" "+odd+" ") && strings.Contains(got, part)
		})
		if !matches {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
	if err := os.Chmod(good.KeyFile, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := checkTLS(*good, "w1"); len(got) != 1 || !got[0].Odd || !strings.Contains(got[0].Text, "every user") {
		t.Errorf("a key for everybody: got %+v", got)
	}
}

// TestTrustOfAnEndedCertificate: the watcher starts, since it has DNS to answer; who is asked for the end is told it.
func TestTrustOfAnEndedCertificate(t *testing.T) {
	_, tls := issued(t, time.Now().Add(-200*24*time.Hour))
	k := openedTrust(t, tls)
	if at := k.expires(); at == nil || !at.Before(time.Now()) || !k.certificate()[0].Expires.Equal(*at) || k.certificate()[0].Name != "w1" {
		t.Errorf("ends at %v, shown as %+v", at, k.certificate())
	}
	tls.KeyFile = tls.CertFile
	_, err := openTrust(&config.File{Watcher: config.Watcher{Name: "w1"}, Cluster: config.Cluster{TLS: tls}}, zerolog.Nop())
	if err == nil || !strings.Contains(err.Error(), "cannot use cluster.tls: key_file") {
		t.Errorf("without a key: %v", err)
	}
}

func TestPlainTrust(t *testing.T) {
	k, err := openTrust(&config.File{}, zerolog.Nop())
	if err != nil || k != nil || k.credentials() != nil || k.expires() != nil || k.certificate() != nil {
		t.Errorf("got %+v, %v", k, err)
	}
}

// TestCredentialsFollowTheFiles: broken files change nothing.
func TestCredentialsFollowTheFiles(t *testing.T) {
	now := time.Now()
	dir, tls := issued(t, now)
	k := openedTrust(t, tls)
	leaf := func() *x509.Certificate { return k.credentials()().Certificate.Leaf }
	first := leaf()
	if err := os.WriteFile(tls.CertFile, []byte("half a fi"), 0o600); err != nil {
		t.Fatal(err)
	}
	if changed, err := k.keeper.Look(now); changed || err == nil || !leaf().Equal(first) {
		t.Errorf("broken files: %t, %v", changed, err)
	}
	for _, file := range []string{tls.CertFile, tls.KeyFile} {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := pki.Issue(dir, "w1", nil, 200, now); err != nil {
		t.Fatal(err)
	}
	if changed, err := k.keeper.Look(now); !changed || err != nil || leaf().Equal(first) {
		t.Errorf("new files: %t, %v", changed, err)
	}
}

// TestEndIsToldOnceADay, from a month before.
func TestEndIsToldOnceADay(t *testing.T) {
	now := time.Now()
	_, tls := issued(t, now) // 100 days
	k := openedTrust(t, tls)
	told := 0
	for hour := range 110 * 24 {
		before := k.warned
		k.remind(now.Add(time.Duration(hour) * time.Hour))
		if k.warned != before {
			told++
			if hour < 70*24 {
				t.Fatalf("told %d hours after the making", hour)
			}
		}
	}
	if told != 40 {
		t.Errorf("told %d times in 40 days", told)
	}
}
