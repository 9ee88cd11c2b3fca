package probe

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the package's series; those of an app disappear with it.
type metrics struct {
	up       *prometheus.GaugeVec
	duration *prometheus.HistogramVec
}

var probeLabels = []string{"group", "app", "probe"}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		up: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "watchover_probe_up",
			Help: "Whether the last probe succeeded (1) or failed (0). No sample while this watcher cannot ask.",
		}, probeLabels),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "watchover_probe_duration_seconds",
			Help:    "How long probes took, failed ones too.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, probeLabels),
	}
	for _, collector := range []prometheus.Collector{m.up, m.duration} {
		if err := registerer.Register(collector); err != nil {
			return nil, fmt.Errorf("cannot register probe metrics: %w", err)
		}
	}
	return m, nil
}

// series are one probe's metrics. They are looked up once: it would cost more than the rest of a result.
type series struct {
	metrics  *metrics
	labels   []string
	up       prometheus.Gauge // nil until there is something to tell
	duration prometheus.Observer
}

func (m *metrics) of(group, app, probe string) *series {
	return &series{metrics: m, labels: []string{group, app, probe}}
}

// show tells how the app answers now.
func (s *series) show(o outcome) {
	if o == unable {
		s.metrics.up.DeleteLabelValues(s.labels...)
		s.up = nil
		return
	}
	if s.up == nil {
		s.up = s.metrics.up.WithLabelValues(s.labels...)
	}
	if o == success {
		s.up.Set(1)
	} else {
		s.up.Set(0)
	}
}

// took counts a check by how long it took. One that could not be carried out says nothing about that.
func (s *series) took(o outcome, took time.Duration) {
	if o == unable {
		return
	}
	if s.duration == nil {
		s.duration = s.metrics.duration.WithLabelValues(s.labels...)
	}
	s.duration.Observe(took.Seconds())
}

func (s *series) remove() {
	s.metrics.up.DeleteLabelValues(s.labels...)
	s.metrics.duration.DeleteLabelValues(s.labels...)
}
