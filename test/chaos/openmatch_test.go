package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// The variables that name a real Open Match, to be used in place of the stand-in. Its processes are paused as the stand-in
// is, if their ids are given.
const (
	frontendVariable = "GUILDHALL_TEST_OPENMATCH_FRONTEND"
	backendVariable  = "GUILDHALL_TEST_OPENMATCH_BACKEND"
	queryVariable    = "GUILDHALL_TEST_OPENMATCH_QUERY"
	pidsVariable     = "GUILDHALL_TEST_OPENMATCH_PIDS"
)

// buildOpenMatch makes Open Match, or takes the real one.
func (w *town) buildOpenMatch() error {
	real := openMatchSettings{
		Frontend: os.Getenv(frontendVariable), Backend: os.Getenv(backendVariable), Query: os.Getenv(queryVariable),
	}
	if real != (openMatchSettings{}) {
		if real.Frontend == "" || real.Backend == "" || real.Query == "" {
			return fmt.Errorf("a real Open Match wants all of %s, %s and %s", frontendVariable, backendVariable, queryVariable)
		}
		w.openmatchAt = real
		var err error
		w.openmatchPIDs, err = pids(os.Getenv(pidsVariable))
		return err
	}
	at, err := w.addresses(4)
	if err != nil {
		return err
	}
	w.openmatchAt = openMatchSettings{Frontend: at[0], Backend: at[1], Query: at[2], Admin: at[3]}
	encoded, err := json.Marshal(w.openmatchAt)
	if err != nil {
		return err
	}
	w.openmatch = newService(w.folder, roleOpenMatch, w.openmatchAt.Admin, func() (*exec.Cmd, error) {
		return self(roleOpenMatch, settingsVariable+"="+string(encoded))
	})
	return nil
}

func pids(list string) ([]int, error) {
	var all []int
	for text := range strings.FieldsFuncSeq(list, func(r rune) bool { return r == ',' }) {
		pid, err := strconv.Atoi(text)
		if err != nil || pid <= 1 {
			return nil, fmt.Errorf("%s: %q is no process", pidsVariable, text)
		}
		all = append(all, pid)
	}
	return all, nil
}

// pauseOpenMatch stops all of Open Match in its tracks.
func pauseOpenMatch(w *town, r *rand.Rand) *fault {
	const kind = "pause openmatch"
	switch d := howLong(r); {
	case w.openmatch != nil:
		return pauseService(kind, w.openmatch, d)
	case len(w.openmatchPIDs) > 0:
		return &fault{kind: kind, target: "the real one", locks: []string{kind}, apply: func(ctx context.Context) {
			err := signalAll(w.openmatchPIDs, syscall.SIGSTOP)
			rest(ctx, d)
			if err = errors.Join(err, signalAll(w.openmatchPIDs, syscall.SIGCONT)); err != nil {
				panic(fmt.Sprintf("%s: %v", kind, err)) // the installation that was lent is broken
			}
		}}
	default:
		return nil
	}
}

func signalAll(pids []int, signal syscall.Signal) error {
	var errs []error
	for _, pid := range pids {
		if err := syscall.Kill(pid, signal); err != nil {
			errs = append(errs, fmt.Errorf("process %d: %w", pid, err))
		}
	}
	return errors.Join(errs...)
}
