package roomserver

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/guildhall-dev/guildhall/internal/process"
)

const (
	// inrush is how many sessions are a crowd: what they leave behind on their way in is worth a collection.
	inrush = 1000
	// inrushPause is how often the host looks whether one has come.
	inrushPause = time.Second
)

// tidy gives memory back to the system when a crowd has come in and sits. Each session leaves some kilobytes of garbage on its
// way in. Go keeps it until as much again has been allocated, or for minutes: a host of which many sit and few speak would
// have a fifth more than it needs for as long.
func (s *Server) tidy(ctx context.Context, host *host) error {
	c := inrushWatch{release: debug.FreeOSMemory}
	process.Every(ctx, inrushPause, func() { c.look(host.players.Load()) })
	return nil
}

// inrushWatch sees when a crowd has come and sits.
type inrushWatch struct {
	release      func()
	before, last int64 // sessions when memory was given back, or fewer since; and when it looked last
}

// look is told how many sessions there are.
func (c *inrushWatch) look(sessions int64) {
	came := sessions - c.last
	c.last = sessions
	c.before = min(c.before, sessions)
	if sessions-c.before >= inrush && came < inrush/100 {
		c.release()
		c.before = sessions
	}
}
