package load

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/internal/pass"
)

// Every message is due by the clock, however long the one before took.
func TestPaceKeepsTheSchedule(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		base := time.Now()
		var dues, times []time.Duration
		n := pace(t.Context(), base, time.Second, 10, 20, func(k int, due time.Duration) {
			dues, times = append(dues, due), append(times, time.Since(base))
			if k == 5 { // a stall of a second
				<-time.After(time.Second)
			}
		})
		if n != 20 || len(dues) != 20 {
			t.Fatalf("%d of 20 messages", n)
		}
		for k := range dues {
			want := time.Second + time.Duration(k)*100*time.Millisecond
			late := time.Duration(0)
			if k > 5 && k < 15 {
				late = 2500*time.Millisecond - want
			}
			if dues[k] != want || times[k] != want+late {
				t.Errorf("message %d was due at %s and said at %s; want %s, %s late", k, dues[k], times[k], want, late)
			}
		}
	})
}

func TestPaceEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 950*time.Millisecond)
		defer cancel()
		said := 0
		if n := pace(ctx, time.Now(), 0, 10, 1000, func(int, time.Duration) { said++ }); n != 10 || said != 10 {
			t.Errorf("%d messages, %d said, in 0.95 s at 10 a second", n, said)
		}
	})
}

func FuzzStamp(f *testing.F) {
	f.Add([]byte("hello"), uint32(1), int64(5))
	f.Add(stamp{run: 7, number: 9, due: 11}.body(120), uint32(7), int64(-1))
	f.Fuzz(func(t *testing.T, strange []byte, number uint32, due int64) {
		_, _ = readStamp(strange, 7)
		want := stamp{run: 7, number: number, due: time.Duration(due)}
		if got, ok := readStamp(want.body(len(strange)), 7); !ok || got != want {
			t.Errorf("%+v came back as %+v, %t", want, got, ok)
		}
		if _, ok := readStamp(want.body(0), 8); ok {
			t.Error("it was taken for one of another run")
		}
	})
}

func TestTimes(t *testing.T) {
	t.Parallel()
	if sumUpAll(nil, time.Second) != nil {
		t.Error("times of nothing")
	}
	to := newRecorders()
	a, b := batch{to: to, index: 1}, batch{to: to, index: 65}
	for ms := range 100 {
		a.add(time.Duration(ms) * time.Millisecond)
		b.add(time.Duration(ms) * time.Millisecond)
	}
	a.add(-time.Second)
	a.add(time.Hour)
	a.flush()
	b.flush()
	got := sumUp(to.merged(), time.Millisecond)
	if got.histogram.TotalCount() != 202 || got.P50 < 48 || got.P50 > 52 || got.Max < 599_000 || got.P95 < 94 || got.P95 > 97 {
		t.Errorf("they are %+v", got)
	}
}

func TestParseStat(t *testing.T) {
	t.Parallel()
	line := "42 (a ) strange (name) S 7 42 42 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 9 0 12345 100000000 1000 184467 1 1 0 0 0 0"
	got, err := parseStat([]byte(line))
	want := process{cpu: 2 * time.Second, rss: 1000 * int64(os.Getpagesize()), parent: 7, started: 12345}
	if err != nil || got != want {
		t.Errorf("it read %+v, %v; want %+v", got, err, want)
	}
	for _, bad := range []string{"", "1 (x) S 1", strings.Replace(line, ") S 7", ") Z 7", 1), strings.Replace(line, " 150 ", " many ", 1)} {
		if got, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("it read %+v from %q", got, bad)
		}
	}
}

func TestListeners(t *testing.T) {
	t.Parallel()
	table := `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1E61 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 11 1 0 100 0 0 10 0
   1: 0100007F:1E61 0100007F:9999 01 00000000:00000000 00:00000000 00000000  1000        0 12 1 0 20 4 30 10 -1
   2: 00000000:1E62 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 13 1 0 100 0 0 10 0
`
	if got := listeners(table, 0x1E61); !slices.Equal(got, []string{"11"}) {
		t.Errorf("at the port listen %v", got)
	}
}

// A pid alone is nobody: on another machine, or later, it is another's.
func TestListens(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat(procFolder + "/self/net/tcp"); err != nil {
		t.Skip("this system does not tell of its processes")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if !listensAt(int64(os.Getpid()), port) {
		t.Error("this process does not listen where it does")
	}
	if listensAt(int64(os.Getppid()), port) || listensAt(0, port) || listensAt(1<<30, port) {
		t.Error("another process listens there")
	}
}

func TestSignTokens(t *testing.T) {
	t.Parallel()
	key, err := pass.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	private, public := filepath.Join(folder, "key.pem"), filepath.Join(folder, "key.pub.pem")
	if err := pass.SaveKeyPair(key, private, public); err != nil {
		t.Fatal(err)
	}
	tokens, err := SignTokens(private)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := pass.LoadPublicKeys(public)
	if err != nil {
		t.Fatal(err)
	}
	group := guildhall.Group{Kind: "guild", ID: "a"}
	signed, err := tokens(t.Context(), "p1", group)
	if err != nil {
		t.Fatal(err)
	}
	if token, err := pass.ReadToken(keys, signed); err != nil || token.Player != "p1" || !token.Names(group) {
		t.Errorf("the token is %+v, %v", token, err)
	}
	if _, err := SignTokens(public); err == nil {
		t.Error("a public key was taken to sign with")
	}
}

// The pages of results with nothing in them, and with much, can be drawn.
func TestReportsOfEveryKind(t *testing.T) {
	t.Parallel()
	much := 1e7
	bytes := int64(5 << 20)
	usage := Usage{ServerCPUSeconds: &much, StackCPUSeconds: &much, ServerRSSBytes: &bytes}
	series := []Sample{{Second: 1, Deliveries: 4e5, ServerCores: &much, ClientCores: 0.5}, {Second: 2}}
	times := sumUpAll([]time.Duration{time.Millisecond, time.Minute}, time.Second)
	for _, result := range []Result{
		&StormResult{Usage: Usage{WhyNot: "it is <far> & away"}}, &StormResult{Usage: usage, Series: series, SeatMS: times, Failed: 3, FirstError: "no"},
		&FanoutResult{Usage: usage}, &FanoutResult{Usage: usage, Series: series, LatencyMS: times, Missing: 1, Resumes: 1234567, Signals: true},
		&ChurnResult{Usage: usage}, &ChurnResult{Usage: usage, Series: series, RecoverySeconds: times, HostsKilled: 1, Lost: 1},
		&IdleResult{Usage: usage}, &IdleResult{Usage: usage, RSSBytesPerConnection: &much, RSSBefore: &bytes, RSSAfter: &bytes, Lost: 1},
	} {
		checkShown(t, result)
	}
	if got := thousands(-1234567) + " " + thousands(12); got != "-1,234,567 12" {
		t.Errorf("counts look like %s", got)
	}
}
