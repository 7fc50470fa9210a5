package director

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"google.golang.org/grpc/codes"
	"open-match.dev/open-match/pkg/pb"
)

type metrics struct {
	fetches         *prometheus.CounterVec
	placeSeconds    *prometheus.HistogramVec
	retries         *prometheus.CounterVec
	failures        *prometheus.CounterVec
	allocateSeconds *prometheus.HistogramVec
	assignSeconds   prometheus.Histogram
	tickets         *prometheus.CounterVec
	ticketAge       prometheus.Histogram
	reaped          *prometheus.CounterVec
	idleHosts       prometheus.Gauge
	freeRooms       prometheus.Gauge
	ahead           *prometheus.CounterVec
	keeps           *prometheus.CounterVec
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
			Name: "guildhall_director_place_retries_total",
			Help: "Steps of placements that were tried again, by reason: claim_lost, moving, host_full, host_disagrees, host_leaving, host_silent, fleet_empty, allocation_contended, allocator_away, allocation_unknown.",
		}, []string{"reason"}),
		failures: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "guildhall_director_place_failures_total",
			Help: "Placements that failed, by reason: those of the retries, when they were too many, and allocation_refused, bad_request, every_host_refuses, no_lease, registry, timeout.",
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
		ticketAge: factory.NewHistogram(prometheus.HistogramOpts{
			Name: "guildhall_director_ticket_age_seconds",
			Help: "How long ago a ticket was created when its match was fetched.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 18),
		}),
		reaped: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "guildhall_director_reaped_claims_total",
			Help: "Claims that nobody served and that were given back, by why: dead_host, no_room.",
		}, []string{"why"}),
		idleHosts: factory.NewGauge(prometheus.GaugeOpts{
			Name: "guildhall_director_idle_hosts", Help: "Allocated hosts without rooms, headroom and what was allocated in vain, as this director sees them.",
		}),
		freeRooms: factory.NewGauge(prometheus.GaugeOpts{
			Name: "guildhall_director_free_rooms", Help: "Rooms that could be opened without an allocation, as this director sees them.",
		}),
		ahead: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "guildhall_director_allocations_ahead_total", Help: "Hosts that were allocated as headroom, by outcome: allocated, failed.",
		}, []string{"outcome"}),
		keeps: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "guildhall_director_keeps_total", Help: "Idle hosts that were asked to stay as headroom, by outcome: kept, failed.",
		}, []string{"outcome"}),
	}
}

// fetched notes how old the tickets of a match are. Another machine's clock created them.
func (m *metrics) fetched(match *pb.Match) {
	for _, t := range match.GetTickets() {
		if t.GetCreateTime().IsValid() {
			m.ticketAge.Observe(max(0, time.Since(t.GetCreateTime().AsTime()).Seconds()))
		}
	}
}

func (m *metrics) placed(took time.Duration, err error) {
	if err != nil {
		m.failures.WithLabelValues(why(err)).Inc()
	}
	m.placeSeconds.WithLabelValues(outcome("placed", err)).Observe(took.Seconds())
}

func (m *metrics) allocated(took time.Duration, code codes.Code) {
	m.allocateSeconds.WithLabelValues(code.String()).Observe(took.Seconds())
}

func outcome(good string, err error) string {
	if err != nil {
		return "failed"
	}
	return good
}
