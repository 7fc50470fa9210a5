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
	factory   promauto.Factory
	seconds   *prometheus.HistogramVec
	refused   *prometheus.CounterVec
	waiting   prometheus.Gauge
	filed     *prometheus.CounterVec
	refiled   prometheus.Counter
	withdrawn *prometheus.CounterVec
	answers   *prometheus.CounterVec
	waited    *prometheus.HistogramVec
}

func newMetrics(registry prometheus.Registerer) *metrics {
	factory := promauto.With(registry)
	m := &metrics{
		factory: factory,
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
		withdrawn: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "guildhall_frontend_tickets_withdrawn_total",
			Help: "Tickets deleted from Open Match because nobody waits for them any more, by outcome: withdrawn, failed; those that failed expire.",
		}, []string{"outcome"}),
		refiled: factory.NewCounter(prometheus.CounterOpts{
			Name: "guildhall_frontend_tickets_refiled_total", Help: "Tickets that were filed anew because no answer came: directors that died, or a fleet without room.",
		}),
		answers: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "guildhall_frontend_answers_total",
			Help: "Waits that ended with a room, by how it became known: told (over NATS), found (by looking again).",
		}, []string{"how"}),
		waited: factory.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "guildhall_frontend_wait_seconds",
			Help:    "How long players waited for a room that was not live, by how it ended: placed, left (they went away), sent_away (this frontend stopped).",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 18),
		}, []string{"end"}),
	}
	// Shown from the start: of a counter that begins with its first event, no increase is seen.
	for counter, values := range map[*prometheus.CounterVec][]string{
		m.filed: {"filed", "failed"}, m.withdrawn: {"withdrawn", "failed"}, m.answers: {"told", "found"},
	} {
		for _, value := range values {
			counter.WithLabelValues(value)
		}
	}
	return m
}

// follow shows how long the one who has waited longest has waited.
func (m *metrics) follow(longest func() time.Duration) {
	m.factory.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "guildhall_frontend_longest_wait_seconds", Help: "How long the group that has waited longest here has waited for a room; 0 if none waits.",
	}, func() float64 { return longest().Seconds() })
}

func (m *metrics) entered(path string, took time.Duration) {
	m.seconds.WithLabelValues(path).Observe(took.Seconds())
}
