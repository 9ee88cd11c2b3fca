package control

import (
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/watchover-ha/watchover/pkg/failover"
)

// stepBuckets span from a step that found its work done to one that used up a long promotion's tries, in seconds.
var stepBuckets = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 180}

// collector derives metrics from the state at the moment they are asked for, so that they cannot disagree with status.
type collector struct {
	backend Backend
	steps   *prometheus.HistogramVec
	start   time.Time

	mu   sync.Mutex        // guards seen
	seen map[string]uint64 // id of the last switchover whose steps were observed, by group
}

// Register adds the metrics that are derived from the replicated state.
func Register(reg prometheus.Registerer, b Backend) error {
	c := newCollector(b, time.Now())
	if err := reg.Register(c); err != nil {
		return fmt.Errorf("cannot register the state's metrics: %w", err)
	}
	return nil
}

func newCollector(b Backend, start time.Time) *collector {
	return &collector{
		backend: b, start: start, seen: map[string]uint64{},
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "watchover_switchover_step_seconds", Buckets: stepBuckets,
			Help: "How long the steps of the switchovers took that ended while this watcher ran, by step and result.",
		}, []string{"step", "result"}),
	}
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("watchover_"+name, help, labels, nil)
}

var (
	descBuild       = desc("build_info", "Always 1; the version is in the label.", "version")
	descVerdict     = desc("verdict", "A watcher's verdict on an app: 1 up, 0 down, -1 unknown.", "group", "app", "watcher")
	descHealth      = desc("app_health", "An app's health by quorum: 1 up, 0 down, -1 unknown.", "group", "app")
	descReady       = desc("app_ready", "Whether an app could take over now; of the active app, whether it is up.", "group", "app")
	descActive      = desc("group_active", "1 for the app that the group's record points at.", "group", "app")
	descPhase       = desc("group_phase", "1 for the group's phase.", "group", "phase")
	descArmed       = desc("group_armed", "Whether nothing would hold the automation back.", "group")
	descPaused      = desc("group_paused", "Whether the automation is paused.", "group")
	descSwitchovers = desc("switchovers_total", "Ended switchovers, counted in the replicated state: the same on every watcher.", "group", "kind", "result")
	descLast        = desc("last_switchover_timestamp_seconds", "When the last switchover ended, in Unix seconds.", "group")
	descLagBytes    = desc("replication_lag_bytes", "How far an app's database is behind the writer's, in bytes.", "group", "app")
	descLagSeconds  = desc("replication_lag_seconds", "How far an app's database is behind the writer's, in seconds.", "group", "app")
	descDiffers     = desc("config_differs", "Whether this watcher's file proposes another policy than the one in force.")
	descCertificate = desc("certificate_expiry_timestamp_seconds", "When a certificate ends, in Unix seconds.", "name")
)

// Describe names every metric, so that a clash is found when registering and not when scraping.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descBuild, descVerdict, descHealth, descReady, descActive, descPhase, descArmed, descPaused, descSwitchovers, descLast,
		descLagBytes, descLagSeconds, descDiffers, descCertificate,
	} {
		out <- d
	}
	c.steps.Describe(out)
}

// Collect reads the state once and sends what it says.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	s, l := c.backend.State(), c.backend.Local()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	gauge(descBuild, 1, l.Version)
	gauge(descDiffers, number(l.FileDiffers))
	for _, cert := range certificates(s, l) {
		gauge(descCertificate, float64(cert.Expires.Unix()), cert.Name)
	}
	if s.Policy != nil {
		for i := range s.Policy.Groups {
			c.group(s, l, &s.Policy.Groups[i], gauge, out)
		}
	}
	c.steps.Collect(out)
}

type gaugeFunc func(d *prometheus.Desc, value float64, labels ...string)

func (c *collector) group(s *failover.State, l Local, p *failover.Group, gauge gaugeFunc, out chan<- prometheus.Metric) {
	g := s.Groups[p.Name]
	if g == nil {
		return
	}
	for _, phase := range failover.Phases {
		gauge(descPhase, number(s.Phase(p.Name) == phase), p.Name, string(phase))
	}
	gauge(descArmed, number(automationView(s, l, p, g, time.Now()).Armed), p.Name)
	gauge(descPaused, number(g.Pause != nil || g.Unconfirmed != nil), p.Name)
	if n := len(g.History); n > 0 && g.History[n-1].EndedAt != nil {
		gauge(descLast, float64(g.History[n-1].EndedAt.UnixMilli())/1000, p.Name)
	}
	for i := range p.Apps {
		appMetrics(s, l, g, &p.Apps[i], gauge)
	}
	for _, kind := range []failover.Kind{failover.KindFailover, failover.KindPlanned, failover.KindForced} {
		for _, result := range []failover.SwitchoverResult{
			failover.ResultDone, failover.ResultDoneWithExceptions, failover.ResultUndone, failover.ResultAborted,
		} { // all of them from the start: a counter that appears at 1 has no increase
			count := g.Counts[string(kind)+"/"+string(result)]
			out <- prometheus.MustNewConstMetric(descSwitchovers, prometheus.CounterValue, float64(count), p.Name, string(kind), string(result))
		}
	}
	c.observeSteps(g)
}

func appMetrics(s *failover.State, l Local, g *failover.GroupState, p *failover.App, gauge gaugeFunc) {
	view := appView(s, l, g, p)
	gauge(descHealth, opinion(view.Health), g.Name, p.Name)
	gauge(descReady, number(view.Ready), g.Name, p.Name)
	gauge(descActive, number(g.Active == p.Name), g.Name, p.Name)
	for _, v := range view.Verdicts {
		gauge(descVerdict, opinion(v.Verdict), g.Name, p.Name, v.Watcher)
	}
	if d := view.Database; d != nil {
		if d.LagBytes != nil {
			gauge(descLagBytes, float64(*d.LagBytes), g.Name, p.Name)
		}
		if d.LagSeconds != nil {
			gauge(descLagSeconds, *d.LagSeconds, g.Name, p.Name)
		}
	}
}

// observeSteps adds the steps of newly ended switchovers to the histogram. Those that ended before this process began
// are left out: replaying the log at every start would count them again.
func (c *collector) observeSteps(g *failover.GroupState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range g.History {
		if w.ID <= c.seen[g.Name] || w.EndedAt == nil {
			continue
		}
		c.seen[g.Name] = w.ID
		if w.EndedAt.Before(c.start) {
			continue
		}
		for _, step := range w.Steps {
			if step.StartedAt != nil && step.EndedAt != nil {
				c.steps.WithLabelValues(string(step.Name), string(step.State)).Observe(step.EndedAt.Sub(*step.StartedAt).Seconds())
			}
		}
	}
}

// certificates are this watcher's own and the first to end of each app; one value for each name.
func certificates(s *failover.State, l Local) []Certificate {
	var list []Certificate
	named := map[string]bool{}
	add := func(name string, expires time.Time) {
		if !named[name] {
			named[name] = true
			list = append(list, Certificate{Name: name, Expires: expires})
		}
	}
	for _, cert := range l.Certificates {
		add(cert.Name, cert.Expires)
	}
	for _, group := range s.GroupNames() {
		for _, a := range s.Groups[group].Apps {
			if first := firstExpiry(a); first != nil {
				add(group+"/"+a.Name, first.Time)
			}
		}
	}
	return list
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// opinion is a verdict or a health as a number.
func opinion(text string) float64 {
	switch text {
	case string(failover.VerdictUp):
		return 1
	case string(failover.VerdictDown):
		return 0
	}
	return -1
}
