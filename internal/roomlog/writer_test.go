package roomlog

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/guildhall-dev/guildhall"
)

func TestGroupWithoutLog(t *testing.T) {
	t.Parallel()
	b := setup(t)
	writer, messages := b.open(1)
	if len(messages) != 0 || writer.LastSeq() != 0 {
		t.Errorf("a new log has %d messages up to number %d", len(messages), writer.LastSeq())
	}
	_, messages = b.open(2) // now there is a barrier and nothing else
	b.checkIDs("a log of barriers", messages)
}

func TestNumbersHaveNoGaps(t *testing.T) {
	t.Parallel()
	b := setup(t)
	number := 0
	for epoch := range guildhall.Epoch(4) {
		writer, messages := b.open(10 + epoch/2) // every epoch is opened twice
		if len(messages) != number || int(writer.LastSeq()) != number {
			t.Fatalf("opening %d gives %d messages up to number %d, want %d", epoch, len(messages), writer.LastSeq(), number)
		}
		for entry := range 5 {
			batch := said("a", "b", "c", "d", "e")[:entry+1]
			if err := writer.Append(b.ctx, batch); err != nil {
				t.Fatal(err)
			}
			for _, m := range batch {
				number++
				if m.Seq != uint64(number) {
					t.Errorf("Append gave number %d, want %d", m.Seq, number)
				}
			}
		}
	}
	if got := len(b.checkEntries()); got != number {
		t.Errorf("the log has %d messages, want %d", got, number)
	}
}

func TestOlderWriterIsFenced(t *testing.T) {
	t.Parallel()
	b := setup(t)
	old, _ := b.open(1)
	b.say(old, "1", "2")
	young, messages := b.open(2)
	b.checkIDs("what the younger reads", messages, "1", "2")
	for range 2 { // it is final
		if err := old.Append(b.ctx, said("lost")); !errors.Is(err, ErrFenced) {
			t.Errorf("Append behind a barrier: %v, want ErrFenced", err)
		}
	}
	b.say(young, "3")
	if err := old.Append(b.ctx, said("lost")); !errors.Is(err, ErrFenced) {
		t.Errorf("Append behind a younger message: %v, want ErrFenced", err)
	}
	b.checkIDs("the log", b.checkEntries(), "1", "2", "3")
}

func TestOlderEpochCannotOpen(t *testing.T) {
	t.Parallel()
	b := setup(t)
	young, _ := b.open(7)
	for epoch := range guildhall.Epoch(7) {
		if _, _, err := b.Open(b.ctx, dragons, epoch); !errors.Is(err, ErrFenced) {
			t.Errorf("Open at epoch %d under 7: %v, want ErrFenced", epoch, err)
		}
	}
	b.say(young, "1")
	if entries := b.entries(); len(entries) != 2 {
		t.Errorf("the log has %d entries: those who were refused left something", len(entries))
	}
}

func TestGroupsDoNotTouchOneAnother(t *testing.T) {
	t.Parallel()
	b := setup(t)
	mine, _ := b.open(1)
	for i, id := range []string{"dragon", "dragons2", "drag.ons", "*", ">", "Dragons"} {
		other, messages, err := b.Open(b.ctx, guildhall.Group{Kind: "guild", ID: id}, guildhall.Epoch(50+i))
		if err != nil || len(messages) != 0 {
			t.Fatalf("Open of group %s: %d messages, %v", id, len(messages), err)
		}
		b.say(other, "other")
		b.say(mine, "mine")
	}
	_, messages := b.open(1)
	b.checkIDs("dragons", messages, "mine", "mine", "mine", "mine", "mine", "mine")
}

// An append whose reply was lost is in the log and the writer does not know. A copy of the writer makes it: what it
// appends, the writer has not seen.
func TestAppendAgainSaysItOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	writer, _ := b.open(1)
	b.say(writer, "1")
	lost := *writer
	b.say(&lost, "2", "3")
	b.say(writer, "2", "3")
	if writer.LastSeq() != 3 {
		t.Errorf("LastSeq = %d, want 3", writer.LastSeq())
	}
	b.say(writer, "4")
	b.checkIDs("the log", b.checkEntries(), "1", "2", "3", "4")
}

func TestAppendAgainAfterItWasNotSent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	writer, _ := b.open(1)
	gone, cancel := context.WithCancel(b.ctx)
	cancel()
	batch := said("1", "2")
	for range 3 {
		if err := writer.Append(gone, batch); err == nil || errors.Is(err, ErrFenced) {
			t.Fatalf("Append without an answer: %v, want an error that is not final", err)
		}
	}
	if err := writer.Append(b.ctx, batch); err != nil {
		t.Fatal(err)
	}
	b.checkIDs("the log", b.checkEntries(), "1", "2")
	if writer.LastSeq() != 2 {
		t.Errorf("LastSeq = %d, want 2", writer.LastSeq())
	}
}

// A lost reply may turn out to have been the last word of a writer that is fenced by now.
func TestAppendAgainBehindBarrierIsFenced(t *testing.T) {
	t.Parallel()
	b := setup(t)
	old, _ := b.open(1)
	lost := *old
	b.say(&lost, "1")
	_, messages := b.open(2)
	b.checkIDs("what the younger reads", messages, "1")
	if err := old.Append(b.ctx, said("1")); !errors.Is(err, ErrFenced) {
		t.Errorf("Append: %v, want ErrFenced", err)
	}
	b.checkIDs("the log", b.checkEntries(), "1")
}

// Two writers of one epoch must not be. If they are, neither may take the other's entry for its own.
func TestEntryOfAnotherIsNotTakenForItsOwn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first, _ := b.open(1)
	second := *first
	b.say(&second, "second")
	if err := first.Append(b.ctx, said("first")); err == nil {
		t.Error("Append says that a message is durable that is not in the log")
	}
	b.checkIDs("the log", b.checkEntries(), "second")
}

func TestOldWriterOfSameEpochCannotAppend(t *testing.T) {
	t.Parallel()
	b := setup(t)
	old, _ := b.open(1)
	young, _ := b.open(1)
	if err := old.Append(b.ctx, said("lost")); err == nil {
		t.Error("a writer appends behind the barrier of another of its epoch")
	}
	b.say(young, "1")
	b.checkIDs("the log", b.checkEntries(), "1")
}

func TestReadingLeavesNoConsumer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	writer, _ := b.open(1)
	b.say(writer, "1")
	for range 20 {
		b.open(1)
	}
	for left := 1; left > 0; { // NATS drops them by itself
		info, err := b.stream().Info(b.ctx)
		if err != nil {
			t.Fatalf("20 readings left %d consumers in NATS: %v", left, err)
		}
		left = info.State.Consumers
	}
}

// A group that is visited often and speaks seldom keeps what was said: barriers do not crowd it out.
func TestVisitsDoNotEraseTheLog(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w, _ := b.open(1)
	for n := range 10 {
		b.say(w, fmt.Sprint("m", n))
	}
	for range 50 {
		b.open(2)
	}
	if entries := b.entries(); len(entries) != 12 { // a barrier, ten messages, and the last barrier
		t.Errorf("50 visits left %d entries, want 12", len(entries))
	}
	if _, messages := b.open(3); len(messages) != 10 {
		t.Errorf("10 messages were said, %d are left", len(messages))
	}
}
