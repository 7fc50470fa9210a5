package director

import (
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"google.golang.org/grpc/codes"
	"open-match.dev/open-match/pkg/pb"
)

type metrics struct {
	factory         promauto.Factory
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
	headroom        prometheus.Gauge
	reaps           *prometheus.CounterVec
	ahead           *prometheus.CounterVec
	keeps           *prometheus.CounterVec
}

func newMetrics(registry prometheus.Registerer) *metrics {
	factory := promauto.With(registry)
	buckets := prometheus.ExponentialBuckets(0.0005, 2, 16)
	m := &metrics{
		factory: factory,
		fetches: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "guildhall_director_fetches_total", Help: "Calls of FetchMatches by outcome: ok, failed.",
		}, []string{"outcome"}),
		placeSeconds: factory.NewHistogramVec(prometheus.HistogramOpts{
			Name: "guildhall_director_place_seconds", Help: "How long placing a group took, by outcome: placed, failed.", Buckets: buckets,
		}, []string{"outcome"}),
		retries: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "guildhall_director_place_retries_total",
			Help: "Steps of placements that were tried again, by reason: " + strings.Join(whyAgain, ", ") + ".",
		}, []string{"reason"}),
		failures: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "guildhall_director_place_failures_total",
			Help: "Placements that failed, by reason: those of the retries, when they were too many, and " + strings.Join(whyNot, ", ") + ".",
		}, []string{"reason"}),
		allocateSeconds: factory.NewHistogramVec(prometheus.HistogramOpts{
			Name: "guildhall_director_allocate_seconds", Help: "How long an Agones allocation took, by gRPC code, into which replies of the Kubernetes API are translated.", Buckets: buckets,
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
		headroom: factory.NewGauge(prometheus.GaugeOpts{
			Name: "guildhall_director_headroom_rooms", Help: "Free rooms that this director keeps ahead of need; 0 for none.",
		}),
		reaps: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "guildhall_director_reaps_total",
			Help: "Times that this director looked through all claims for those that nobody serves, by outcome: passed, failed (some could not be looked at, or not be given back).",
		}, []string{"outcome"}),
		ahead: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "guildhall_director_allocations_ahead_total", Help: "Hosts that were allocated as headroom, by outcome: allocated, failed.",
		}, []string{"outcome"}),
		keeps: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "guildhall_director_keeps_total", Help: "Idle hosts that were asked to stay as headroom, by outcome: kept, failed.",
		}, []string{"outcome"}),
	}
	m.showZeros()
	return m
}

// Why a step of a placement is tried again, and why else one fails: what [why] says.
var (
	whyAgain = []string{
		"claim_lost", "moving", "host_full", "host_disagrees", "host_leaving", "host_silent", "fleet_empty", "allocation_contended",
		"allocator_away", "allocation_unknown",
	}
	whyNot = []string{
		"allocator_tls", "allocator_missing", "allocation_denied", "allocation_refused", "bad_request", "every_host_refuses", "no_lease",
		"registry", "timeout",
	}
)

// showZeros has counters shown from the start: of one that begins with its first event, no increase is seen.
func (m *metrics) showZeros() {
	for counter, values := range map[*prometheus.CounterVec][]string{
		m.fetches: {"ok", "failed"}, m.reaps: {"passed", "failed"}, m.reaped: {"dead_host", "no_room"},
		m.ahead: {"allocated", "failed"}, m.keeps: {"kept", "failed"},
		m.tickets: {"assigned", "assign_failed", "gone", "released", "expired"},
		m.retries: whyAgain, m.failures: slices.Concat(whyAgain, whyNot),
	} {
		for _, value := range values {
			counter.WithLabelValues(value)
		}
	}
}

// expiring shows when the certificates of a file expire: client for our own, ca for those whom we trust.
func (m *metrics) expiring(what, file string) {
	m.factory.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "guildhall_director_certificate_expiry_timestamp_seconds",
		Help: "When the certificates for Agones expire that the next connection would use, by what: client (our own), ca (whom we trust); 0 if they cannot be read.", ConstLabels: prometheus.Labels{"what": what},
	}, func() float64 { return float64(max(0, expiry(file, what == "client").Unix())) })
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
