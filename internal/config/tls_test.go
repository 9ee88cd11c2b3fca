package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const secured = `watcher:
  name: w1
cluster:
  name: prod
  watchers:
    w1: {address: "w1.example.net:7653", dns: [192.0.2.53]}
    w2: {address: "[2001:db8::2]:7653", dns: [198.51.100.53]}
    w3: {address: "203.0.113.53:7653", dns: [203.0.113.53]}
  tls:
    ca_file: ca.pem
    cert_file: certs/w1.pem
    key_file: /etc/w1.key
zone: {name: ha.example.com}
groups:
  shop:
    record: shop
    apps:
      - {name: main, address: [192.0.2.10], probes: [{kind: tcp, address: "192.0.2.10:80"}]}
      - {name: standby, address: [198.51.100.10], probes: [{kind: tcp, address: "198.51.100.10:80"}]}
`

// TestTLS: with it watchers may be anywhere; the files stand beside the configuration.
func TestTLS(t *testing.T) {
	f, err := Parse("w1.yaml", []byte(secured), "/conf")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "tls", f.Cluster.TLS, &TLS{CAFile: "/conf/ca.pem", CertFile: "/conf/certs/w1.pem", KeyFile: "/etc/w1.key"})
	equal(t, "listen", f.Watcher.Listen, "w1.example.net:7653")
	for listen, ok := range map[string]bool{"0.0.0.0:7653": true, ":7653": true, "[::]:7653": true, "192.0.2.53:7653": true, "w1.example.net:7653": true, "224.0.0.1:7653": false, "192.0.2.53": false} {
		text := strings.Replace(secured, "name: w1\n", "name: w1\n  listen: \""+listen+"\"\n", 1)
		if _, err := Parse("w1.yaml", []byte(text), "/conf"); (err == nil) != ok {
			t.Errorf("listen %s: %v", listen, err)
		}
	}
	loopback, err := Load(filepath.Join("testdata/good", "minimal.yaml"))
	if err != nil || loopback.Cluster.TLS != nil {
		t.Errorf("TLS without the key: %+v, %v", loopback.Cluster.TLS, err)
	}
}

// TestCheckTLS: what is wrong with the files is told with the lines of their keys, and only of a file that is otherwise
// in order.
func TestCheckTLS(t *testing.T) {
	asked := 0
	o := Options{CheckTLS: func(got TLS, name string) []Remark {
		asked++
		if name != "w1" || got.KeyFile != "/etc/w1.key" {
			t.Errorf("asked about %+v of %s", got, name)
		}
		return []Remark{{Key: "key_file", Text: "does not fit"}, {Key: "ca_file", Text: "is odd", Odd: true}, {Key: "cert_file", Text: "has ended"}}
	}}
	_, err := o.Parse("w1.yaml", []byte(secured), "/conf")
	var faults Errors
	if !errors.As(err, &faults) || faults.Error() != "w1.yaml:11: cluster.tls.cert_file: has ended\nw1.yaml:12: cluster.tls.key_file: does not fit" {
		t.Errorf("got %v", err)
	}
	o.CheckTLS = func(TLS, string) []Remark { return []Remark{{Key: "ca_file", Text: "is odd", Odd: true}} }
	f, err := o.Parse("w1.yaml", []byte(secured), "/conf")
	if err != nil || len(f.Warnings) != 1 || f.Warnings[0] != "w1.yaml:10: cluster.tls.ca_file: is odd" {
		t.Errorf("got %v, %v", f, err)
	}
	o.CheckTLS = func(TLS, string) []Remark {
		t.Error("asked about a file with faults, or without a directory")
		return nil
	}
	if _, err := o.Parse("w1.yaml", []byte(strings.Replace(secured, "zone:", "zome:", 1)), "/conf"); err == nil {
		t.Error("no fault")
	}
	if _, err := o.Parse("w1.yaml", []byte(secured), ""); err != nil {
		t.Error(err)
	}
	plain, err := os.ReadFile("testdata/good/minimal.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Parse("w1.yaml", plain, "/conf"); err != nil {
		t.Error(err)
	}
}
