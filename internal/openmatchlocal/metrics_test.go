package openmatchlocal

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"open-match.dev/open-match/pkg/pb"
)

// values gives every sample of r by name and labels; histograms by their count.
func values(t *testing.T, r prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]float64)
	for _, family := range families {
		name := strings.TrimPrefix(family.GetName(), metricsPrefix)
		for _, m := range family.GetMetric() {
			key := name
			for _, label := range m.GetLabel() {
				key += " " + label.GetName() + "=" + label.GetValue()
			}
			got[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return got
}

func TestMetricsTellWhatHappened(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	w := startWire(t, Config{Metrics: registry})
	s := w.store
	for range 4 {
		file(s, "a")
	}
	tickets := s.queryTickets(poolFilter{})
	f := startFunction(t, func(r ranFunction) error {
		if r.number > 1 {
			return r.ctx.Err()
		}
		return r.propose(proposal("1", tickets[0], tickets[1]), proposal("2", tickets[0]))
	})
	w.fetch(testContext(t), f.config, profileOf("a"))
	w.fetch(testContext(t), &pb.FunctionConfig{Host: "127.0.0.1", Port: 1}, profileOf("a"))
	s.assign([]ticketID{idOf(tickets[0])}, &pb.Assignment{})
	s.createBackfill(&pb.Backfill{})

	got := values(t, registry)
	for name, want := range map[string]float64{
		"tickets_created_total":         4,
		"tickets_assigned_total":        1,
		"tickets state=available":       2,
		"tickets state=pending":         1,
		"tickets state=assigned":        1,
		"backfills":                     1,
		"matches_total result=accepted": 1,
		"matches_total result=dropped":  1,
		"fetch_errors_total":            1,
		"match_function_seconds":        2,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}

func TestMetricsOfTwoServersNeedTwoRegistries(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	first, err := New(Config{Metrics: registry})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, err := New(Config{Metrics: registry}); err == nil {
		t.Error("two servers count into one registry")
	}
}
