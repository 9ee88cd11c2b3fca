package cluster

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics collects what it says at the moment it is asked: an idle watcher spends nothing on it.
type metrics struct {
	n        *Node
	quorum   *prometheus.Desc
	leads    *prometheus.Desc
	term     *prometheus.Desc
	commit   *prometheus.Desc
	applied  *prometheus.Desc
	contact  *prometheus.Desc
	silent   *prometheus.Desc
	diskFree *prometheus.Desc
}

func newMetrics(n *Node) *metrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("watchover_"+name, help, labels, nil)
	}
	return &metrics{
		n:        n,
		quorum:   desc("has_quorum", "1 if this watcher is in contact with a majority of the watchers."),
		leads:    desc("is_leader", "1 if this watcher leads."),
		term:     desc("raft_term", "Current raft term."),
		commit:   desc("raft_commit_index", "Index of the last entry known to be committed."),
		applied:  desc("raft_applied_index", "Index of the last applied entry."),
		contact:  desc("raft_last_contact_seconds", "Seconds since the last contact with a quorum."),
		silent:   desc("watcher_silent", "1 if the leader does not hear a watcher or its probes are overdue.", "watcher"),
		diskFree: desc("disk_free_bytes", "Bytes that are free for this watcher in the data directory's file system."),
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.quorum, m.leads, m.term, m.commit, m.applied, m.contact, m.silent, m.diskFree} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	st := m.n.Status()
	gauge(m.quorum, flag(st.HasQuorum))
	gauge(m.leads, flag(st.Leads))
	gauge(m.term, float64(st.Term))
	gauge(m.commit, float64(st.CommitIndex))
	gauge(m.applied, float64(st.AppliedIndex))
	gauge(m.contact, st.LastContact.Seconds())
	for _, p := range st.Peers {
		gauge(m.silent, flag(p.Silent), p.Name)
	}
	if space := m.n.Space(); space.Known {
		gauge(m.diskFree, float64(space.Free))
	}
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (n *Node) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	n.metrics = newMetrics(n)
	if err := r.Register(n.metrics); err != nil {
		return fmt.Errorf("cannot register the cluster's metrics: %w", err)
	}
	return nil
}

func (n *Node) unregister() {
	if n.o.Registerer != nil {
		n.o.Registerer.Unregister(n.metrics)
	}
}
