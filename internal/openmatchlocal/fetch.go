package openmatchlocal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"open-match.dev/open-match/pkg/pb"
)

var errRanTooLong = errors.New("match function ran longer than proposal window, canceling")

// FetchMatches runs the match function at once and streams the matches that survive. When none does it runs
// it again whenever something has come that the profile could use, until the fetch wait is over. There is no
// cycle to wait for and no interval to sit through: a burst that comes while the match function runs is seen
// by the next run as a whole.
func (b *backend) FetchMatches(req *pb.FetchMatchesRequest, stream pb.BackendService_FetchMatchesServer) error {
	switch {
	case req.GetConfig() == nil:
		return status.Error(codes.InvalidArgument, ".config is required")
	case req.GetProfile() == nil:
		return status.Error(codes.InvalidArgument, ".profile is required")
	}
	ctx, cancel := b.untilStop(stream.Context())
	defer cancel()
	arrivals := b.store.wait(req.GetProfile())
	defer b.store.stopWaiting(arrivals)
	over := time.NewTimer(b.fetchWait)
	defer over.Stop()
	for {
		arrivals.reset()
		result, err := b.runOnce(ctx, req)
		if sendErr := sendMatches(stream, result.accepted); sendErr != nil {
			return sendErr
		}
		if err != nil || len(result.accepted) > 0 {
			return err
		}
		if result.outrun {
			arrivals.signal()
		}
		select {
		case <-arrivals.wake:
		case <-over.C:
			return nil
		case <-ctx.Done():
			return whyDone(ctx)
		}
	}
}

// untilStop gives a context that ends when the server stops, too.
func (b *backend) untilStop(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-b.stopping:
			cancel(errStopping)
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-done
	}
}

func whyDone(ctx context.Context) error {
	if errors.Is(context.Cause(ctx), errStopping) {
		return errStopping
	}
	return status.FromContextError(ctx.Err()).Err()
}

// runOnce runs the match function and evaluates what it proposes. An error comes with matches when the match
// function failed after it had proposed something, as in Open Match.
func (b *backend) runOnce(ctx context.Context, req *pb.FetchMatchesRequest) (verdict, error) {
	since, started := b.store.now(), time.Now()
	proposals, mmfErr := b.propose(ctx, req)
	b.metrics.functionSeconds.Observe(time.Since(started).Seconds())
	if ctx.Err() != nil {
		return verdict{}, whyDone(ctx)
	}
	if err := checkMatchIDs(proposals); err != nil {
		return verdict{}, b.failed(req, err, mmfErr)
	}
	result := b.store.accept(byScore(proposals), since)
	if mmfErr != nil {
		return result, b.failed(req, nil, mmfErr)
	}
	return result, nil
}

// propose cancels the match function at the end of the window. It sets no deadline, as Open Match does not: a
// match function that was told of one could fail on its own just before the window closes.
func (b *backend) propose(ctx context.Context, req *pb.FetchMatchesRequest) ([]*pb.Match, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	window := time.AfterFunc(b.collectionInterval, func() { cancel(errRanTooLong) })
	defer window.Stop()
	proposals, err := b.functions.run(ctx, req)
	if err != nil && errors.Is(context.Cause(ctx), errRanTooLong) {
		err = errRanTooLong
	}
	return proposals, err
}

// failed words an error as Open Match does, without a status: gRPC makes it Unknown.
func (b *backend) failed(req *pb.FetchMatchesRequest, syncErr, mmfErr error) error {
	b.metrics.fetchErrors.Inc()
	b.log.Warn("fetch matches failed", slog.String("profile", req.GetProfile().GetName()),
		slog.Any("sync_error", syncErr), slog.Any("match_function_error", mmfErr))
	return status.Error(codes.Unknown,
		fmt.Sprintf("error(s) in FetchMatches call. syncErr=[%v], mmfErr=[%v]", syncErr, mmfErr))
}

func checkMatchIDs(proposals []*pb.Match) error {
	seen := make(map[string]bool, len(proposals))
	for _, m := range proposals {
		if seen[m.GetMatchId()] {
			return fmt.Errorf("MatchMakingFunction returned same match_id twice: %q", m.GetMatchId())
		}
		seen[m.GetMatchId()] = true
	}
	return nil
}

func sendMatches(stream pb.BackendService_FetchMatchesServer, matches []*pb.Match) error {
	for _, m := range matches {
		if err := stream.Send(&pb.FetchMatchesResponse{Match: m}); err != nil {
			return err
		}
	}
	return nil
}
