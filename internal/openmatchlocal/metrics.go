package openmatchlocal

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

const metricsPrefix = "guildhall_openmatchlocal_"

type metrics struct {
	created, assigned prometheus.Counter
	matches           *prometheus.CounterVec // by result: accepted, dropped
	fetchErrors       prometheus.Counter
	functionSeconds   prometheus.Histogram
}

func newMetrics() *metrics {
	return &metrics{
		created: prometheus.NewCounter(prometheus.CounterOpts{
			Name: metricsPrefix + "tickets_created_total",
			Help: "Tickets created.",
		}),
		assigned: prometheus.NewCounter(prometheus.CounterOpts{
			Name: metricsPrefix + "tickets_assigned_total",
			Help: "Assignments made, repeated ones included.",
		}),
		matches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: metricsPrefix + "matches_total",
			Help: "Proposals of match functions, by what became of them.",
		}, []string{"result"}),
		fetchErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: metricsPrefix + "fetch_errors_total",
			Help: "FetchMatches calls that failed because of the match function.",
		}),
		functionSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    metricsPrefix + "match_function_seconds",
			Help:    "How long match functions ran.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 9),
		}),
	}
}

// register fails when another server has registered in r before.
func (m *metrics) register(r prometheus.Registerer, s *store) error {
	if r == nil {
		return nil
	}
	collectors := []prometheus.Collector{m.created, m.assigned, m.matches, m.fetchErrors, m.functionSeconds}
	for state, number := range map[string]func(census) int{
		"available": func(c census) int { return c.available },
		"pending":   func(c census) int { return c.pending },
		"assigned":  func(c census) int { return c.assigned },
	} {
		collectors = append(collectors, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        metricsPrefix + "tickets",
			Help:        "Tickets, by state.",
			ConstLabels: prometheus.Labels{"state": state},
		}, func() float64 { return float64(number(s.count())) }))
	}
	collectors = append(collectors, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: metricsPrefix + "backfills",
		Help: "Backfills.",
	}, func() float64 { return float64(s.count().backfills) }))
	var failures []error
	for _, c := range collectors {
		failures = append(failures, r.Register(c))
	}
	return errors.Join(failures...)
}
