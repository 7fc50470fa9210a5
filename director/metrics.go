package director

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"google.golang.org/grpc/codes"
)

type metrics struct {
	fetches         *prometheus.CounterVec
	placeSeconds    *prometheus.HistogramVec
	retries         *prometheus.CounterVec
	allocateSeconds *prometheus.HistogramVec
	assignSeconds   prometheus.Histogram
	tickets         *prometheus.CounterVec
	reaped          prometheus.Counter
}

func newMetrics(registry prometheus.Registerer) *metrics {
	factory := promauto.With(registry)
	buckets := prometheus.ExponentialBuckets(0.0005, 2, 16)
	return &metrics{
		fetches: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "guildhall_director_fetches_total", Help: "Calls of FetchMatches by outcome: ok, failed.",
		}, []string{"outcome"}),
		placeSeconds: factory.NewHistogramVec(prometheus.HistogramOpts{
			Name: "guildhall_director_place_seconds", Help: "How long placing a group took, by outcome: placed, failed.", Buckets: buckets,
		}, []string{"outcome"}),
		retries: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "guildhall_director_place_retries_total", Help: "Placements that began anew, by reason.",
		}, []string{"reason"}),
		allocateSeconds: factory.NewHistogramVec(prometheus.HistogramOpts{
			Name: "guildhall_director_allocate_seconds", Help: "How long an Agones allocation took, by gRPC code.", Buckets: buckets,
		}, []string{"code"}),
		assignSeconds: factory.NewHistogram(prometheus.HistogramOpts{
			Name: "guildhall_director_assign_seconds", Help: "How long assigning a batch of matches took.", Buckets: buckets,
		}),
		tickets: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "guildhall_director_tickets_total",
			Help: "Open Match tickets by what became of them: assigned, assign_failed, gone, released, expired.",
		}, []string{"outcome"}),
		reaped: factory.NewCounter(prometheus.CounterOpts{
			Name: "guildhall_director_reaped_claims_total", Help: "Claims of dead hosts that were given back.",
		}),
	}
}

func (m *metrics) placed(took time.Duration, err error) {
	outcome := "placed"
	if err != nil {
		outcome = "failed"
	}
	m.placeSeconds.WithLabelValues(outcome).Observe(took.Seconds())
}

func (m *metrics) allocated(took time.Duration, code codes.Code) {
	m.allocateSeconds.WithLabelValues(code.String()).Observe(took.Seconds())
}
