package roomserver

import (
	"time"

	"golang.org/x/time/rate"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/transport"
)

// Limits is what a room takes from one player, over all their sessions. What is not set is that of [DefaultLimits].
type Limits struct {
	Messages      int `default:"100" desc:"messages a second that a player may say in the long run; as many signals again"`
	MessagesBurst int `split_words:"true" default:"1024" desc:"messages that a player may say at once"`
	Bytes         int `default:"262144" desc:"bytes a second that a player may say in the long run"`
	BytesBurst    int `split_words:"true" default:"4194304" desc:"bytes that a player may say at once; it has to hold a message"`
}

// DefaultLimits let a client say again, at once, what it had under way when its connection broke, and let nobody drown a
// room.
var DefaultLimits = Limits{Messages: 100, MessagesBurst: 1024, Bytes: 256 << 10, BytesBurst: 4 << 20}

func (l *Limits) fill() {
	for _, limit := range []struct{ set, usual *int }{
		{&l.Messages, &DefaultLimits.Messages}, {&l.MessagesBurst, &DefaultLimits.MessagesBurst},
		{&l.Bytes, &DefaultLimits.Bytes}, {&l.BytesBurst, &DefaultLimits.BytesBurst},
	} {
		if *limit.set == 0 {
			*limit.set = *limit.usual
		}
	}
}

// proto gives the limits as clients are told.
func (l Limits) proto(bodyBytes int) *guildhallv1.Limits {
	return &guildhallv1.Limits{
		BodyBytes: uint32(bodyBytes), MessagesPerSecond: uint32(l.Messages), MessagesBurst: uint32(l.MessagesBurst),
		BytesPerSecond: uint32(l.Bytes), BytesBurst: uint32(l.BytesBurst), IdleSeconds: uint32(transport.IdleAfter.Seconds()),
	}
}

// limiter holds a player to the limits. It is the room's.
type limiter struct{ messages, bytes, signals *rate.Limiter }

func newLimiter(l Limits) *limiter {
	return &limiter{
		messages: rate.NewLimiter(rate.Limit(l.Messages), l.MessagesBurst),
		bytes:    rate.NewLimiter(rate.Limit(l.Bytes), l.BytesBurst),
		signals:  rate.NewLimiter(rate.Limit(l.Messages), l.MessagesBurst),
	}
}

// say takes a message of so many bytes into account. If it is one too many, it gives how long it would have to wait.
func (l *limiter) say(size int) (wait time.Duration) {
	now := time.Now()
	messages, bytes := l.messages.ReserveN(now, 1), l.bytes.ReserveN(now, size)
	wait = max(messages.DelayFrom(now), bytes.DelayFrom(now))
	if wait > 0 {
		messages.CancelAt(now)
		bytes.CancelAt(now)
	}
	return wait
}

// signal says whether one more signal is passed on.
func (l *limiter) signal() bool { return l.signals.Allow() }
