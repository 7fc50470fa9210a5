package simulation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	connecting "github.com/guildhall-dev/guildhall/internal/broker"
	"github.com/guildhall-dev/guildhall/internal/brokerlocal"
)

// assumption is something that the simulated JetStream does and that Guildhall relies on. The real one must do it too, on one
// node and on three.
type assumption struct {
	name  string
	check func(s *subjectOfTest) error
}

// subjectOfTest is a JetStream, with a log and a bucket whose keys live for a second.
type subjectOfTest struct {
	ctx    context.Context
	js     jetstream.JetStream
	log    jetstream.Stream
	bucket jetstream.KeyValue

	replicas int
}

const (
	testLog    = "conformance."
	testBucket = "conformance_bucket"
	testTTL    = time.Second
)

// publish appends behind a sequence.
func (s *subjectOfTest) publish(subject, data string, behind uint64) (uint64, error) {
	m := nats.NewMsg(testLog + subject)
	m.Data = []byte(data)
	m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, decimal(behind))
	ack, err := connecting.Write(s.ctx, func(ctx context.Context) (*jetstream.PubAck, error) { return s.js.PublishMsg(ctx, m) })
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

// purge removes a key behind a revision.
func (s *subjectOfTest) purge(key string, behind uint64) error {
	m := nats.NewMsg("$KV." + testBucket + "." + key)
	m.Header.Set("KV-Operation", "PURGE")
	m.Header.Set(jetstream.MsgRollup, jetstream.MsgRollupSubject)
	m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, decimal(behind))
	_, err := connecting.Write(s.ctx, func(ctx context.Context) (*jetstream.PubAck, error) { return s.js.PublishMsg(ctx, m) })
	return err
}

func refused(what string, err error) error {
	if !connecting.IsWrongSequence(err) && !errors.Is(err, jetstream.ErrKeyExists) {
		return fmt.Errorf("%s: %w, want a refusal", what, err)
	}
	return nil
}

var assumptions = slices.Concat(appends, keys, reads)

// appends is what the log relies on when it writes.
var appends = []assumption{
	{"an append behind anything but the last entry is refused", func(s *subjectOfTest) error {
		first, err := s.publish("a", "1", 0)
		if err != nil {
			return err
		}
		if _, err := s.publish("b", "another subject is in nobody's way", 0); err != nil {
			return err
		}
		second, err := s.publish("a", "2", first)
		if err != nil || second <= first {
			return fmt.Errorf("behind %d: %d, %w", first, second, err)
		}
		_, none := s.publish("a", "over none", 0)
		_, old := s.publish("a", "over the first", first)
		_, again := s.publish("a", "2", first) // the very same, as a repetition is
		_, future := s.publish("a", "over what is not there yet", second+1)
		return errors.Join(refused("over none", none), refused("over the first", old), refused("repeated", again), refused("future", future))
	}},
	{"the end of a log is its last entry, or nothing", func(s *subjectOfTest) error {
		if _, err := s.log.GetLastMsgForSubject(s.ctx, testLog+"end"); !errors.Is(err, jetstream.ErrMsgNotFound) {
			return fmt.Errorf("of an empty log: %w", err)
		}
		var sequence uint64
		for n := range 3 {
			var err error
			if sequence, err = s.publish("end", fmt.Sprint(n), sequence); err != nil {
				return err
			}
		}
		last, err := s.log.GetLastMsgForSubject(s.ctx, testLog+"end")
		if err != nil || last.Sequence != sequence || string(last.Data) != "2" {
			return fmt.Errorf("%+v, %w", last, err)
		}
		return s.reads("end", 0, "0", "1", "2")
	}},
}

