//go:build unix

package socket

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair gives both ends of a TCP connection; one is quiet.
func pair(t testing.TB) (quiet net.Conn, other *net.TCPConn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dialed, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		dialed.Close()
		accepted.Close()
	})
	return Quiet(dialed), accepted.(*net.TCPConn)
}

// What is written arrives, whole and in order, whatever the kernel takes at once, also in both directions at the same time.
func TestWhatIsWrittenArrives(t *testing.T) {
	t.Parallel()
	quiet, other := pair(t)
	sent := make([]byte, 16<<20) // more than a socket's buffers hold
	for i := range sent {
		sent[i] = byte(rand.Uint32())
	}
	var ends sync.WaitGroup
	for _, end := range []net.Conn{quiet, other} {
		ends.Go(func() {
			if n, err := end.Write(sent); err != nil || n != len(sent) {
				t.Errorf("%T wrote %d bytes of %d: %v", end, n, len(sent), err)
			}
			if err := end.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				t.Error(err)
			}
		})
		ends.Go(func() {
			got, err := io.ReadAll(end)
			if err != nil || !bytes.Equal(got, sent) {
				t.Errorf("%T read %d bytes of %d: %v", end, len(got), len(sent), err)
			}
		})
	}
	ends.Wait()
}

// Two who write at once do not write into one another.
func TestWritersTakeTurns(t *testing.T) {
	t.Parallel()
	quiet, other := pair(t)
	const size, writers = 4 << 20, 2
	var writing sync.WaitGroup
	for i := range writers {
		writing.Go(func() {
			if _, err := quiet.Write(bytes.Repeat([]byte{byte('a' + i)}, size)); err != nil {
				t.Error(err)
			}
		})
	}
	got := make([]byte, writers*size)
	if _, err := io.ReadFull(other, got); err != nil {
		t.Fatal(err)
	}
	for part := range writers {
		if first := got[part*size]; !bytes.Equal(got[part*size:(part+1)*size], bytes.Repeat([]byte{first}, size)) {
			t.Errorf("part %d is of both writers", part)
		}
	}
	writing.Wait()
}

// A deadline ends the wait, and a later one lets it go on.
func TestDeadlines(t *testing.T) {
	t.Parallel()
	quiet, other := pair(t)
	past := time.Now().Add(-time.Second)
	if err := quiet.SetDeadline(past); err != nil {
		t.Fatal(err)
	}
	var timeout net.Error
	if _, err := quiet.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("a read behind its deadline: %v", err)
	}
	if _, err := quiet.Write([]byte{1}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a write behind its deadline: %v", err)
	}
	if err := quiet.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Write([]byte{7}); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 2)
	if n, err := quiet.Read(got); n != 1 || got[0] != 7 || err != nil {
		t.Errorf("read %d bytes: %v", n, err)
	}
}

// A write that waits for the peer ends with its deadline, and tells how much was written.
func TestAWriteThatIsNotTaken(t *testing.T) {
	t.Parallel()
	quiet, other := pair(t)
	sent := make([]byte, 64<<20)
	var n int
	var err error
	for within := 50 * time.Millisecond; n == 0 && within < time.Minute; within *= 2 { // a busy machine may come late to it
		if err := quiet.SetWriteDeadline(time.Now().Add(within)); err != nil {
			t.Fatal(err)
		}
		n, err = quiet.Write(sent)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 || n == len(sent) {
		t.Fatalf("wrote %d bytes: %v", n, err)
	}
	if err := quiet.(*Conn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if taken, err := io.Copy(io.Discard, other); err != nil || taken != int64(n) {
		t.Errorf("%d bytes came, want the %d that were written: %v", taken, n, err)
	}
}

// Every end is told as the net package tells it.
func TestEnds(t *testing.T) {
	t.Parallel()
	t.Run("the peer", func(t *testing.T) {
		t.Parallel()
		quiet, other := pair(t)
		other.Close()
		if n, err := quiet.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("a read behind the end: %d, %v", n, err)
		}
	})
	t.Run("reset", func(t *testing.T) {
		t.Parallel()
		quiet, other := pair(t)
		if err := other.SetLinger(0); err != nil {
			t.Fatal(err)
		}
		other.Close()
		if _, err := quiet.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a read behind a reset: %v", err)
		}
		if _, err := quiet.Write([]byte{1}); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("a write behind a reset: %v", err)
		}
	})
	t.Run("its own", func(t *testing.T) {
		t.Parallel()
		quiet, _ := pair(t)
		read := make(chan error, 1)
		go func() {
			_, err := quiet.Read(make([]byte, 1))
			read <- err
		}()
		quiet.Close()
		if err := <-read; !errors.Is(err, net.ErrClosed) {
			t.Errorf("a read that was under way: %v", err)
		}
		if _, err := quiet.Write([]byte{1}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a write behind its own end: %v", err)
		}
	})
	t.Run("nothing to read into", func(t *testing.T) {
		t.Parallel()
		quiet, _ := pair(t)
		if n, err := quiet.Read(nil); n != 0 || err != nil {
			t.Errorf("a read of nothing: %d, %v", n, err)
		}
	})
}

// What is not TCP stays what it is.
func TestOthersStayAsTheyAre(t *testing.T) {
	t.Parallel()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if Quiet(a) != a {
		t.Error("a pipe became something else")
	}
}

// Reads and writes take no memory.
func TestNoMemoryForEachCall(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	quiet, other := pair(t)
	b := make([]byte, 100)
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := quiet.Write(b); err != nil {
			t.Fatal(err)
		}
		if _, err := other.Write(b); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(quiet, b); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 0 {
		t.Errorf("a write and a read took %v pieces of memory", allocs)
	}
}
