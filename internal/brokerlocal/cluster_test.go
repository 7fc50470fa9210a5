package brokerlocal

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// What a majority has stored survives the loss of any node.
func TestNodesSurviveTheLossOfOne(t *testing.T) {
	t.Parallel()
	nodes, err := StartNodes(t.TempDir(), 3)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nodes.Stop)
	conn, err := nats.Connect(nodes.URL(), nats.MaxReconnects(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn, jetstream.WithDefaultTimeout(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	patient := withPatience(t)
	kv, err := js.CreateKeyValue(patient, jetstream.KeyValueConfig{Bucket: "test", Replicas: 3})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		again(t, patient, func(ctx context.Context) error {
			_, err := kv.PutString(ctx, "key", string(rune('a'+i)))
			return err
		})
		nodes.StopNode(i)
		again(t, patient, func(ctx context.Context) error {
			got, err := kv.Get(ctx, "key")
			if err != nil {
				return err
			}
			if want := string(rune('a' + i)); string(got.Value()) != want { // any node answers, also one that has just come back
				return fmt.Errorf("without node %d the key is %q, want %q", i, got.Value(), want)
			}
			return nil
		})
		if err := nodes.StartNode(i); err != nil {
			t.Fatal(err)
		}
		if err := nodes.awaitLeader(); err != nil {
			t.Fatal(err)
		}
		// As an operator does (docs/nats.md): a node that has not caught up may be stuck if the one goes from which it does.
		again(t, patient, func(context.Context) error {
			var errs []error
			for _, node := range nodes.Servers {
				errs = append(errs, node.Health())
			}
			return errors.Join(errs...)
		})
	}
}

// again does what fails while a leader is elected, until it does not.
func again(t *testing.T, patient context.Context, do func(context.Context) error) {
	t.Helper()
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		ctx, cancel := context.WithTimeout(patient, time.Second)
		err := do(ctx)
		cancel()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-patient.Done():
			t.Fatal(err)
		}
	}
}
