package nameserver

import (
	"slices"
	"sync/atomic"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
)

// transport is how a query came in.
type transport int

const (
	udp transport = iota
	tcp
)

func (t transport) String() string { return [...]string{"udp", "tcp"}[t] }

// dropReason says why a packet or a connection got no (further) answer.
type dropReason string

const (
	dropShort       dropReason = "short"       // less than a header
	dropResponse    dropReason = "response"    // not a query
	dropOversize    dropReason = "oversize"    // longer than any query
	dropConnections dropReason = "connections" // too many over TCP: the one idle longest, or the new one
	dropQueries     dropReason = "queries"     // too many over one connection
	dropTimeout     dropReason = "timeout"     // a client too slow in sending or reading
	dropWrite       dropReason = "write"       // the answer could not be sent
	dropPanic       dropReason = "panic"       // a fault of ours; answered with SERVFAIL
)

var dropReasons = []dropReason{dropShort, dropResponse, dropOversize, dropConnections, dropQueries, dropTimeout, dropWrite, dropPanic}

// countedTypes are the query types with a label of their own. All others share one, because the label's values come
// from whoever sends packets.
var countedTypes = [...]uint16{dns.TypeA, dns.TypeAAAA, dns.TypeANY, dns.TypeAXFR, dns.TypeCAA, dns.TypeCNAME, dns.TypeDNSKEY,
	dns.TypeDS, dns.TypeHTTPS, dns.TypeIXFR, dns.TypeMX, dns.TypeNS, dns.TypePTR, dns.TypeSOA, dns.TypeSRV, dns.TypeSVCB, dns.TypeTXT}

// countedCodes are all codes that we answer with.
var countedCodes = [...]int{dns.RcodeSuccess, dns.RcodeFormatError, dns.RcodeServerFailure, dns.RcodeNameError,
	dns.RcodeNotImplemented, dns.RcodeRefused, dns.RcodeBadVers}

// metrics counts what is asked and what is not answered.
type metrics struct {
	queries *prometheus.CounterVec
	dropped *prometheus.CounterVec
	serial  *prometheus.GaugeVec

	// counters remembers the series in use, because finding one by its labels costs more than the rest of an answer.
	counters [len(countedTypes) + 1][len(countedCodes)][2]atomic.Pointer[prometheus.Counter]
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		queries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "watchover_dns_queries_total", Help: "DNS queries answered, by query type, response code and transport.",
		}, []string{"type", "rcode", "transport"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "watchover_dns_dropped_total", Help: "DNS packets and connections that got no answer, or SERVFAIL by our own fault, by reason.",
		}, []string{"reason"}),
		serial: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "watchover_dns_serial", Help: "Serial of the zone as this watcher answers it.",
		}, []string{"zone"}),
	}
	for _, reason := range dropReasons {
		m.dropped.WithLabelValues(string(reason))
	}
	if registerer == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.queries, m.dropped, m.serial} {
		if err := registerer.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) drop(reason dropReason) { m.dropped.WithLabelValues(string(reason)).Inc() }

func (m *metrics) query(kind uint16, rcode int, via transport) {
	label, column := "other", slices.Index(countedTypes[:], kind)
	if column < 0 {
		column = len(countedTypes)
	} else {
		label = dns.TypeToString[kind]
	}
	series := &m.counters[column][slices.Index(countedCodes[:], rcode)][via]
	counter := series.Load()
	if counter == nil {
		code := dns.RcodeToString[rcode]
		if rcode == dns.RcodeBadVers {
			code = "BADVERS" // the library calls this number by its meaning in TSIG records
		}
		c := m.queries.WithLabelValues(label, code, via.String())
		counter = &c
		series.Store(counter)
	}
	(*counter).Inc()
}

// published shows the serial of the zone answered now, and no other zone's.
func (m *metrics) published(old, a *Answers) {
	if old != nil && old.name != a.name {
		m.serial.DeleteLabelValues(old.name)
	}
	m.serial.WithLabelValues(a.name).Set(float64(a.serial))
}
