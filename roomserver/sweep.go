package roomserver

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/internal/process"
)

// sweepPeriod is how often the logs of all groups are swept of what is older than their kinds keep, by one of all hosts.
const sweepPeriod = time.Hour

// sweep sweeps the logs whenever it is this host's turn, until ctx ends.
func (s *Server) sweep(ctx context.Context) error {
	if !keepsForAWhile(s.config.Kinds) {
		<-ctx.Done()
		return nil
	}
	for ctx.Err() == nil {
		mine, err := s.registry.Turn(ctx, "sweep", sweepPeriod)
		if err == nil && mine {
			err = s.sweepOnce(ctx)
		}
		if err != nil && ctx.Err() == nil {
			s.logger.Warn("the logs could not be swept; trying again", "error", err)
		}
		process.Sleep(ctx, sweepPeriod/2+rand.N(sweepPeriod)) // not all at once
	}
	return nil
}

func (s *Server) sweepOnce(ctx context.Context) error {
	began := time.Now()
	dropped, err := s.log.Sweep(ctx, s.config.Kinds)
	s.metrics.swept.Add(float64(dropped))
	s.logger.Info("logs swept of what is older than their kinds keep", "entries", dropped, "took", time.Since(began))
	return err
}

// keepsForAWhile says whether any kind drops what is old.
func keepsForAWhile(kinds guildhall.Kinds) bool {
	for _, rules := range kinds {
		if rules.Keep > 0 {
			return true
		}
	}
	return false
}
