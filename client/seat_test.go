package client

import (
	"fmt"
	"slices"
	"testing"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// behind gives a room whose sender is at work, so that everything waits.
func behind() *Room { return &Room{seat: &seat{sending: true}} }

// waiting takes all that waits, in the order in which it would be sent.
func (r *Room) waiting() (out []string) {
	for {
		switch frame := r.next(r.seat).GetFrame().(type) {
		case *guildhallv1.JoinRequest_Signal:
			out = append(out, fmt.Sprintf("%s=%s", frame.Signal.GetTopic(), frame.Signal.GetText()))
		case *guildhallv1.JoinRequest_Say:
			out = append(out, "say "+frame.Say.GetId())
		case *guildhallv1.JoinRequest_ReadHistory:
			out = append(out, fmt.Sprint("history ", frame.ReadHistory.GetBefore()))
		case *guildhallv1.JoinRequest_Leave:
			out = append(out, "leave")
		default:
			r.seat.sending = true // stay behind
			return out
		}
	}
}

func (r *Room) mustSignal(t *testing.T, topic, text string, to ...string) {
	t.Helper()
	if err := r.Signal(t.Context(), &guildhallv1.Signal{Topic: topic, Text: text, To: to}); err != nil {
		t.Fatal(err)
	}
}

// While the connection is behind, the latest about a topic takes the place of the earlier ones; to whom it goes counts.
func TestTheLatestSignalWins(t *testing.T) {
	t.Parallel()
	r := behind()
	r.mustSignal(t, "x", "1")
	r.mustSignal(t, "y", "1")
	r.mustSignal(t, "x", "2", "p2")
	r.mustSignal(t, "x", "3")
	r.mustSignal(t, "x", "4", "p2")
	r.mustSignal(t, "x", "5", "p2", "p3")
	if got, want := r.waiting(), []string{"x=3", "y=1", "x=4", "x=5"}; !slices.Equal(got, want) {
		t.Errorf("there waits %q, want %q", got, want)
	}
}

// What waits is bounded: the oldest goes.
func TestSignalsAreBounded(t *testing.T) {
	t.Parallel()
	r := behind()
	for n := range 10 * signalsMost {
		r.mustSignal(t, fmt.Sprint(n), "")
	}
	got := r.waiting()
	if len(got) != signalsMost || got[0] != fmt.Sprintf("%d=", 9*signalsMost) {
		t.Errorf("%d signals wait, the first is %s", len(got), got[0])
	}
}

// Signals overtake what is said, and do not keep it from being said.
func TestTheOrderOfWhatIsSent(t *testing.T) {
	t.Parallel()
	r := behind()
	for n := range 3 {
		if _, err := r.SayAs(t.Context(), &guildhallv1.Say{Id: fmt.Sprint(n)}); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 5 {
		r.mustSignal(t, fmt.Sprint("t", n), "")
	}
	r.asked = []*question{{before: 7}, {before: 8}} // the second one waits for the answer to the first
	r.leaving = true                                // waits for the acks
	want := []string{"history 7", "t0=", "say 0", "t1=", "say 1", "t2=", "say 2", "t3=", "t4="}
	if got := r.waiting(); !slices.Equal(got, want) {
		t.Errorf("it is sent as %q, want %q", got, want)
	}
	for n := range 3 {
		r.answer(fmt.Sprint(n), 1, nil)
	}
	if got := r.waiting(); !slices.Equal(got, []string{"leave"}) {
		t.Errorf("behind the acks it is sent as %q, want that it leaves", got)
	}
	if got := r.waiting(); got != nil {
		t.Errorf("behind the leave it is sent as %q", got)
	}
}

// A seat that was given back sends nothing: the next one says it all again.
func TestASeatThatWasGivenBack(t *testing.T) {
	t.Parallel()
	r := behind()
	first := r.seat
	if _, err := r.SayAs(t.Context(), &guildhallv1.Say{Id: "a"}); err != nil {
		t.Fatal(err)
	}
	r.mustSignal(t, "x", "")
	r.giveBack(first)
	if frame := r.next(first); frame != nil {
		t.Errorf("it sends %v", frame)
	}
	r.take(&seat{sending: true})
	if got := r.waiting(); !slices.Equal(got, []string{"say a"}) {
		t.Errorf("the next one sends %q: what was for the moment is over", got)
	}
}