// keys is what the registry relies on.
var keys = []assumption{
	{"revisions only grow, also when a key was removed", func(s *subjectOfTest) error {
		var last uint64
		for n := range 3 {
			revision, err := s.bucket.Create(s.ctx, "grow", []byte(fmt.Sprint(n)))
			if err != nil || revision <= last {
				return fmt.Errorf("round %d: revision %d behind %d, %w", n, revision, last, err)
			}
			if err := s.purge("grow", revision); err != nil {
				return err
			}
			last = revision
		}
		return nil
	}},
	{"a key is written over its revision alone", func(s *subjectOfTest) error {
		first, err := s.bucket.Create(s.ctx, "swap", []byte("1"))
		if err != nil {
			return err
		}
		_, exists := s.bucket.Create(s.ctx, "swap", []byte("2"))
		second, err := s.bucket.Update(s.ctx, "swap", []byte("3"), first)
		if err != nil || second <= first {
			return fmt.Errorf("over %d: %d, %w", first, second, err)
		}
		_, old := s.bucket.Update(s.ctx, "swap", []byte("4"), first)
		_, none := s.bucket.Update(s.ctx, "swap", []byte("5"), 0)
		entry, err := s.bucket.Get(s.ctx, "swap")
		if err != nil || string(entry.Value()) != "3" || entry.Revision() != second {
			return fmt.Errorf("read %v, %w", entry, err)
		}
		return errors.Join(refused("create", exists), refused("old revision", old), refused("no revision", none),
			refused("purge of the old revision", s.purge("swap", first)))
	}},
	{"a key that was removed is not there, and its revision is over", func(s *subjectOfTest) error {
		revision, err := s.bucket.Create(s.ctx, "gone", []byte("1"))
		if err != nil {
			return err
		}
		if err := s.purge("gone", revision); err != nil {
			return err
		}
		if _, err := s.bucket.Get(s.ctx, "gone"); !errors.Is(err, jetstream.ErrKeyNotFound) {
			return fmt.Errorf("read after the purge: %w", err)
		}
		_, old := s.bucket.Update(s.ctx, "gone", []byte("2"), revision)
		return errors.Join(refused("update of what is gone", old), refused("a second purge", s.purge("gone", revision)))
	}},
	{"a key that nobody renews expires, and who watches is told", func(s *subjectOfTest) error {
		watcher, err := s.bucket.WatchAll(s.ctx)
		if err != nil {
			return err
		}
		defer func() { _ = watcher.Stop() }()
		first, err := s.bucket.Create(s.ctx, "expires", []byte("1"))
		if err != nil {
			return err
		}
		second, err := s.bucket.Update(s.ctx, "expires", []byte("2"), first)
		if err != nil {
			return err
		}
		written := time.Now()
		var told []string
		for entry := range watcher.Updates() {
			if entry == nil || entry.Key() != "expires" {
				continue
			}
			told = append(told, string(entry.Value()))
			if entry.Operation() != jetstream.KeyValuePut {
				break
			}
		}
		// A bucket keeps one value: who watches may be told of the second alone.
		if n := len(told); n < 2 || told[n-2] != "2" || told[n-1] != "" || time.Since(written) < testTTL*9/10 {
			return fmt.Errorf("told %q within %s", told, time.Since(written))
		}
		// The node that tells may be ahead of the leader, which is read: nobody relies on a read to know what a watch has told.
		for {
			_, err := s.bucket.Get(s.ctx, "expires")
			if errors.Is(err, jetstream.ErrKeyNotFound) {
				break
			}
			if err != nil {
				return fmt.Errorf("read after the expiry: %w", err)
			}
		}
		_, old := s.bucket.Update(s.ctx, "expires", []byte("3"), second)
		third, err := s.bucket.Create(s.ctx, "expires", []byte("4"))
		if err != nil || third <= second {
			return fmt.Errorf("created anew at %d behind %d, %w", third, second, err)
		}
		return refused("renewal of what has expired", old)
	}},
	{"a watch tells what is there, then that this was all, then what happens", func(s *subjectOfTest) error {
		first, err := s.bucket.Create(s.ctx, "watch", []byte("1"))
		if err != nil {
			return err
		}
		watcher, err := s.bucket.WatchAll(s.ctx)
		if err != nil {
			return err
		}
		defer func() { _ = watcher.Stop() }()
		second, err := s.bucket.Update(s.ctx, "watch", []byte("2"), first)
		if err != nil {
			return err
		}
		var told []string
		all := false
		for entry := range watcher.Updates() {
			switch {
			case entry == nil:
				all = true
			case entry.Key() != "watch":
			case entry.Operation() != jetstream.KeyValuePut && all:
				return nil
			default:
				told = append(told, string(entry.Value()))
			}
			// Only now: a bucket keeps one value, and who watches may be told of the removal alone.
			if all && len(told) > 0 && told[len(told)-1] == "2" && second != 0 {
				if err := s.purge("watch", second); err != nil {
					return err
				}
				second = 0
			}
		}
		return fmt.Errorf("told %q, and then the watch ended", told)
	}},
}

