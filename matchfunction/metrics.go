package matchfunction

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	seconds prometheus.Histogram
	tickets prometheus.Counter
	foreign prometheus.Counter
	matches prometheus.Counter
}

func newMetrics(registry prometheus.Registerer) *metrics {
	factory := promauto.With(registry)
	return &metrics{
		seconds: factory.NewHistogram(prometheus.HistogramOpts{
			Name: "guildhall_matchfunction_run_seconds", Help: "How long a run took, the query included.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
		tickets: factory.NewCounter(prometheus.CounterOpts{
			Name: "guildhall_matchfunction_tickets_total", Help: "Tickets that queries returned.",
		}),
		foreign: factory.NewCounter(prometheus.CounterOpts{
			Name: "guildhall_matchfunction_foreign_tickets_total", Help: "Tickets in our pools without our details: left alone.",
		}),
		matches: factory.NewCounter(prometheus.CounterOpts{
			Name: "guildhall_matchfunction_matches_total", Help: "Matches proposed.",
		}),
	}
}

func (m *metrics) ran(took time.Duration, tickets, foreign, matches int) {
	m.seconds.Observe(took.Seconds())
	m.tickets.Add(float64(tickets))
	m.foreign.Add(float64(foreign))
	m.matches.Add(float64(matches))
}
