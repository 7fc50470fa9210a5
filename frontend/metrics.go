package frontend

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// The ways to an assignment.
const (
	pathLive   = "live"   // the registry knew the room
	pathTicket = "ticket" // Open Match and a director were asked
)

type metrics struct {
	seconds *prometheus.HistogramVec
	refused *prometheus.CounterVec
	waiting prometheus.Gauge
	filed   *prometheus.CounterVec
	answers *prometheus.CounterVec
}

func newMetrics(registry prometheus.Registerer) *metrics {
	factory := promauto.With(registry)
	return &metrics{
		seconds: factory.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "guildhall_frontend_assign_seconds",
			Help:    "From a player's call to the assignment, by path: live (the registry knew the room), ticket.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}, []string{"path"}),
		refused: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "guildhall_frontend_refused_total", Help: "Calls refused, by method and code.",
		}, []string{"method", "code"}),
		waiting: factory.NewGauge(prometheus.GaugeOpts{
			Name: "guildhall_frontend_waiting_players", Help: "Players who wait for a room here.",
		}),
		filed: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "guildhall_frontend_tickets_filed_total", Help: "Tickets filed with Open Match, renewals included, by outcome: filed, failed.",
		}, []string{"outcome"}),
		answers: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "guildhall_frontend_answers_total",
			Help: "Waits that ended with a room, by how it became known: told (over NATS), found (by looking again).",
		}, []string{"how"}),
	}
}

func (m *metrics) entered(path string, took time.Duration) {
	m.seconds.WithLabelValues(path).Observe(took.Seconds())
}
