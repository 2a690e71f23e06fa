package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/util/workqueue"
)

var (
	queueDepth = NewGauge(Spec{
		Name: "spillway_workqueue_depth", Help: "Keys that wait in a work queue.", In: Controller, Labels: []string{"queue"},
	})
	queueAdds = NewCounter(Spec{
		Name: "spillway_workqueue_adds_total", Help: "Keys put on a work queue.", In: Controller, Labels: []string{"queue"},
	})
	queueWaited = NewHistogram(Spec{
		Name: "spillway_workqueue_queue_duration_seconds", Help: "How long a key waited until a worker took it.", In: Controller,
		Labels: []string{"queue"}, Buckets: queueBuckets(),
	})
	queueWorked = NewHistogram(Spec{
		Name: "spillway_workqueue_work_duration_seconds", Help: "How long a worker took for a key.", In: Controller,
		Labels: []string{"queue"}, Buckets: queueBuckets(),
	})
	queueUnfinished = NewGauge(Spec{
		Name: "spillway_workqueue_unfinished_work_seconds", Help: "How long the keys that are being worked on have been so, together.",
		In: Controller, Labels: []string{"queue"},
	})
	queueLongest = NewGauge(Spec{
		Name: "spillway_workqueue_longest_running_processor_seconds", Help: "How long the slowest worker has been on its key.",
		In: Controller, Labels: []string{"queue"},
	})
	queueRetries = NewCounter(Spec{
		Name: "spillway_workqueue_retries_total", Help: "Keys put back after a failure.", In: Controller, Labels: []string{"queue"},
	})
)

// queueBuckets begin where a step that needs no write ends.
func queueBuckets() []float64 {
	return []float64{.00001, .0001, .001, .005, .025, .1, .5, 2.5, 10}
}

// Queues measures work queues. Queues without a name are not.
type Queues struct{}

var _ workqueue.MetricsProvider = Queues{}

// NewDepthMetric implements workqueue.MetricsProvider. A queue begins empty, whatever one of its name had left.
func (Queues) NewDepthMetric(name string) workqueue.GaugeMetric {
	return zeroed(queueDepth, name)
}

// NewAddsMetric implements workqueue.MetricsProvider.
func (Queues) NewAddsMetric(name string) workqueue.CounterMetric {
	return queueAdds.WithLabelValues(name)
}

// NewLatencyMetric implements workqueue.MetricsProvider.
func (Queues) NewLatencyMetric(name string) workqueue.HistogramMetric {
	return queueWaited.WithLabelValues(name)
}

// NewWorkDurationMetric implements workqueue.MetricsProvider.
func (Queues) NewWorkDurationMetric(name string) workqueue.HistogramMetric {
	return queueWorked.WithLabelValues(name)
}

// NewUnfinishedWorkSecondsMetric implements workqueue.MetricsProvider.
func (Queues) NewUnfinishedWorkSecondsMetric(name string) workqueue.SettableGaugeMetric {
	return zeroed(queueUnfinished, name)
}

// NewLongestRunningProcessorSecondsMetric implements workqueue.MetricsProvider.
func (Queues) NewLongestRunningProcessorSecondsMetric(name string) workqueue.SettableGaugeMetric {
	return zeroed(queueLongest, name)
}

// NewRetriesMetric implements workqueue.MetricsProvider.
func (Queues) NewRetriesMetric(name string) workqueue.CounterMetric {
	return queueRetries.WithLabelValues(name)
}

func zeroed(v *prometheus.GaugeVec, name string) prometheus.Gauge {
	g := v.WithLabelValues(name)
	g.Set(0)
	return g
}
