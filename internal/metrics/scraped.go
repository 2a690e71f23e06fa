package metrics

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// Scraped are measures that are read from what is there when somebody scrapes, so that they cost nothing otherwise and end with what they
// are about. Declare one per package; Add who can tell. Safe for concurrent use.
type Scraped struct {
	descs []*prometheus.Desc

	mu      sync.Mutex
	sources map[*source]struct{} // guarded by mu
}

// source is one who can tell.
type source struct{ tell func(*Sink) }

// Value is one of the measures of a Scraped.
type Value struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

// NewScraped declares no measure yet.
func NewScraped() *Scraped {
	return &Scraped{sources: map[*source]struct{}{}}
}

// Gauge declares a gauge. Call it before Registered only.
func (s *Scraped) Gauge(spec Spec) Value { return s.value(Gauge, prometheus.GaugeValue, spec) }

// Counter declares a counter that somebody else counts. Call it before Registered only.
func (s *Scraped) Counter(spec Spec) Value { return s.value(Counter, prometheus.CounterValue, spec) }

func (s *Scraped) value(t Type, kind prometheus.ValueType, spec Spec) Value {
	list.add(t, spec)
	desc := prometheus.NewDesc(spec.Name, spec.Help, spec.Labels, nil)
	s.descs = append(s.descs, desc)
	return Value{desc, kind}
}

// Registered makes scrapes ask the sources, and returns s.
func (s *Scraped) Registered() *Scraped {
	Registry.MustRegister(s)
	return s
}

// Add has tell called by each scrape, until stop is. It may be called from several goroutines at once and is to be quick.
func (s *Scraped) Add(tell func(*Sink)) (stop func()) {
	this := &source{tell}
	s.mu.Lock()
	s.sources[this] = struct{}{}
	s.mu.Unlock()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.sources, this)
	}
}

// Describe implements prometheus.Collector.
func (s *Scraped) Describe(out chan<- *prometheus.Desc) {
	for _, d := range s.descs {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (s *Scraped) Collect(out chan<- prometheus.Metric) {
	s.mu.Lock()
	sources := make([]*source, 0, len(s.sources))
	for this := range s.sources {
		sources = append(sources, this)
	}
	s.mu.Unlock()
	for _, this := range sources {
		this.tell(&Sink{out})
	}
}

// Sink takes what a source tells.
type Sink struct{ out chan<- prometheus.Metric }

// Set tells a value, with those of its labels in their order. It panics when there are not as many as declared.
func (s *Sink) Set(v Value, value float64, labels ...string) {
	s.out <- prometheus.MustNewConstMetric(v.desc, v.kind, value, labels...)
}

// Is is 1 for true.
func Is(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
