// Package process is what all of Guildhall's services have in common as processes: configuration from the
// environment, logs, the admin port with its health, readiness and metrics, signals, and a stop in order.
//
// A service is a Config that embeds [Common], a New that validates it and opens the listeners, and a Run that
// serves until its context ends. [Main] makes a program of these.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Service is a part of Guildhall that runs.
type Service interface {
	// Run serves until ctx ends, then stops in order: not ready, refuse what is new, let what runs finish,
	// force what has not after the grace. It returns nil after a stop that was asked for.
	Run(ctx context.Context) error
}

// Main is the main function of a service: it reads its configuration, opens it and runs it until a signal.
// It does not return.
func Main[C any, S Service](name string, open func(C) (S, error)) {
	if err := Run(name, os.Args[1:], open); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Run is what [Main] does before it exits, with the arguments behind the program's name.
func Run[C any, S Service](name string, args []string, open func(C) (S, error)) error {
	var config C
	if len(args) > 0 {
		return help(name, args, &config)
	}
	if err := Load(nil, &config); err != nil {
		return err
	}
	if based, ok := any(&config).(interface{ Base() *Common }); ok {
		if err := based.Base().Open(name); err != nil {
			return err
		}
		defer based.Base().Close()
	}
	service, err := open(config)
	if err != nil {
		return err
	}
	ctx, stop := Signals(context.Background())
	defer stop()
	return service.Run(ctx)
}

func help(name string, args []string, config any) error {
	switch args[0] {
	case "--help", "-h", "help":
		fmt.Printf("%s %s is one of Guildhall's services. It takes no arguments and is configured by its environment.\n\n",
			name, Version())
		return Usage(os.Stdout, config)
	case "--version", "version":
		fmt.Println(Version())
		return nil
	}
	return fmt.Errorf("unexpected argument %q: the configuration is in the environment, --help lists it", args[0])
}

// Signals gives a context that the first SIGINT or SIGTERM ends; the second exits the process at once, after
// the given last acts. The caller must call stop; more than once is no harm.
func Signals(parent context.Context, lastActs ...func()) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		for n := 0; ; n++ {
			select {
			case s := <-signals:
				if n > 0 {
					for _, act := range lastActs {
						act()
					}
					os.Exit(130)
				}
				cancel(fmt.Errorf("got %s", s))
			case <-done:
				return
			}
		}
	}()
	return ctx, sync.OnceFunc(func() {
		signal.Stop(signals)
		close(done)
		<-finished
		cancel(nil)
	})
}

// RunAll runs parts together until ctx ends or one of them fails; then it stops them one after the other, the
// last one first, and returns the first failure. A part that ends early without one is a failure too.
func RunAll(ctx context.Context, parts ...Service) error {
	failed := make(chan error, len(parts))
	stops := make([]func(), len(parts))
	for i, part := range parts {
		partCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			err := part.Run(partCtx)
			if err == nil && partCtx.Err() == nil {
				err = fmt.Errorf("%T ended by itself", part)
			}
			failed <- err
		}()
		stops[i] = func() { cancel(); <-ended }
	}
	stopped := func(err error) bool { return errors.Is(err, context.Canceled) && ctx.Err() != nil }
	var first error
	seen := 0
	select {
	case <-ctx.Done():
	case first = <-failed:
		seen++
	}
	for _, stop := range slices.Backward(stops) {
		stop()
	}
	for ; seen < len(parts); seen++ {
		if err := <-failed; first == nil || stopped(first) {
			first = err
		}
	}
	if stopped(first) {
		return nil
	}
	return first
}

// Func makes a [Service] of a function.
type Func func(ctx context.Context) error

// Run calls f.
func (f Func) Run(ctx context.Context) error { return f(ctx) }

// Every calls f every period until ctx ends; the first call comes after one period.
func Every(ctx context.Context, period time.Duration, f func()) {
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			f()
		}
	}
}

// Sleep waits for d or until ctx ends.
func Sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
