package agoneslocal

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	states      *prometheus.GaugeVec
	exits       *prometheus.CounterVec
	allocations *prometheus.CounterVec
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		states: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "guildhall_agoneslocal_gameservers",
			Help: "Game servers of the local fleet by state.",
		}, []string{"state"}),
		exits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "guildhall_agoneslocal_gameserver_exits_total",
			Help: "Game servers of the local fleet that ended, by cause: asked, stopped, unhealthy, died, crashed.",
		}, []string{"cause"}),
		allocations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "guildhall_agoneslocal_allocations_total",
			Help: "Allocation requests answered by the local allocator, by result: allocated, unallocated, invalid.",
		}, []string{"result"}),
	}
	if registerer == nil {
		return m, nil
	}
	return m, errors.Join(registerer.Register(m.states), registerer.Register(m.exits), registerer.Register(m.allocations))
}
