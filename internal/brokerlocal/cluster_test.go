package brokerlocal

import (
	"context"
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
		var got jetstream.KeyValueEntry
		again(t, patient, func(ctx context.Context) (err error) {
			got, err = kv.Get(ctx, "key")
			return err
		})
		if string(got.Value()) != string(rune('a'+i)) {
			t.Errorf("without node %d the key is %q", i, got.Value())
		}
		if err := nodes.StartNode(i); err != nil {
			t.Fatal(err)
		}
		if err := nodes.awaitLeader(); err != nil {
			t.Fatal(err)
		}
	}
}

// again does what fails while a leader is elected, until it does not.
func again(t *testing.T, patient context.Context, do func(context.Context) error) {
	t.Helper()
	for {
		ctx, cancel := context.WithTimeout(patient, time.Second)
		err := do(ctx)
		cancel()
		if err == nil {
			return
		}
		if patient.Err() != nil {
			t.Fatal(err)
		}
	}
}
