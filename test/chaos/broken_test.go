package chaos

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// echo is somebody behind a cable who says back what they hear.
func echo(t *testing.T) *cable {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := newCable("127.0.0.1:0", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				conn.Close()
			}()
		}
	}()
	t.Cleanup(func() {
		c.close()
		listener.Close()
		<-served
	})
	return c
}

func call(t *testing.T, c *cable) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", c.addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// refuses checks that a cable takes no connection, or resets it at once.
func refuses(t *testing.T, c *cable) {
	t.Helper()
	conn, err := net.Dial("tcp", c.addr())
	if err != nil {
		return // the reset may come before the caller knows that there was a connection
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection ends with %v, want a reset", err)
	}
}

func ask(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Errorf("asking: %v", err)
	}
}

// hear checks what arrives.
func hear(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		t.Errorf("heard %q, %v, want %q", got, err, want)
	}
}

// silence checks that nothing arrives and nothing is closed. It can see only what is there within a moment.
func silence(t *testing.T, conn net.Conn) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("heard %d bytes, %v, want silence", n, err)
	}
}

func TestCableCarries(t *testing.T) {
	t.Parallel()
	conn := call(t, echo(t))
	ask(t, conn, "hello")
	hear(t, conn, "hello")
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(conn); err != nil || len(rest) > 0 {
		t.Errorf("behind the end: %q, %v", rest, err)
	}
}

func TestCutCableResets(t *testing.T) {
	t.Parallel()
	c := echo(t)
	conn := call(t, c)
	ask(t, conn, "hello")
	hear(t, conn, "hello")
	c.set(cut)
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a connection that is cut ends with %v, want a reset", err)
	}
	refuses(t, c)
	c.set(whole)
	mended := call(t, c)
	ask(t, mended, "again")
	hear(t, mended, "again")
}

func TestFrozenCableHoldsBack(t *testing.T) {
	t.Parallel()
	c := echo(t)
	conn := call(t, c)
	ask(t, conn, "hello")
	hear(t, conn, "hello")
	c.set(frozen)
	ask(t, conn, "late")
	silence(t, conn)
	next := call(t, c)
	ask(t, next, "new")
	silence(t, next)
	c.set(whole)
	hear(t, conn, "late")
	hear(t, next, "new")
}

// The far side hears and answers, and nobody hears that: then the answer is lost.
func TestDeafCableLosesAnswers(t *testing.T) {
	t.Parallel()
	heard := make(chan byte, 1)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		question := make([]byte, 1)
		_, _ = io.ReadFull(conn, question)
		_, _ = conn.Write([]byte("answer"))
		heard <- question[0]
	}()
	c, err := newCable("127.0.0.1:0", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	conn := call(t, c)
	c.set(deaf)
	ask(t, conn, "?")
	if got := <-heard; got != '?' {
		t.Errorf("the far side heard %q", got)
	}
	silence(t, conn)
	c.set(cut)
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("heard %d bytes, %v, want nothing but the end", n, err)
	}
}

func TestCableToNobody(t *testing.T) {
	t.Parallel()
	c, err := newCable("127.0.0.1:0", "127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	refuses(t, c)
}

// Each kind has its turn, no target has two faults at once, and everything is mended in the end.
func TestInjectorTakesTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var broken, twice atomic.Int64
		fake := func(kind, target string) func(*town, *rand.Rand) *fault {
			return func(*town, *rand.Rand) *fault {
				return &fault{kind: kind, target: target, locks: []string{target}, apply: func(ctx context.Context) {
					if broken.Add(1) > 2 {
						twice.Add(1)
					}
					rest(ctx, 5*time.Second)
					broken.Add(-1)
				}}
			}
		}
		i := newInjector(nil, kinds{"a": fake("a", "x"), "b": fake("b", "x"), "c": fake("c", "y")}, 1, "", func(string, ...any) {})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		i.run(ctx, time.Second)
		counts := map[string]int{}
		for _, f := range i.all() {
			counts[f.Kind]++
		}
		if broken.Load() != 0 || twice.Load() != 0 {
			t.Errorf("%d are still broken; %d times a target had two faults", broken.Load(), twice.Load())
		}
		if counts["a"] < 3 || counts["b"] < 3 || counts["c"] < 6 {
			t.Errorf("injected %v: not everybody had a turn", counts)
		}
	})
}
