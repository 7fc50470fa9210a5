package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

const (
	// signalsMost bounds the signals that wait for the connection; beyond it the oldest is dropped.
	signalsMost = 64
	// What the contract takes, in bytes and players.
	topicMost, contentTypeMost, recipientsMost = 64, 128, 16
)

// pendingSignal waits for the connection.
type pendingSignal struct {
	about  string // a later one about the same takes its place
	signal *guildhallv1.Signal
}

// Signal tells something for the moment: that the player types, moves, waves. It does not wait: without a seat the signal
// is dropped, and while the connection is behind, only the latest about a topic (and to the same players) is kept. That
// is no error. What can never be sent is: then it tells what is wrong, a [*RefusedError] for a body beyond the room's
// limit; [ErrLeft] means that the room has ended. The caller must not change the signal any more. Signal.from is the
// room's.
func (r *Room) Signal(ctx context.Context, signal *guildhallv1.Signal) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := checkSignal(signal); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.leaving:
		return ErrLeft
	case r.seat == nil:
		return nil
	case r.seat.isTooLong(signal.GetBody(), signal.GetText()):
		return &RefusedError{Code: guildhallv1.RefuseCode_REFUSE_CODE_BODY_TOO_LARGE, Reason: "the signal is too long"}
	}
	r.addSignalLocked(signal)
	r.sendLocked()
	return nil
}

func checkSignal(signal *guildhallv1.Signal) error {
	switch {
	case !isText(signal.GetTopic(), signal.GetContentType(), signal.GetText(), signal.GetFrom()) || !isText(signal.GetTo()...):
		return errors.New("client: the topic, the content type, the text and the recipients must be UTF-8")
	case len(signal.GetTopic()) > topicMost:
		return fmt.Errorf("client: the topic has %d bytes, at most %d are taken", len(signal.GetTopic()), topicMost)
	case len(signal.GetContentType()) > contentTypeMost:
		return fmt.Errorf("client: the content type has %d bytes, at most %d are taken", len(signal.GetContentType()), contentTypeMost)
	case len(signal.GetTo()) > recipientsMost:
		return fmt.Errorf("client: the signal has %d recipients, at most %d are taken", len(signal.GetTo()), recipientsMost)
	case len(signal.GetBody()) > 0 && signal.GetText() != "":
		return errors.New("client: a signal has a body or a text, not both")
	}
	return nil
}

// addSignalLocked adds a signal in the place of an earlier one about the same. The caller holds mu.
func (r *Room) addSignalLocked(signal *guildhallv1.Signal) {
	about := signal.GetTopic()
	if len(signal.GetTo()) > 0 {
		about += "\x00" + strings.Join(signal.GetTo(), "\x00")
	}
	for i, pending := range r.signals {
		if pending.about == about {
			r.signals[i].signal = signal
			return
		}
	}
	if len(r.signals) == signalsMost {
		r.signals = slices.Delete(r.signals, 0, 1)
	}
	r.signals = append(r.signals, pendingSignal{about: about, signal: signal})
}
