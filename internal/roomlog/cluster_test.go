package roomlog

import (
	"errors"
	"sync"
	"testing"
)

// An append is tried again while the first attempt is still on its way, as after a timeout: a replicated stream refuses the
// second without knowing how the first ends. That is no sign of a broken log.
func TestAppendAgainWhileTheFirstIsOnItsWay(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *bench) {
		writer, _ := b.open(1)
		var want []string
		for n := range 100 {
			id := string(rune('a'+n/26)) + string(rune('a'+n%26))
			want = append(want, id)
			var attempts sync.WaitGroup
			for range 3 {
				attempt := *writer
				attempts.Go(func() {
					if err := attempt.Append(b.ctx, said(id)); err != nil {
						t.Errorf("Append(%s): %v", id, err)
					}
				})
			}
			attempts.Wait()
			b.say(writer, id) // it learns what the attempts did
		}
		b.checkIDs("the log", b.checkEntries(), want...)
	})
}

// A leader that has been deposed and does not know answers with a log that ends before this writer's last entry. That is
// not final: the writer goes on when the new leader answers.
func TestLogThatEndsBeforeItsWriter(t *testing.T) {
	t.Parallel()
	b := setup(t)
	writer, _ := b.open(1)
	b.say(writer, "1")
	ahead := *writer
	ahead.sequence += 5 // as if it had appended there
	for range 3 {
		err := ahead.Append(b.ctx, said("2"))
		if err == nil || errors.Is(err, ErrBroken) || errors.Is(err, ErrFenced) {
			t.Fatalf("Append by who knows more than the log: %v, want an error that is not final", err)
		}
	}
	ahead.sequence -= 5 // now the new leader answers
	b.say(&ahead, "2")
	if !ahead.shortSince.IsZero() {
		t.Error("the writer does not see that the log is in order")
	}
	ahead.sequence += 5
	for {
		ahead.shortSince = ahead.shortSince.Add(-shortMost) // time passes, and it stays so
		err := ahead.Append(b.ctx, said("3"))
		if errors.Is(err, ErrBroken) {
			break
		}
		if b.ctx.Err() != nil {
			t.Fatalf("Append to a log that was restored as it was before: %v, want ErrBroken", err)
		}
	}
	b.checkIDs("the log", b.checkEntries(), "1", "2")
}