// openSubject makes the log and the bucket, as the log and the registry make theirs.
func openSubject(ctx context.Context, js jetstream.JetStream, replicas int) (*subjectOfTest, error) {
	log, err := connecting.OpenStream(ctx, js, jetstream.StreamConfig{
		Name: "conformance", Subjects: []string{testLog + ">"}, Replicas: replicas,
	})
	if err != nil {
		return nil, err
	}
	_, err = connecting.OpenStream(ctx, js, jetstream.StreamConfig{
		Name: "KV_" + testBucket, Subjects: []string{"$KV." + testBucket + ".>"}, Replicas: replicas,
		MaxMsgsPerSubject: 1, MaxAge: testTTL, AllowMsgTTL: true, SubjectDeleteMarkerTTL: time.Minute, AllowRollup: true,
		Discard: jetstream.DiscardNew, Duplicates: testTTL, DenyDelete: true,
	})
	if err != nil {
		return nil, err
	}
	bucket, err := js.KeyValue(ctx, testBucket)
	if err != nil {
		return nil, err
	}
	return &subjectOfTest{ctx: ctx, js: js, log: log, bucket: bucket, replicas: replicas}, nil
}

// TestSimulatedJetStream checks the assumptions in a world without faults.
func TestSimulatedJetStream(t *testing.T) {
	t.Parallel()
	for _, a := range assumptions {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(plan{Clock: 1, Length: time.Hour}, variant{})
				p := w.newProcess("conformance")
				done := make(chan error, 1)
				go func() {
					s, err := openSubject(p.ctx, newClient(p), 1)
					if err == nil {
						err = a.check(s)
					}
					done <- err
				}()
				if !w.run(time.Hour, func() bool { return len(done) > 0 }) {
					t.Fatal("it does not end")
				}
				if err := <-done; err != nil {
					t.Error(err)
				}
				p.crash()
			})
		})
	}
}

// TestJetStreamOnOneNode and TestJetStreamOnThreeNodes check them against the real thing.
func TestJetStreamOnOneNode(t *testing.T) {
	t.Parallel()
	server, err := brokerlocal.Start(brokerlocal.Config{Folder: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	checkReal(t, server.URL(), 1)
}

func TestJetStreamOnThreeNodes(t *testing.T) {
	t.Parallel()
	nodes, err := brokerlocal.StartNodes(t.TempDir(), 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nodes.Stop)
	checkReal(t, nodes.URL(), 3)
}

// patience bounds every wait for the real thing. It is not a time limit for it.
const patience = time.Minute

func checkReal(t *testing.T, url string, replicas int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	conn, js, err := connecting.Connect(connecting.Config{NATS: url, NATSTimeout: patience}, "test", nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	s, err := openSubject(ctx, js, replicas)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range assumptions {
		t.Run(a.name, func(t *testing.T) {
			if err := a.check(s); err != nil {
				t.Error(err)
			}
		})
	}
}
