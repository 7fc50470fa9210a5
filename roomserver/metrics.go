package roomserver

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	rooms         prometheus.Gauge
	sessions      prometheus.Gauge
	openSeconds   *prometheus.HistogramVec
	appendSeconds *prometheus.HistogramVec
	messages      prometheus.Counter
	repeated      prometheus.Counter
	dropped       *prometheus.CounterVec
	closed        *prometheus.CounterVec
	leaseLosses   prometheus.Counter
	idleShutdowns *prometheus.CounterVec
}

func newMetrics(registry prometheus.Registerer) *metrics {
	factory := promauto.With(registry)
	buckets := prometheus.ExponentialBuckets(0.00025, 2, 16)
	m := &metrics{
		rooms: factory.NewGauge(prometheus.GaugeOpts{
			Name: "guildhall_host_rooms", Help: "Rooms on this host.",
		}),
		sessions: factory.NewGauge(prometheus.GaugeOpts{
			Name: "guildhall_host_sessions", Help: "Sessions on this host.",
		}),
		openSeconds: factory.NewHistogramVec(prometheus.HistogramOpts{
			Name: "guildhall_host_open_seconds", Help: "How long opening a room took, by outcome: opened, failed.", Buckets: buckets,
		}, []string{"outcome"}),
		appendSeconds: factory.NewHistogramVec(prometheus.HistogramOpts{
			Name: "guildhall_host_append_seconds", Help: "How long appending to the log took, by outcome: appended, failed.", Buckets: buckets,
		}, []string{"outcome"}),
		messages: factory.NewCounter(prometheus.CounterOpts{
			Name: "guildhall_host_messages_total", Help: "Messages that became durable.",
		}),
		repeated: factory.NewCounter(prometheus.CounterOpts{
			Name: "guildhall_host_repeated_messages_total", Help: "Messages that had been said before and were only acked again.",
		}),
		dropped: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "guildhall_host_dropped_sessions_total", Help: "Sessions dropped, by reason.",
		}, []string{"reason"}),
		closed: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "guildhall_host_closed_sessions_total", Help: "Sessions ended, by close code.",
		}, []string{"code"}),
		leaseLosses: factory.NewCounter(prometheus.CounterOpts{
			Name: "guildhall_host_lease_losses_total", Help: "Times that the lease was lost.",
		}),
		idleShutdowns: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "guildhall_host_idle_shutdowns_total",
			Help: "Times that this host ended because it was idle, by whether it ever had a room. One that had none was allocated in vain: as headroom, or by a reply that was lost.",
		}, []string{"used"}),
	}
	for _, used := range []bool{true, false} {
		m.idleShutdowns.WithLabelValues(strconv.FormatBool(used)) // shown as 0 from the start: the host does not live long after the 1
	}
	return m
}

func outcome(good string, err error) string {
	if err != nil {
		return "failed"
	}
	return good
}

func (m *metrics) opened(took time.Duration, err error) {
	m.openSeconds.WithLabelValues(outcome("opened", err)).Observe(took.Seconds())
}

func (m *metrics) appended(took time.Duration, messages int, err error) {
	m.appendSeconds.WithLabelValues(outcome("appended", err)).Observe(took.Seconds())
	if err == nil {
		m.messages.Add(float64(messages))
	}
}

func (m *metrics) closedIdle(used bool) {
	m.idleShutdowns.WithLabelValues(strconv.FormatBool(used)).Inc()
}
