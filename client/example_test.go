package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/client"
)

// Come in, listen, say something, and leave.
func ExampleJoin() {
	ctx := context.Background()
	dragons, err := guildhall.ParseGroup("guild:dragons")
	if err != nil {
		log.Fatal(err)
	}
	room, err := client.Join(ctx, client.Config{Server: "http://127.0.0.1:7777", Token: "a player token"}, dragons)
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for event := range room.Events() {
			switch e := event.(type) {
			case client.Message:
				fmt.Printf("%d %s: %s\n", e.Seq, e.From, e.Body)
			case client.Member:
				fmt.Printf("%s is here: %t\n", e.Player, e.Here)
			case client.Closed:
				fmt.Printf("closed (%s), coming back: %t\n", e.Code, e.Reconnect)
			}
		}
	}()
	ack, err := room.Say(ctx, []byte("hello"))
	if err != nil {
		log.Fatal(err)
	}
	seq, err := ack.Wait(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("everybody sees it as number %d\n", seq)
	if err := room.Leave(ctx); err != nil {
		log.Fatal(err)
	}
}

// Begin with what is kept from before, and tell what is gone for good.
func ExampleConfig_after() {
	last := guildhall.Seq(41) // from where this player's device left off
	config := client.Config{Server: "http://127.0.0.1:7777", Token: "a player token", After: &last}
	room, err := client.Join(context.Background(), config, guildhall.Group{Kind: "party", ID: "42"})
	if err != nil {
		log.Fatal(err)
	}
	for event := range room.Events() {
		if joined, ok := event.(client.Joined); ok && joined.TruncatedTo > 0 {
			fmt.Printf("messages up to %d are gone\n", joined.TruncatedTo)
		}
	}
	if err := room.Err(); err != nil {
		log.Fatal(err)
	}
}

// A gateway brings all of its players in over one connection, to the frontends' gRPC port. Each has a token of their own.
func ExampleConfig_conn() {
	// In a cluster all frontends, in turns: dns:///guildhall-frontend-grpc.guildhall:7778, with the policy round_robin.
	conn, err := grpc.NewClient("127.0.0.1:7778", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	for _, token := range []string{"a player's token", "another player's token"} {
		assignment, err := client.Enter(context.Background(), client.Config{Conn: conn, Token: token}, guildhall.Group{Kind: "party", ID: "42"})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(assignment.GetAddress(), assignment.GetPass())
	}
}

// Tell others that one is typing, and see when they are. WebSocket passes proxies that gRPC does not.
func ExampleRoom_Signal() {
	ctx := context.Background()
	config := client.Config{Server: "http://127.0.0.1:7777", Token: "a player token", Transport: client.WebSocket}
	room, err := client.Join(ctx, config, guildhall.Group{Kind: "guild", ID: "dragons"})
	if err != nil {
		log.Fatal(err)
	}
	for event := range room.Events() {
		switch e := event.(type) {
		case client.Joined: // before that there is nobody to tell
			if err := room.Signal(ctx, &guildhallv1.Signal{Topic: "typing"}); err != nil {
				log.Fatal(err)
			}
		case client.Signal:
			fmt.Printf("%s is %s\n", e.From, e.Topic)
		}
	}
}

// Read everything that is kept, from the latest back.
func ExampleRoom_History() {
	ctx := context.Background()
	config := client.Config{
		Server: "http://127.0.0.1:7777", Token: "a player token",
		Deliver: func(client.Event) {}, // what happens meanwhile is of no interest
	}
	room, err := client.Join(ctx, config, guildhall.Group{Kind: "guild", ID: "dragons"})
	if err != nil {
		log.Fatal(err)
	}
	for before, more := guildhall.Seq(0), true; more; {
		page, err := room.History(ctx, before, 100)
		if err != nil {
			log.Fatal(err)
		}
		for _, message := range slices.Backward(page.Messages) {
			fmt.Printf("%d %s: %s\n", message.Seq, message.From, message.Body)
		}
		before, more = page.Next, page.More
	}
	if err := room.Leave(ctx); err != nil {
		log.Fatal(err)
	}
}

// Say something to one player, and slow down if the room says so.
func ExampleRoom_SayAs() {
	ctx := context.Background()
	config := client.Config{Server: "http://127.0.0.1:7777", Token: "a player token", Deliver: func(client.Event) {}}
	room, err := client.Join(ctx, config, guildhall.Group{Kind: "guild", ID: "dragons"})
	if err != nil {
		log.Fatal(err)
	}
	ack, err := room.SayAs(ctx, &guildhallv1.Say{Id: "quest-12-accepted", Text: "follow me", To: []string{"p2"}})
	if err != nil {
		log.Fatal(err)
	}
	seq, err := ack.Wait(ctx)
	if refused, ok := errors.AsType[*client.RefusedError](err); ok {
		fmt.Printf("%s; again in %s\n", refused.Reason, refused.RetryAfter)
		return
	}
	fmt.Printf("p2 sees it as number %d, the others see that there is one\n", seq)
}

// Leave in a bounded time: what was not acked until then may or may not have been said.
func ExampleRoom_Leave() {
	room, err := client.Join(context.Background(), client.Config{Server: "http://127.0.0.1:7777", Token: "a player token"},
		guildhall.Group{Kind: "guild", ID: "dragons"})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := room.Leave(ctx); errors.Is(err, context.DeadlineExceeded) {
		fmt.Println("left without waiting for every ack")
	}
}
