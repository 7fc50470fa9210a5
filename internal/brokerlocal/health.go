package brokerlocal

import (
	"cmp"
	"errors"
)

// Health says what the server lacks: as a node that has just started again it may not have caught up with the others.
// It is nil once the server has all that it should have.
func (s *Server) Health() error {
	status := s.nats.Healthz(nil)
	if status.Status == "ok" {
		return nil
	}
	return errors.New("NATS: " + cmp.Or(status.Error, status.Status))
}
