package roomserver

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/roomlog"
)

type metrics struct {
	factory       promauto.Factory
	rooms         prometheus.Gauge
	sessions      prometheus.Gauge
	openSeconds   *prometheus.HistogramVec
	joinSeconds   prometheus.Histogram
	ended         *prometheus.CounterVec
	fenced        *prometheus.CounterVec
	audits        *prometheus.CounterVec
	appendSeconds *prometheus.HistogramVec
	appendFailed  *prometheus.CounterVec
	messages      prometheus.Counter
	repeated      prometheus.Counter
	refused       *prometheus.CounterVec
	signals       *prometheus.CounterVec
	deliveries    prometheus.Counter
	swept         prometheus.Counter
	roundSeconds  prometheus.Histogram
	dropped       *prometheus.CounterVec
	closed        *prometheus.CounterVec
	leaseLosses   prometheus.Counter
	idleShutdowns *prometheus.CounterVec
}

func newMetrics(registry prometheus.Registerer) *metrics {
	factory := promauto.With(registry)
	buckets := prometheus.ExponentialBuckets(0.00025, 2, 16)
	m := &metrics{
		factory: factory,
		rooms: factory.NewGauge(prometheus.GaugeOpts{
			Name: "guildhall_host_rooms", Help: "Rooms on this host.",
		}),
		sessions: factory.NewGauge(prometheus.GaugeOpts{
			Name: "guildhall_host_sessions", Help: "Sessions on this host.",
		}),
		openSeconds: factory.NewHistogramVec(prometheus.HistogramOpts{
			Name: "guildhall_host_open_seconds", Help: "How long opening a room took, by outcome: opened, failed.", Buckets: buckets,
		}, []string{"outcome"}),
		joinSeconds: factory.NewHistogram(prometheus.HistogramOpts{
			Name: "guildhall_host_join_seconds", Help: "From a player's hello to the seat, with all that was missed sent.", Buckets: buckets,
		}),
		ended: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "guildhall_host_ended_rooms_total", Help: "Rooms that ended here, by why: idle, moved (the host drained), fenced, broken, cut_off.",
		}, []string{"why"}),
		fenced: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "guildhall_host_fenced_rooms_total",
			Help: "Rooms that ended because the group has a later claim, by this host's lease: lost (the group was taken over meanwhile, as it should be), held (ever since the room opened: nobody had a reason to take it over).",
		}, []string{"lease"}),
		audits: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "guildhall_host_audits_total",
			Help: "Times that this host checked its rooms against the registry, once in the life of a lease, by outcome: passed, failed (some could not be checked).",
		}, []string{"outcome"}),
		appendFailed: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "guildhall_host_append_failures_total",
			Help: "Appends that failed, by why: fenced (a later epoch has the log), broken (the log is not as this host left it), unanswered (tried again).",
		}, []string{"why"}),
		appendSeconds: factory.NewHistogramVec(prometheus.HistogramOpts{
			Name: "guildhall_host_append_seconds", Help: "How long appending to the log took, by outcome: appended, failed.", Buckets: buckets,
		}, []string{"outcome"}),
		messages: factory.NewCounter(prometheus.CounterOpts{
			Name: "guildhall_host_messages_total", Help: "Messages that became durable.",
		}),
		repeated: factory.NewCounter(prometheus.CounterOpts{
			Name: "guildhall_host_repeated_messages_total", Help: "Messages that had been said before and were only acked again.",
		}),
		refused: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "guildhall_host_refused_messages_total", Help: "Messages that were not taken, by code.",
		}, []string{"code"}),
		signals: factory.NewCounterVec(prometheus.CounterOpts{
			Name: "guildhall_host_signals_total", Help: "Signals, by outcome: passed, dropped.",
		}, []string{"outcome"}),
		swept: factory.NewCounter(prometheus.CounterOpts{
			Name: "guildhall_host_swept_entries_total", Help: "Entries of the log that this host dropped because they were older than their kind keeps.",
		}),
		deliveries: factory.NewCounter(prometheus.CounterOpts{
			Name: "guildhall_host_deliveries_total", Help: "Frames told to sessions in rounds; a frame holds all that happened since the last round.",
		}),
		roundSeconds: factory.NewHistogram(prometheus.HistogramOpts{
			Name: "guildhall_host_round_seconds", Help: "How long telling all sessions of a room took.", Buckets: prometheus.ExponentialBuckets(0.00001, 2, 18),
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
	m.showZeros()
	return m
}

// showZeros has counters shown from the start: of one that begins with its first event, no increase is seen; and a host
// does not live long after some.
func (m *metrics) showZeros() {
	for _, used := range []bool{true, false} {
		m.idleShutdowns.WithLabelValues(strconv.FormatBool(used))
	}
	for counter, values := range map[*prometheus.CounterVec][]string{
		m.ended: {"idle", "moved", "fenced", "broken", "cut_off"}, m.fenced: {"held", "lost"}, m.audits: {"passed", "failed"},
		m.appendFailed: {"fenced", "broken", "unanswered"}, m.dropped: {"slow_consumer"},
		m.signals: {"passed", "dropped"}, m.closed: names(guildhallv1.CloseCode_name), m.refused: names(guildhallv1.RefuseCode_name),
	} {
		for _, value := range values {
			counter.WithLabelValues(value)
		}
	}
}

// names gives the names of an enumeration's values, but for the one that says nothing.
func names(of map[int32]string) []string {
	var names []string
	for number, name := range of {
		if number != 0 {
			names = append(names, name)
		}
	}
	return names
}

// follow shows the state of a host.
func (m *metrics) follow(isSuspended, isDraining func() bool) {
	for name, gauge := range map[string]struct {
		help string
		is   func() bool
	}{
		"guildhall_host_suspended": {"Whether the lease may have run out: rooms hold their members and ack nothing.", isSuspended},
		"guildhall_host_draining":  {"Whether the host takes no more rooms and moves those that are here.", isDraining},
	} {
		m.factory.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: gauge.help}, func() float64 {
			if gauge.is() {
				return 1
			}
			return 0
		})
	}
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
	switch {
	case err == nil:
		m.messages.Add(float64(messages))
	case errors.Is(err, roomlog.ErrFenced):
		m.appendFailed.WithLabelValues("fenced").Inc()
	case errors.Is(err, roomlog.ErrBroken):
		m.appendFailed.WithLabelValues("broken").Inc()
	default:
		m.appendFailed.WithLabelValues("unanswered").Inc()
	}
}

func (m *metrics) audited(err error) {
	m.audits.WithLabelValues(outcome("passed", err)).Inc()
}

// over notes the end of a room, and whether the host's lease had stood since the room opened.
func (m *metrics) over(why end, leaseHeld bool) {
	m.ended.WithLabelValues(strings.ReplaceAll(why.String(), " ", "_")).Inc()
	if why != endFenced {
		return
	}
	lease := "lost"
	if leaseHeld {
		lease = "held"
	}
	m.fenced.WithLabelValues(lease).Inc()
}

// told notes a round.
func (m *metrics) told(frames int, took time.Duration) {
	m.deliveries.Add(float64(frames))
	m.roundSeconds.Observe(took.Seconds())
}

func (m *metrics) closedIdle(used bool) {
	m.idleShutdowns.WithLabelValues(strconv.FormatBool(used)).Inc()
}
