package agoneslocal

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"agones.dev/agones/pkg/sdk"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// roleVariable makes this binary a game server instead of a test.
const roleVariable = "AGONESLOCAL_TEST_ROLE"

// The roles that game servers play.
const (
	good     = "good"     // Ready, healthy, and ends at SIGTERM
	mute     = "mute"     // Ready, and gives no sign of life
	slow     = "slow"     // healthy, and never Ready
	stubborn = "stubborn" // Ready, healthy, and deaf to SIGTERM
	broken   = "broken"   // exits at once with status 3
	chatty   = "chatty"   // writes to both outputs, and is good
	parent   = "parent"   // runs a stand-in of its own with one mute game server, and prints its process
)

const brokenStatus = 3

// play is main of a game server.
func play(role string) int {
	switch role {
	case broken:
		return brokenStatus
	case parent:
		return playParent()
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	if role == stubborn {
		signal.Reset(syscall.SIGTERM)
		signal.Ignore(syscall.SIGTERM)
	}
	if role == chatty {
		fmt.Println("to stdout")
		fmt.Fprintln(os.Stderr, "to stderr")
	}
	if err := serve(role, stop); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// serve speaks to the SDK server until it is told to stop.
func serve(role string, stop <-chan os.Signal) error {
	conn, err := grpc.NewClient("127.0.0.1:"+os.Getenv("AGONES_SDK_GRPC_PORT"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	client := sdk.NewSDKClient(conn)
	if role != slow {
		if _, err := client.Ready(context.Background(), &sdk.Empty{}, grpc.WaitForReady(true)); err != nil {
			return err
		}
	}
	if role == mute {
		<-stop
		return nil
	}
	return beat(client, stop)
}

// beat gives signs of life, and ends too when nobody takes them any more.
func beat(client sdk.SDKClient, stop <-chan os.Signal) error {
	stream, err := client.Health(context.Background())
	if err != nil {
		return err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := stream.Send(&sdk.Empty{}); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-stop:
			return nil
		}
	}
}

// playParent never ends by itself: its test kills it.
func playParent() int {
	server, err := New(Config{Fleet: Fleet{Ready: 1, Command: inRole(mute), Output: toStdout, Health: Health{Disabled: true}}})
	if err != nil {
		return 1
	}
	go announce(server)
	if err := server.Run(context.Background()); err != nil {
		return 1
	}
	return 0
}
