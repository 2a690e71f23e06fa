package metrics

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Program is where a measure is found.
type Program string

// Programs of Spillway.
const (
	Controller Program = "controller"
	Node       Program = "node"
	Both       Program = "both"
)

// Type of a measure, as Prometheus has it.
type Type string

// Types of measures.
const (
	Counter   Type = "counter"
	Gauge     Type = "gauge"
	Histogram Type = "histogram"
)

// Spec says what a measure is.
type Spec struct {
	// Name with the unit, and _total where it is a counter.
	Name string
	// Help says what one value means, a sentence.
	Help string
	// In is where it is found.
	In Program
	// Labels are the names of its labels. What they may hold is said by Help unless it is clear.
	Labels []string
	// Buckets of a histogram; nil: Seconds. Scrapers that know native histograms need none.
	Buckets []float64
}

// Family is a measure as the list has it.
type Family struct {
	Spec
	Type Type
}

// Unit of the values, by the name: seconds, timestamp seconds (since 1970), bytes, ratio (0 to 1), or empty for a plain number.
func (f Family) Unit() string {
	name := strings.TrimSuffix(f.Name, "_total")
	for _, unit := range []string{"timestamp_seconds", "seconds", "bytes", "ratio"} {
		if strings.HasSuffix(name, "_"+unit) {
			return strings.ReplaceAll(unit, "_", " ")
		}
	}
	return ""
}

// Seconds are the bounds of histograms of times: from an answer of a near API server to one that timed out.
func Seconds() []float64 {
	return []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 15, 60}
}

// list has every measure that was declared, by name.
var list families

type families struct {
	mu     sync.Mutex
	byName map[string]Family // guarded by mu
}

func (l *families) add(t Type, s Spec) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byName == nil {
		l.byName = map[string]Family{}
	}
	if _, ok := l.byName[s.Name]; ok {
		panic("metrics: " + s.Name + " is declared twice")
	}
	l.byName[s.Name] = Family{s, t}
}

// Families lists every measure that the packages of this process declare, by name.
func Families() []Family {
	list.mu.Lock()
	defer list.mu.Unlock()
	out := make([]Family, 0, len(list.byName))
	for _, f := range list.byName {
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b Family) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// NewCounter declares a counter. It is shown once it has a value.
func NewCounter(s Spec) *prometheus.CounterVec {
	list.add(Counter, s)
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: s.Name, Help: s.Help}, s.Labels)
	Registry.MustRegister(v)
	return v
}

// NewGauge declares a gauge. It is shown once it has a value.
func NewGauge(s Spec) *prometheus.GaugeVec {
	list.add(Gauge, s)
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: s.Name, Help: s.Help}, s.Labels)
	Registry.MustRegister(v)
	return v
}

// NewHistogram declares a histogram, classic and native. It is shown once it has a value.
func NewHistogram(s Spec) *prometheus.HistogramVec {
	list.add(Histogram, s)
	if s.Buckets == nil {
		s.Buckets = Seconds()
	}
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: s.Name, Help: s.Help, Buckets: s.Buckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
	}, s.Labels)
	Registry.MustRegister(v)
	return v
}
