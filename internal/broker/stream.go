package broker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/guildhall-dev/guildhall/internal/process"
)

// OpenStream gives a stream, and makes it if it is not there. One that is there with other settings is left alone: it is
// [jetstream.ErrStreamNameAlreadyInUse].
//
// A stream must not allow direct gets. Every replica would answer them, also one that lags, and who reads an older claim
// or an older end of a log ends rooms that are well. Without them its leader alone answers. A stream of earlier days that
// differs in nothing else is put right: a service of those days reads again when it has been restarted.
func OpenStream(ctx context.Context, js jetstream.JetStream, config jetstream.StreamConfig) (jetstream.Stream, error) {
	if config.AllowDirect {
		return nil, fmt.Errorf("stream %s: direct gets are not from the leader", config.Name)
	}
	stream, err := js.CreateStream(ctx, config)
	if !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return stream, err
	}
	direct := config
	direct.AllowDirect = true
	if _, differs := js.CreateStream(ctx, direct); differs != nil { // NATS compares, who knows its own defaults
		return nil, err
	}
	return js.UpdateStream(ctx, config)
}

const (
	// readAttempt is how long a read waits for its answer before it is sent again: while a leader is elected, nobody
	// answers and nobody says so.
	readAttempt = time.Second
	// readWithin bounds a read whose context has no end.
	readWithin = 5 * time.Second
	// readPause is the rest before a read that was refused is sent again.
	readPause = 50 * time.Millisecond
)

// Read reads, and reads again while the stream has no leader to answer.
func Read[T any](ctx context.Context, read func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	for {
		attempt, end := context.WithTimeout(ctx, readAttempt)
		got, err := read(attempt)
		end()
		if !isLeaderless(err) || isOver(ctx) {
			return got, err
		}
		process.Sleep(ctx, readPause)
	}
}

// isOver says whether a context has ended, or is about to at this very instant: what else had the same deadline may have
// ended before it.
func isOver(ctx context.Context) bool {
	deadline, bounded := ctx.Deadline()
	return ctx.Err() != nil || bounded && !time.Now().Before(deadline)
}

// isLeaderless says whether a read failed because nobody answered it who could.
func isLeaderless(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrNoResponders) ||
		errors.Is(err, jetstream.ErrJetStreamNotEnabled) || // what the client library makes of no responders
		errors.As(err, &api) && api.Code == http.StatusServiceUnavailable
}

// IsWrongSequence says whether a write was refused because it names another revision or sequence than the last. In what
// [Write] gives, that is so; a single refusal may only say that something is on its way.
func IsWrongSequence(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// The rest before a write that met another is sent again: at first about as long as a majority takes to store a message,
// and twice as long each time.
const (
	writePause     = 500 * time.Microsecond
	writePauseMost = 50 * time.Millisecond
)

// Write writes behind an expected revision or sequence, and writes again while all that it is told is that another write
// of the same subject is on its way: a replicated stream refuses then without knowing how that one ends. It may be the
// caller's own, whose reply was lost, and it may come to nothing.
func Write[T any](ctx context.Context, write func(context.Context) (T, error)) (T, error) {
	for pause := writePause; ; pause = min(2*pause, writePauseMost) {
		wrote, err := write(ctx)
		if !isOnItsWay(err) {
			return wrote, err
		}
		process.Sleep(ctx, pause)
		if ctx.Err() != nil {
			return wrote, fmt.Errorf("another write was on its way: %w", ctx.Err()) // not that it was the last
		}
	}
}

// isOnItsWay says whether a write was refused because another one of its subject is not stored yet. NATS has a code of
// its own for that, which a stream on one node never uses.
func isOnItsWay(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant
}
