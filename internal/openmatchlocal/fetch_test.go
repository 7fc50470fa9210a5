package openmatchlocal

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"open-match.dev/open-match/pkg/pb"
)

// long is a wait that no test sits through: what is to end it must.
const long = 10 * patience

func wantMatch(t *testing.T, f fetched, tickets ...*pb.Ticket) {
	t.Helper()
	if f.err != nil || len(f.matches) != 1 {
		t.Fatalf("fetched %d matches, error %v, want one match", len(f.matches), f.err)
	}
	got := f.matches[0].GetTickets()
	if len(got) != len(tickets) {
		t.Fatalf("matched %d tickets, want %d", len(got), len(tickets))
	}
	for i := range got {
		if got[i].GetId() != tickets[i].GetId() {
			t.Errorf("ticket %d is %s, want %s", i, got[i].GetId(), tickets[i].GetId())
		}
	}
}

func TestFetchThatFindsNothingWaitsAndEnds(t *testing.T) {
	t.Parallel()
	const wait = 30 * time.Millisecond
	w := startWire(t, Config{FetchWait: wait})
	f := startFunction(t, func(ranFunction) error { return nil })
	started := time.Now()
	got := w.fetch(testContext(t), f.config, profileOf("a"))
	if got.err != nil || len(got.matches) > 0 {
		t.Errorf("fetched %v, want a clean end", got)
	}
	if took := time.Since(started); took < wait {
		t.Errorf("it ended after %v, want %v or more", took, wait)
	}
	if runs := len(f.runs); runs != 1 {
		t.Errorf("the match function ran %d times, want once", runs)
	}
}

func TestFetchTakesWhatIsThereAtOnce(t *testing.T) {
	t.Parallel()
	w := startWire(t, Config{FetchWait: long})
	a, b := file(w.store, "a"), file(w.store, "a")
	f := startFunction(t, func(r ranFunction) error { return proposeAvailable(w.store, r) })
	wantMatch(t, w.fetch(testContext(t), f.config, profileOf("a")), a, b)
	wantCensus(t, w.store, census{pending: 2})
}

// What wakes a fetch that has found nothing.
func TestWaitingFetchIsWoken(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		pending time.Duration
		wake    func(w *wire, taken *pb.Ticket) *pb.Ticket // gives the ticket to be matched
	}{
		{"by a ticket", long, func(w *wire, _ *pb.Ticket) *pb.Ticket { return file(w.store, "a") }},
		{"by a release", long, func(w *wire, taken *pb.Ticket) *pb.Ticket {
			w.store.release([]ticketID{idOf(taken)})
			return taken
		}},
		{"by the pending timeout", 300 * time.Millisecond, func(_ *wire, taken *pb.Ticket) *pb.Ticket { return taken }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := startWire(t, Config{FetchWait: long, PendingReleaseTimeout: test.pending})
			f := startFunction(t, func(r ranFunction) error { return proposeAvailable(w.store, r) })
			taken := file(w.store, "a")
			accepts(t, w.store, proposal("taken", taken))
			result := w.goFetch(testContext(t), f.config, profileOf("a"))
			<-f.runs
			want := test.wake(w, taken)
			wantMatch(t, <-result, want)
		})
	}
}

// A ticket of another pool costs no run.
func TestWaitingFetchSleepsThroughOtherPools(t *testing.T) {
	t.Parallel()
	w := startWire(t, Config{FetchWait: long})
	f := startFunction(t, func(r ranFunction) error {
		if r.number == 1 {
			return nil
		}
		return proposeAvailable(w.store, r)
	})
	result := w.goFetch(testContext(t), f.config, profileOf("a"))
	<-f.runs
	other := file(w.store, "b")
	mine := file(w.store, "a")
	wantMatch(t, <-result, other, mine)
	if runs := len(f.runs); runs != 1 {
		t.Errorf("it ran %d times after the first, want once", runs)
	}
}

// A proposal that loses its ticket to another director while the match function runs is tried again without
// waiting: what is left of it could match.
func TestOutrunFetchRunsAgain(t *testing.T) {
	t.Parallel()
	w := startWire(t, Config{FetchWait: long})
	lost, left := file(w.store, "a"), file(w.store, "a")
	f := startFunction(t, func(r ranFunction) error {
		if r.number > 1 {
			return proposeAvailable(w.store, r)
		}
		w.store.assign([]ticketID{idOf(lost)}, &pb.Assignment{Connection: "x:1"})
		return r.propose(proposal("stale", lost, left))
	})
	wantMatch(t, w.fetch(testContext(t), f.config, profileOf("a")), left)
}

