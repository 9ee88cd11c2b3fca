package probe

import (
	"net"
	"testing"

	"github.com/watchover-ha/watchover/pkg/failover"
)

func TestTCP(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	check, _ := build(t, failover.Probe{Kind: "tcp", Address: listener.Addr().String()})
	for range 2 {
		if reason := once(t, check, testTimeout); reason != "" {
			t.Error(reason)
		}
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if reason := once(t, check, testTimeout); reason != "connection refused" {
		t.Errorf("reason %q", reason)
	}
	if reason := once(t, check, 1); reason != "no answer within 1ns" {
		t.Errorf("reason %q", reason)
	}
}

func TestAddresses(t *testing.T) {
	for address, ok := range map[string]bool{"192.0.2.1:5432": true, "[2001:db8::1]:5432": true, "db.example.com:5432": true,
		"": false, "192.0.2.1": false, ":5432": false, "192.0.2.1:": false, "2001:db8::1:5432": false} {
		if err := checkAddress(address); (err == nil) != ok {
			t.Errorf("%q: %v", address, err)
		}
	}
	for _, kind := range []string{"tcp", "tls", "dns", "grpc"} {
		if _, err := newChecker(failover.Probe{Kind: kind, Address: "nowhere", Query: "x."}, surroundings{}); err == nil {
			t.Errorf("%s took an address without a port", kind)
		}
	}
}
