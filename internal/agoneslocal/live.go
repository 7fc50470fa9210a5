package agoneslocal

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// cause is why a game server ended.
type cause string

const (
	asked     cause = "asked"     // by its SDK.Shutdown
	stopped   cause = "stopped"   // with the fleet
	unhealthy cause = "unhealthy" // no sign of life
	died      cause = "died"      // its process ended, and it had been Ready
	crashed   cause = "crashed"   // its process ended, or did not start, and it never was Ready
)

// live is the life of one game server.
func (f *fleet) live(ctx context.Context, gs *gameServer) {
	why, err := f.lifetime(ctx, gs)
	f.metrics.exits.WithLabelValues(string(why)).Inc()
	log := f.log.With("gameserver", gs.Name, "cause", string(why), "status", gs.process.status())
	switch {
	case err != nil:
		f.store.move(gs, Unhealthy)
		log.Error("game server did not start", "error", err)
	case why == crashed:
		log.Error("game server exited before it was Ready")
	case why == died || why == unhealthy:
		log.Warn("game server lost")
	default:
		log.Info("game server ended")
	}
	f.store.remove(gs)
}

// lifetime opens the SDK server, starts the process, and looks after both until they are gone.
func (f *fleet) lifetime(ctx context.Context, gs *gameServer) (cause, error) {
	sidecar, err := openSidecar(f.store, gs, f.log)
	if err != nil {
		return crashed, err
	}
	var running sync.WaitGroup
	defer running.Wait()
	defer sidecar.stop()
	running.Go(sidecar.serve)

	command, err := f.command(gs, sidecar)
	if err != nil {
		return crashed, err
	}
	running.Go(func() { gs.process.run(command) })
	return f.supervise(ctx, gs)
}

// command makes the process of a game server.
func (f *fleet) command(gs *gameServer, sidecar *sidecar) (*exec.Cmd, error) {
	address := sidecar.address()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("address of the SDK server: %w", err)
	}
	var now GameServer
	f.store.update(gs, func() error { //nolint:errcheck // it never fails
		gs.SDKAddress = address
		now = gs.clone()
		return nil
	})
	command := f.config.Command(now)
	if command.Env == nil {
		command.Env = os.Environ()
	}
	command.Env = append(command.Env, "AGONES_SDK_GRPC_PORT="+port)
	if f.config.Output != nil {
		output := f.config.Output(gs.Name)
		command.Stdout, command.Stderr = output, output
	}
	return command, nil
}

// supervise looks after the process from its start to its end.
func (f *fleet) supervise(ctx context.Context, gs *gameServer) (cause, error) {
	<-gs.process.started
	pid, err := gs.process.pid()
	if err != nil {
		return crashed, err
	}
	f.scheduled(gs, pid)
	check := time.NewTimer(f.config.Health.InitialDelay)
	defer check.Stop()
	if f.config.Health.Disabled {
		check.Stop()
	}
	for {
		select {
		case <-gs.process.exited:
			return f.exited(gs), nil
		case <-gs.ended:
			return f.end(gs), nil
		case <-ctx.Done():
			f.store.move(gs, Shutdown)
			f.end(gs)
			return stopped, nil
		case <-check.C:
			f.store.checkHealth(gs)
			check.Reset(f.config.Health.Period)
		}
	}
}

// scheduled notes that the process runs. It may have been faster, and be Ready by now.
func (f *fleet) scheduled(gs *gameServer, pid int) {
	f.store.update(gs, func() error { //nolint:errcheck // it never fails
		gs.PID = pid
		gs.life.beat(time.Now())
		if gs.State == Starting {
			gs.move(Scheduled, time.Now())
		}
		return nil
	})
	f.log.Info("game server started", "gameserver", gs.Name, "pid", pid)
}

// exited notes that the process ended by itself.
func (f *fleet) exited(gs *gameServer) cause {
	why := crashed
	f.store.update(gs, func() error { //nolint:errcheck // it never fails
		switch {
		case gs.State == Shutdown:
			why = asked
		case gs.State == Unhealthy:
			why = unhealthy
		case gs.useful:
			why = died
		}
		gs.move(Unhealthy, time.Now())
		return nil
	})
	return why
}

// end sends SIGTERM, and SIGKILL after the grace, to a game server whose state says that it ends.
func (f *fleet) end(gs *gameServer) cause {
	gs.process.signal(syscall.SIGTERM)
	grace := time.NewTimer(f.config.StopGrace)
	defer grace.Stop()
	select {
	case <-gs.process.exited:
	case <-grace.C:
		f.log.Warn("game server outlived its grace; killing it", "gameserver", gs.Name, "grace", f.config.StopGrace)
		gs.process.kill()
		<-gs.process.exited
	}
	return f.exited(gs)
}