// A match function that proposes the unavailable for ever is not run in a circle.
func TestBlindFunctionIsRunOnce(t *testing.T) {
	t.Parallel()
	w := startWire(t, Config{FetchWait: 50 * time.Millisecond})
	taken := file(w.store, "a")
	accepts(t, w.store, proposal("taken", taken))
	f := startFunction(t, func(r ranFunction) error { return r.propose(proposal("blind", taken)) })
	got := w.fetch(testContext(t), f.config, profileOf("a"))
	if got.err != nil || len(got.matches) > 0 {
		t.Errorf("fetched %v, want a clean end", got)
	}
	if runs := len(f.runs); runs != 1 {
		t.Errorf("it ran %d times, want once", runs)
	}
}

// What was proposed inside the window counts; the error tells of the rest.
func TestFunctionThatRunsTooLong(t *testing.T) {
	t.Parallel()
	// A busy machine may need a longer window for a proposal to come inside it.
	for window := 300 * time.Millisecond; ; window *= 4 {
		w := startWire(t, Config{ProposalCollectionInterval: window})
		ticket := file(w.store, "a")
		f := startFunction(t, func(r ranFunction) error {
			if err := proposeAvailable(w.store, r); err != nil {
				return err
			}
			<-r.ctx.Done()
			return r.ctx.Err()
		})
		got := w.fetch(testContext(t), f.config, profileOf("a"))
		if status.Code(got.err) != codes.Unknown || !strings.Contains(got.err.Error(), "longer than proposal window") {
			t.Fatalf("error %v, want Unknown, because of the window", got.err)
		}
		if len(got.matches) == 0 && window < patience/4 {
			continue
		}
		got.err = nil
		wantMatch(t, got, ticket)
		return
	}
}

func TestFunctionsThatCannotBeCalled(t *testing.T) {
	t.Parallel()
	w := startWire(t, Config{})
	for _, test := range []struct {
		config *pb.FunctionConfig
		want   string
	}{
		{&pb.FunctionConfig{Host: "127.0.0.1", Port: 1, Type: pb.FunctionConfig_REST}, "type is not supported"},
		{&pb.FunctionConfig{Host: "127.0.0.1", Port: 1}, "Unavailable"},
		{&pb.FunctionConfig{Host: "\x7f", Port: 1}, "failed to establish grpc client connection"},
	} {
		got := w.fetch(testContext(t), test.config, profileOf("a"))
		if status.Code(got.err) != codes.Unknown || !strings.Contains(got.err.Error(), test.want) {
			t.Errorf("%v: %v, want Unknown with %q", test.config, got.err, test.want)
		}
	}
}

// A caller who has gone while the match function ran costs no ticket.
func TestFetchOfALostCallerTakesNothing(t *testing.T) {
	t.Parallel()
	w := startWire(t, Config{})
	ticket := file(w.store, "a")
	f := startFunction(t, func(r ranFunction) error {
		<-r.ctx.Done()
		return nil
	})
	ctx, cancel := context.WithCancel(testContext(t))
	result := w.goFetch(ctx, f.config, profileOf("a"))
	<-f.runs
	cancel()
	if got := <-result; status.Code(got.err) != codes.Canceled {
		t.Errorf("fetched %v, want Canceled", got)
	}
	if err := w.stop(); err != nil { // waits for the call to end here, too
		t.Fatal(err)
	}
	wantPools(t, w.store, ticket)
}

func TestOneConnectionForEachFunction(t *testing.T) {
	t.Parallel()
	w := startWire(t, Config{FetchWait: time.Millisecond})
	one := startFunction(t, func(ranFunction) error { return nil })
	two := startFunction(t, func(ranFunction) error { return nil })
	for range 3 {
		w.fetch(testContext(t), one.config, profileOf("a"))
		w.fetch(testContext(t), two.config, profileOf("a"))
	}
	if n := len(w.functions.connections); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	if n := len(w.functions.connections); n != 0 {
		t.Errorf("%d connections after the stop, want none", n)
	}
}
