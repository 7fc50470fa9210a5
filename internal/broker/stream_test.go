package broker

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func TestOpenStream(t *testing.T) {
	t.Parallel()
	server := setup(t)
	conn, js, err := Connect(Config{NATS: server.URL(), NATSTimeout: time.Minute}, "test", nil, quiet())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	config := jetstream.StreamConfig{Name: "test", Subjects: []string{"test.>"}, MaxMsgsPerSubject: 5}
	for range 2 {
		stream, err := OpenStream(t.Context(), js, config)
		if err != nil || stream.CachedInfo().Config.AllowDirect {
			t.Fatalf("OpenStream: %v, %v", stream, err)
		}
	}
	direct := config
	direct.AllowDirect = true
	if _, err := OpenStream(t.Context(), js, direct); err == nil {
		t.Error("a stream was opened whose replicas all answer")
	}
	if _, err := js.UpdateStream(t.Context(), direct); err != nil {
		t.Fatal(err)
	}
	other := config
	other.MaxMsgsPerSubject = 6
	if _, err := OpenStream(t.Context(), js, other); !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		t.Errorf("OpenStream with other settings: %v, want ErrStreamNameAlreadyInUse", err)
	}
	if stream, err := js.Stream(t.Context(), "test"); err != nil || !stream.CachedInfo().Config.AllowDirect || stream.CachedInfo().Config.MaxMsgsPerSubject != 5 {
		t.Errorf("who has other settings has changed the stream: %v", err)
	}
	if stream, err := OpenStream(t.Context(), js, config); err != nil || stream.CachedInfo().Config.AllowDirect {
		t.Errorf("a stream whose replicas all answer was not put right: %v", err)
	}
}

// While a leader is elected, a read is sent again.
func TestReadIsSentAgain(t *testing.T) {
	t.Parallel()
	for _, leaderless := range []error{nats.ErrNoResponders, jetstream.ErrJetStreamNotEnabled, &jetstream.APIError{Code: 503}} {
		synctest.Test(t, func(t *testing.T) {
			asked := 0
			got, err := Read(t.Context(), func(ctx context.Context) (int, error) {
				asked++
				switch asked {
				case 1:
					<-ctx.Done() // nobody answers
					return 0, ctx.Err()
				case 2:
					return 0, leaderless
				}
				return 7, nil
			})
			if got != 7 || err != nil || asked != 3 {
				t.Errorf("Read = %d, %v after %d attempts; want 7 after 3", got, err, asked)
			}
		})
	}
}

func TestReadEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_, err := Read(t.Context(), func(context.Context) (int, error) { return 0, nats.ErrNoResponders })
		if !errors.Is(err, nats.ErrNoResponders) || time.Since(start) != readWithin {
			t.Errorf("Read that nobody answers: %v after %s", err, time.Since(start))
		}
		start = time.Now()
		if _, err := Read(t.Context(), func(context.Context) (int, error) { return 0, jetstream.ErrKeyNotFound }); !errors.Is(err, jetstream.ErrKeyNotFound) || time.Since(start) != 0 {
			t.Errorf("Read that is answered: %v after %s", err, time.Since(start))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := Read(ctx, func(ctx context.Context) (int, error) { return 0, ctx.Err() }); !errors.Is(err, context.Canceled) {
			t.Errorf("Read of who has gone away: %v", err)
		}
	})
}

// A write that meets another one on its way is sent again, and never told as one that lost.
func TestWriteMeetsAnother(t *testing.T) {
	t.Parallel()
	onItsWay := error(&jetstream.APIError{Code: 400, ErrorCode: jetstream.JSErrCodeStreamWrongLastSequenceConstant})
	lost := error(&jetstream.APIError{Code: 400, ErrorCode: jetstream.JSErrCodeStreamWrongLastSequence})
	synctest.Test(t, func(t *testing.T) {
		for _, last := range []error{nil, lost, nats.ErrTimeout} {
			sent := 0
			_, err := Write(t.Context(), func(context.Context) (int, error) {
				if sent++; sent < 5 {
					return 0, onItsWay
				}
				return sent, last
			})
			if !errors.Is(err, last) || sent != 5 {
				t.Errorf("Write: %v after %d attempts, want %v after 5", err, sent, last)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := Write(ctx, func(context.Context) (int, error) { return 0, onItsWay })
		if !errors.Is(err, context.DeadlineExceeded) || IsWrongSequence(err) {
			t.Errorf("Write that only ever meets another: %v, want that the outcome is not known", err)
		}
	})
	if !IsWrongSequence(lost) || IsWrongSequence(nats.ErrTimeout) || IsWrongSequence(nil) {
		t.Error("IsWrongSequence takes one error for another")
	}
}
