package probe

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/miekg/dns"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// dnsCheck: a query answered NOERROR with at least one record, among them every expected one, is up.
type dnsCheck struct {
	address  string
	name     string
	qtype    uint16
	expected []string
	udp, tcp dns.Client
}

func newDNSCheck(spec failover.Probe, around surroundings) (checker, error) {
	if err := checkAddress(spec.Address); err != nil {
		return nil, err
	}
	if _, ok := dns.IsDomainName(spec.Query); !ok || spec.Query == "" {
		return nil, fmt.Errorf("cannot ask for %q: it is not a domain name", spec.Query)
	}
	typeName := strings.ToUpper(cmp.Or(spec.QueryType, "A"))
	qtype, ok := dns.StringToType[typeName]
	if !ok {
		return nil, fmt.Errorf("cannot ask for type %q: it is not a DNS record type", spec.QueryType)
	}
	check := &dnsCheck{address: spec.Address, name: dns.Fqdn(spec.Query), qtype: qtype,
		udp: dns.Client{Net: "udp", Timeout: around.timeout}, tcp: dns.Client{Net: "tcp", Timeout: around.timeout}}
	for _, want := range spec.ExpectAnswer {
		check.expected = append(check.expected, normalRecord(want))
	}
	return check, nil
}

func (c *dnsCheck) check(ctx context.Context) (answer, error) {
	query := new(dns.Msg)
	query.SetQuestion(c.name, c.qtype)
	reply, _, err := c.udp.ExchangeContext(ctx, query, c.address)
	if err == nil && reply.Truncated {
		// RFC 7766 section 5: a truncated reply is asked for again over TCP.
		reply, _, err = c.tcp.ExchangeContext(ctx, query, c.address)
	}
	if err != nil {
		return answer{}, err
	}
	return answer{}, c.judge(reply)
}

func (c *dnsCheck) judge(reply *dns.Msg) error {
	switch {
	case !reply.Response:
		return fmt.Errorf("answer is a query, not a response")
	case reply.Rcode != dns.RcodeSuccess:
		return fmt.Errorf("answer %s", cmp.Or(dns.RcodeToString[reply.Rcode], fmt.Sprintf("rcode %d", reply.Rcode)))
	case len(reply.Answer) == 0:
		return fmt.Errorf("answer without a record")
	}
	got := make(map[string]bool, len(reply.Answer))
	for _, rr := range reply.Answer {
		got[normalRecord(recordData(rr))] = true
	}
	for _, want := range c.expected {
		if !got[want] {
			return fmt.Errorf("answer lacks %s", want)
		}
	}
	return nil
}

func (c *dnsCheck) drop() {}

// recordData is a record's data in presentation form, without owner, TTL, class and type.
func recordData(rr dns.RR) string {
	return strings.TrimPrefix(rr.String(), rr.Header().String())
}

// normalRecord makes data comparable: case, a final dot and the quotes of a single text do not count.
func normalRecord(data string) string {
	data = strings.TrimSpace(data)
	if inner, found := strings.CutPrefix(data, `"`); found && strings.Count(data, `"`) == 2 {
		data = strings.TrimSuffix(inner, `"`)
	}
	return strings.ToLower(strings.TrimSuffix(data, "."))
}
