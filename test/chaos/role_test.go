package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/guildhall-dev/guildhall/director"
	"github.com/guildhall-dev/guildhall/frontend"
	"github.com/guildhall-dev/guildhall/internal/brokerlocal"
	"github.com/guildhall-dev/guildhall/internal/openmatchlocal"
	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/matchfunction"
	"github.com/guildhall-dev/guildhall/roomserver"
)

const (
	// roleVariable makes this binary one of the processes of the installation.
	roleVariable = "GUILDHALL_TEST_CHAOS_ROLE"
	// settingsVariable has the settings of those that are not ours, as JSON.
	settingsVariable = "GUILDHALL_TEST_CHAOS_SETTINGS"
)

// The roles that this binary plays.
const (
	roleNATS          = "nats"
	roleOpenMatch     = "openmatch"
	roleMatchFunction = "matchfunction"
	roleDirector      = "director"
	roleFrontend      = "frontend"
	roleHost          = "roomserver"
	roleParent        = "parent"  // starts a child and waits to be killed
	roleSleeper       = "sleeper" // the child
)

// play is main of a process. It does not return.
func play(role string) {
	switch role {
	case roleNATS:
		exit(role, runNATS())
	case roleOpenMatch:
		exit(role, runOpenMatch())
	case roleMatchFunction:
		process.Main(role, matchfunction.New)
	case roleDirector:
		process.Main(role, director.New)
	case roleFrontend:
		process.Main(role, frontend.New)
	case roleHost:
		process.Main(role, roomserver.New)
	case roleParent:
		exit(role, runParent())
	case roleSleeper:
		<-time.After(time.Hour)
	}
	exit(role, errors.New("there is no such role"))
}

func exit(role string, err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", role, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// natsSettings are those of one node of NATS.
type natsSettings struct {
	Broker brokerlocal.Config
	// Admin is where /readyz says whether the node has caught up.
	Admin string
}

func runNATS() error {
	var settings natsSettings
	if err := readSettings(&settings); err != nil {
		return err
	}
	settings.Broker.Logger = processLogger(roleNATS)
	node, err := brokerlocal.Start(settings.Broker)
	if err != nil {
		return err
	}
	ctx, stop := process.Signals(context.Background())
	defer stop()
	return process.RunAll(ctx, node, adminOf(settings.Admin, node.Health))
}

// openMatchSettings are those of Open Match.
type openMatchSettings struct {
	Frontend, Backend, Query string
	Admin                    string
}

func runOpenMatch() error {
	var settings openMatchSettings
	if err := readSettings(&settings); err != nil {
		return err
	}
	server, err := openmatchlocal.New(openmatchlocal.Config{
		FrontendListen: settings.Frontend, BackendListen: settings.Backend, QueryListen: settings.Query,
		Logger: processLogger(roleOpenMatch),
	})
	if err != nil {
		return err
	}
	ctx, stop := process.Signals(context.Background())
	defer stop()
	return process.RunAll(ctx, server, adminOf(settings.Admin, func() error { return nil }))
}

func readSettings(into any) error {
	if err := json.Unmarshal([]byte(os.Getenv(settingsVariable)), into); err != nil {
		return fmt.Errorf("%s: %w", settingsVariable, err)
	}
	return nil
}

func processLogger(role string) *slog.Logger {
	return slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo})).With("service", role)
}

// adminOf serves /readyz, as the services' own admin ports do.
func adminOf(address string, health func() error) process.Service {
	return process.Func(func(ctx context.Context) error {
		listener, err := process.Listen("TEST_ADMIN", address)
		if err != nil {
			return err
		}
		mux := http.NewServeMux()
		mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
			if err := health(); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
			_, _ = io.WriteString(w, "ok\n")
		})
		return process.ServeHTTP(ctx, &http.Server{Handler: mux}, listener, time.Second)
	})
}
