package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"open-match.dev/open-match/pkg/pb"

	"github.com/guildhall-dev/guildhall/internal/agoneslocal"
	"github.com/guildhall-dev/guildhall/internal/ticket"
)

// leftovers gives what is still there although everybody has left.
func (w *town) leftovers(ctx context.Context, js jetstream.JetStream) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	claims, err := claimsLeft(ctx, js)
	if err != nil {
		return nil, err
	}
	tickets, err := w.ticketsLeft(ctx)
	if err != nil {
		return nil, err
	}
	left := append(claims, tickets...)
	for _, h := range w.fleet.among(agoneslocal.Allocated) {
		left = append(left, "allocated host "+h.name)
	}
	return left, nil
}

func claimsLeft(ctx context.Context, js jetstream.JetStream) ([]string, error) {
	bucket, err := js.KeyValue(ctx, claimsBucket)
	if err != nil {
		return nil, fmt.Errorf("the claims: %w", err)
	}
	keys, err := bucket.Keys(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrNoKeysFound) {
		return nil, fmt.Errorf("the claims: %w", err)
	}
	var left []string
	for _, key := range keys {
		left = append(left, "claim "+key)
	}
	return left, nil
}

// ticketsLeft asks Open Match what the match function asks: which tickets wait.
func (w *town) ticketsLeft(ctx context.Context) ([]string, error) {
	conn, err := grpc.NewClient(w.openmatchAt.Query, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	var left []string
	for _, pool := range ticket.Profile("guild", 0).GetPools() {
		stream, err := pb.NewQueryServiceClient(conn).QueryTickets(ctx, &pb.QueryTicketsRequest{Pool: pool})
		if err != nil {
			return nil, fmt.Errorf("the tickets: %w", err)
		}
		for {
			page, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("the tickets: %w", err)
			}
			for _, t := range page.GetTickets() {
				left = append(left, "ticket "+t.GetId())
			}
		}
	}
	return left, nil
}

// awaitEmpty waits until nothing is left, and gives what does not go.
func (w *town) awaitEmpty(ctx context.Context, js jetstream.JetStream) []violation {
	var left []string
	var err error
	if eventually(ctx, func() bool {
		left, err = w.leftovers(context.WithoutCancel(ctx), js)
		return err == nil && len(left) == 0
	}) {
		return nil
	}
	var found []violation
	if err != nil {
		found = append(found, violation{Breach: leaked, Text: err.Error()})
	}
	for _, what := range left {
		found = append(found, violation{Breach: leaked, Text: what})
	}
	return found
}
