package openmatchlocal

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config says how a [Server] behaves. The zero value works: free ports on loopback and Open Match's timeouts.
type Config struct {
	// Where the three services listen, host:port; port 0 takes a free one. Empty means 127.0.0.1:0.
	FrontendListen, BackendListen, QueryListen string

	// How long a fetched ticket stays out of the pools when it is neither assigned nor released. A backfill
	// that is not acknowledged lives four fifths of this. 0 means 1 minute.
	PendingReleaseTimeout time.Duration
	// How long an assigned ticket can be read before it is deleted. 0 means 10 minutes.
	AssignedDeleteTimeout time.Duration
	// How long a ticket may wait for an assignment before it is deleted. Open Match has no such limit,
	// and 0 means none.
	OrphanTimeout time.Duration
	// How long a match function may run; what it has proposed by then still counts. 0 means 20 seconds.
	ProposalCollectionInterval time.Duration

	// Tickets, ids or backfills in one message of a query, held between 10 and 10,000. 0 means 10,000.
	QueryPageSize int
	// How long a FetchMatches that has nothing to give waits for a ticket. 0 means 1 second.
	FetchWait time.Duration

	// Where to log; nil discards.
	Logger *slog.Logger
	// Where to register metrics; nil counts for nobody.
	Metrics prometheus.Registerer

	stopGrace time.Duration // for tests that want nothing to be forced; 0 means stopGrace
}

const (
	anyLoopbackPort = "127.0.0.1:0"
	minPageSize     = 10
	maxPageSize     = 10_000
)

func (c Config) withDefaults() (Config, error) {
	for _, listen := range []*string{&c.FrontendListen, &c.BackendListen, &c.QueryListen} {
		if *listen == "" {
			*listen = anyLoopbackPort
		}
	}
	for _, d := range []struct {
		name     string
		value    *time.Duration
		fallback time.Duration
	}{
		{"PendingReleaseTimeout", &c.PendingReleaseTimeout, time.Minute},
		{"AssignedDeleteTimeout", &c.AssignedDeleteTimeout, 10 * time.Minute},
		{"OrphanTimeout", &c.OrphanTimeout, 0},
		{"ProposalCollectionInterval", &c.ProposalCollectionInterval, 20 * time.Second},
		{"FetchWait", &c.FetchWait, time.Second},
		{"stopGrace", &c.stopGrace, stopGrace},
	} {
		if *d.value < 0 {
			return c, fmt.Errorf("openmatchlocal: %s is %v, want 0 or more", d.name, *d.value)
		}
		if *d.value == 0 {
			*d.value = d.fallback
		}
	}
	if c.QueryPageSize == 0 {
		c.QueryPageSize = maxPageSize
	}
	c.QueryPageSize = min(max(c.QueryPageSize, minPageSize), maxPageSize)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}
