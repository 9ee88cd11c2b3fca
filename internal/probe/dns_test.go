package probe

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// nameServer answers on UDP and TCP at the same address; over UDP names that begin with "long" are truncated.
func nameServer(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	packets, err := net.ListenPacket("udp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) { answerQuery(w, query) })
	for _, server := range []*dns.Server{{Listener: listener, Handler: handler}, {PacketConn: packets, Handler: handler}} {
		started, done := make(chan struct{}), make(chan error, 1)
		server.NotifyStartedFunc = func() { close(started) }
		go func() { done <- server.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			_ = server.Shutdown()
			<-done
		})
	}
	return listener.Addr().String()
}

func answerQuery(w dns.ResponseWriter, query *dns.Msg) {
	reply := new(dns.Msg).SetReply(query)
	name := query.Question[0].Name
	_, overUDP := w.RemoteAddr().(*net.UDPAddr)
	records := map[string][]string{
		"shop.test.": {"A 192.0.2.1", "A 192.0.2.2"},
		"www.test.":  {"CNAME Shop.Test.", "A 192.0.2.1"},
		"text.test.": {`TXT "v=1 Ok"`},
		"long.test.": {"A 192.0.2.9"},
	}[name]
	switch {
	case name == "mute.test.":
		return
	case name == "none.test.":
		reply.Rcode = dns.RcodeNameError
	case name == "long.test." && overUDP:
		reply.Truncated = true
		records = nil
	}
	for _, text := range records {
		rr, err := dns.NewRR(name + " 60 IN " + text)
		if err != nil {
			panic(err)
		}
		reply.Answer = append(reply.Answer, rr)
	}
	_ = w.WriteMsg(reply)
}

func TestDNS(t *testing.T) {
	address := nameServer(t)
	tests := []struct {
		name, query, qtype string
		expect             []string
		want               string
	}{
		{"any answer", "shop.test", "", nil, ""},
		{"expected answers", "shop.test.", "A", []string{"192.0.2.2", "192.0.2.1"}, ""},
		{"one is missing", "shop.test", "A", []string{"192.0.2.1", "192.0.2.3"}, "answer lacks 192.0.2.3"},
		{"no part of an address will do", "shop.test", "A", []string{"192.0.2"}, "answer lacks 192.0.2"},
		{"alias", "www.test", "a", []string{"shop.test"}, ""},
		{"text", "text.test", "TXT", []string{"v=1 ok"}, ""},
		{"no such name", "none.test", "", nil, "answer NXDOMAIN"},
		{"no record", "empty.test", "", nil, "answer without a record"},
		{"truncated", "long.test", "", []string{"192.0.2.9"}, ""},
		{"no answer", "mute.test", "", nil, "no answer within 200ms"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			check, _ := build(t, failover.Probe{Kind: "dns", Address: address, Query: tt.query, QueryType: tt.qtype, ExpectAnswer: tt.expect})
			timeout := testTimeout
			if strings.Contains(tt.want, "200ms") {
				timeout = 200 * time.Millisecond
			}
			if got := once(t, check, timeout); got != tt.want {
				t.Errorf("reason %q, want %q", got, tt.want)
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		check, _ := build(t, failover.Probe{Kind: "dns", Address: closedAddress(t), Query: "shop.test"})
		if got := once(t, check, testTimeout); got != "connection refused" {
			t.Errorf("reason %q", got)
		}
	})
}

func TestDNSRefusedSpecs(t *testing.T) {
	for _, spec := range []failover.Probe{
		{Kind: "dns", Address: "127.0.0.1:53"},
		{Kind: "dns", Address: "127.0.0.1:53", Query: "a..b"},
		{Kind: "dns", Address: "127.0.0.1:53", Query: "a.b", QueryType: "HOST"},
	} {
		if _, err := newChecker(spec, surroundings{}); err == nil || !strings.Contains(err.Error(), "cannot ask for") {
			t.Errorf("%+v: %v", spec, err)
		}
	}
}
