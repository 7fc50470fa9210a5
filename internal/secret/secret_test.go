package secret

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/guildhall-dev/guildhall/internal/certtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// word is a secret that may be shown.
type word string

func (w word) LogValue() slog.Value { return slog.StringValue("shown-" + string(w)) }

// bundle follows one file of a volume.
type bundle struct {
	t       *testing.T
	volume  *certtest.Volume
	value   *Value[word]
	metrics *prometheus.Registry
	log     *bytes.Buffer
	read    int // how often the file was parsed
}

// inBubble runs a test in a bubble of time, with the file "key" followed. What it holds must begin with "good".
func inBubble(t *testing.T, test func(b *bundle)) {
	t.Helper()
	volume := certtest.Mount(t, key("good one"))
	synctest.Test(t, func(t *testing.T) {
		b := &bundle{t: t, volume: volume, metrics: prometheus.NewRegistry(), log: &bytes.Buffer{}}
		files := New(slog.New(slog.NewTextHandler(b.log, nil)), b.metrics)
		var err error
		b.value, err = Follow(files, "key", func() (word, error) {
			b.read++
			text, err := os.ReadFile(volume.Path("key"))
			if err == nil && !bytes.HasPrefix(text, []byte("good")) {
				err = errors.New("it is not good")
			}
			return word(text), err
		}, volume.Path("key"))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() {
			if err := files.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		test(b)
		cancel()
		running.Wait()
	})
}

func key(text string) map[string][]byte { return map[string][]byte{"key": []byte(text)} }

// pass lets time pass, in which the files are looked at.
func (b *bundle) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (b *bundle) is(want word) {
	b.t.Helper()
	if got := b.value.Now(); got != want {
		b.t.Errorf("the value is %q, want %q", got, want)
	}
}

func (b *bundle) counted(outcome string) float64 {
	b.t.Helper()
	families, err := b.metrics.Gather()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, m := range families[0].GetMetric() {
		if m.GetLabel()[0].GetValue() == outcome {
			return m.GetCounter().GetValue()
		}
	}
	b.t.Fatalf("nothing counts %s", outcome)
	return 0
}

func TestAReplacedFileIsRead(t *testing.T) {
	t.Parallel()
	inBubble(t, func(b *bundle) {
		b.volume.Swap(key("good two"))
		b.is("good one") // not looked at yet
		b.pass(Period)
		b.is("good two")
		if n := b.counted("replaced"); n != 1 {
			t.Errorf("%v replacements are counted, want 1", n)
		}
		if !strings.Contains(b.log.String(), "shown-good two") {
			t.Errorf("what is there now is not told: %s", b.log)
		}
	})
}

// Thousands of calls a second read no file, and a file that has not changed is not parsed.
func TestNowReadsNothing(t *testing.T) {
	t.Parallel()
	inBubble(t, func(b *bundle) {
		b.pass(100 * Period)
		if b.read != 1 {
			t.Errorf("a file that nobody touched was parsed %d times", b.read)
		}
		if err := os.RemoveAll(b.volume.Path("..data")); err != nil {
			t.Fatal(err)
		}
		b.is("good one")
	})
}

func TestReadDoesNotWait(t *testing.T) {
	t.Parallel()
	inBubble(t, func(b *bundle) {
		b.volume.Swap(key("good two"))
		if got := b.value.Read(); got != "good two" {
			t.Errorf("Read gives %q", got)
		}
		b.is("good two")
	})
}

// What is broken leaves what there was, is counted each time, told once, and is over with the next.
func TestABrokenFile(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]map[string][]byte{"gone": {}, "bad": key("bad")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(b *bundle) {
				b.volume.Swap(broken)
				b.pass(3 * Period)
				b.is("good one")
				if n := b.counted("failed"); n != 3 {
					t.Errorf("%v failures are counted in 3 looks", n)
				}
				if n := strings.Count(b.log.String(), "cannot be read"); n != 1 || !strings.Contains(b.log.String(), "what=key") {
					t.Errorf("told %d times, want once, with its name: %s", n, b.log)
				}
				b.volume.Swap(key("good one"))
				b.pass(Period)
				if n := b.counted("replaced"); n != 0 {
					t.Errorf("what came back is counted as %v replacements", n)
				}
				b.volume.Swap(broken)
				b.pass(Period)
				b.volume.Swap(key("good two"))
				b.pass(Period)
				b.is("good two")
				if n := strings.Count(b.log.String(), "can be read again"); n != 2 {
					t.Errorf("that it is over is told %d times, want twice: %s", n, b.log)
				}
				if strings.Contains(b.log.String(), "level=INFO msg=\"a secret was replaced\" what=key now=\"shown-good one\"") {
					t.Errorf("told as replaced: %s", b.log)
				}
			})
		})
	}
}

// A value that does not say what of it may be shown is not shown.
func TestASecretIsNotLogged(t *testing.T) {
	t.Parallel()
	volume := certtest.Mount(t, key("one"))
	var log bytes.Buffer
	value, err := Follow(New(slog.New(slog.NewTextHandler(&log, nil)), nil), "key", func() (string, error) {
		text, err := os.ReadFile(volume.Path("key"))
		return string(text), err
	}, volume.Path("key"))
	if err != nil {
		t.Fatal(err)
	}
	volume.Swap(key("hush"))
	if got := value.Read(); got != "hush" || strings.Contains(log.String(), "hush") || !strings.Contains(log.String(), "replaced") {
		t.Errorf("%q is logged as %s", got, &log)
	}
}

func TestTheFirstReadingMustSucceed(t *testing.T) {
	t.Parallel()
	if _, err := Follow(New(nil, nil), "key", func() (word, error) { return "", os.ErrNotExist }, "/does/not/exist"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Follow: %v", err)
	}
}
