package agoneslocal

import (
	"context"
	"net/http"
	"strings"
	"time"

	allocation "agones.dev/agones/pkg/allocation/go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// codeInvalid is what Agones answers an invalid request with: the HTTP status of Kubernetes, put into gRPC
// where it is no code.
const codeInvalid = codes.Code(http.StatusUnprocessableEntity)

var (
	errNone     = status.Error(codes.ResourceExhausted, "there is no available GameServer to allocate")
	errStopping = status.Error(codes.Unavailable, "the allocator stops")
)

// allocator is the AllocationService.
type allocator struct {
	allocation.UnimplementedAllocationServiceServer

	// Static after construction.
	store     *store
	batchWait time.Duration
	metrics   *metrics
	requests  chan *pending
	stopped   chan struct{} // closed when run has ended
}

var _ allocation.AllocationServiceServer = (*allocator)(nil)

// pending is a request that waits for its batch.
type pending struct {
	in     *allocation.AllocationRequest
	answer chan *allocation.AllocationResponse // has room for the one answer
}

func newAllocator(store *store, batchWait time.Duration, metrics *metrics) *allocator {
	return &allocator{
		store:     store,
		batchWait: batchWait,
		metrics:   metrics,
		requests:  make(chan *pending),
		stopped:   make(chan struct{}),
	}
}

// Allocate gives a game server away.
func (a *allocator) Allocate(ctx context.Context, in *allocation.AllocationRequest) (*allocation.AllocationResponse, error) {
	response, err := a.allocate(ctx, in)
	result := "allocated"
	switch status.Code(err) {
	case codes.OK:
	case codes.ResourceExhausted:
		result = "unallocated"
	default:
		result = "invalid"
	}
	a.metrics.allocations.WithLabelValues(result).Inc()
	return response, err
}

func (a *allocator) allocate(ctx context.Context, in *allocation.AllocationRequest) (*allocation.AllocationResponse, error) {
	if faults := checkRequest(in); len(faults) > 0 {
		return nil, status.Errorf(codeInvalid, "the GameServerAllocation is invalid: %s", strings.Join(faults, "; "))
	}
	if in.GetMultiClusterSetting().GetEnabled() {
		return nil, status.Error(codes.Unknown, "there is no policy for allocations of several clusters")
	}
	if a.batchWait == 0 {
		return orNone(a.store.allocate([]*allocation.AllocationRequest{in})[0])
	}
	return a.queue(ctx, in)
}

func orNone(answer *allocation.AllocationResponse) (*allocation.AllocationResponse, error) {
	if answer == nil {
		return nil, errNone
	}
	return answer, nil
}

// queue puts a request into the batch. One whose caller goes away is answered all the same: the game
// server is Allocated and nobody knows, as in a cluster.
func (a *allocator) queue(ctx context.Context, in *allocation.AllocationRequest) (*allocation.AllocationResponse, error) {
	request := &pending{in: in, answer: make(chan *allocation.AllocationResponse, 1)}
	select {
	case a.requests <- request:
	case <-a.stopped:
		return nil, errStopping
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	select {
	case answer := <-request.answer:
		return orNone(answer)
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

// run answers batches until ctx ends, the last one included.
func (a *allocator) run(ctx context.Context) {
	defer close(a.stopped)
	for {
		select {
		case first := <-a.requests:
			a.answer(a.collect(ctx, first))
		case <-ctx.Done():
			return
		}
	}
}

// collect gathers what arrives within the wait.
func (a *allocator) collect(ctx context.Context, first *pending) []*pending {
	batch := []*pending{first}
	wait := time.NewTimer(a.batchWait)
	defer wait.Stop()
	for {
		select {
		case next := <-a.requests:
			batch = append(batch, next)
		case <-wait.C:
			return batch
		case <-ctx.Done():
			return batch
		}
	}
}

func (a *allocator) answer(batch []*pending) {
	requests := make([]*allocation.AllocationRequest, len(batch))
	for i, request := range batch {
		requests[i] = request.in
	}
	for i, answer := range a.store.allocate(requests) {
		batch[i].answer <- answer
	}
}
