package director

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	allocation "agones.dev/agones/pkg/allocation/go"
	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"open-match.dev/open-match/pkg/pb"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/broker"
	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/internal/registry"
	"github.com/guildhall-dev/guildhall/internal/ticket"
)

// smallOpenMatch is what a director needs of Open Match: it gives out the matches that the test puts in, and tells
// the test what became of tickets.
type smallOpenMatch struct {
	pb.UnimplementedBackendServiceServer
	pb.UnimplementedFrontendServiceServer
	matches  chan *pb.Match
	fetchErr chan error
	fates    chan string // "assigned t1", "released t1", "deleted t1"
}

// FetchMatches gives the next match, or the next error.
func (o *smallOpenMatch) FetchMatches(request *pb.FetchMatchesRequest, stream pb.BackendService_FetchMatchesServer) error {
	if request.GetConfig().GetHost() == "" || request.GetProfile().GetName() != "guild/0" {
		return status.Errorf(codes.InvalidArgument, "fetched by %v", request)
	}
	select {
	case match := <-o.matches:
		return stream.Send(&pb.FetchMatchesResponse{Match: match})
	case err := <-o.fetchErr:
		return err
	case <-stream.Context().Done():
		return stream.Context().Err()
	}
}

// AssignTickets tells the test.
func (o *smallOpenMatch) AssignTickets(_ context.Context, request *pb.AssignTicketsRequest) (*pb.AssignTicketsResponse, error) {
	for _, group := range request.GetAssignments() {
		for _, id := range group.GetTicketIds() {
			o.fates <- "assigned " + id
		}
	}
	return &pb.AssignTicketsResponse{}, nil
}

// ReleaseTickets tells the test.
func (o *smallOpenMatch) ReleaseTickets(_ context.Context, request *pb.ReleaseTicketsRequest) (*pb.ReleaseTicketsResponse, error) {
	for _, id := range request.GetTicketIds() {
		o.fates <- "released " + id
	}
	return &pb.ReleaseTicketsResponse{}, nil
}

// DeleteTicket tells the test.
func (o *smallOpenMatch) DeleteTicket(_ context.Context, request *pb.DeleteTicketRequest) (*emptypb.Empty, error) {
	o.fates <- "deleted " + request.GetTicketId()
	return &emptypb.Empty{}, nil
}

// running is a director that runs.
type running struct {
	*world
	openmatch *smallOpenMatch
	director  *Director
}

func setupDirector(t *testing.T) *running {
	return setupDirectorWith(t, func(w *world) AgonesConfig {
		agones := grpc.NewServer()
		allocation.RegisterAllocationServiceServer(agones, w.allocator)
		return AgonesConfig{AgonesAllocator: w.serve(agones), AgonesFleet: "rooms"}
	})
}

func setupDirectorWith(t *testing.T, agones func(w *world) AgonesConfig) *running {
	r := &running{world: setup(t), openmatch: &smallOpenMatch{
		matches: make(chan *pb.Match), fetchErr: make(chan error), fates: make(chan string, 100),
	}}
	openmatch := grpc.NewServer()
	pb.RegisterBackendServiceServer(openmatch, r.openmatch)
	pb.RegisterFrontendServiceServer(openmatch, r.openmatch)
	address := r.serve(openmatch)
	d, err := New(Config{
		Common: process.Common{AdminListen: "127.0.0.1:0"}, Config: broker.Config{NATS: r.url}, Listen: "127.0.0.1:0",
		Kinds:            guildhall.Kinds{"guild": {Capacity: 10, IdleGrace: time.Minute, History: 10}},
		OpenmatchBackend: address, OpenmatchFrontend: address, MatchfunctionAdvertise: "127.0.0.1:50502",
		AgonesConfig: agones(r.world), RetryAfter: time.Millisecond, Headroom: NoHeadroom, LeaseTTL: lasting,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.director = d
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the director ended: %v", err)
		}
	})
	select {
	case <-d.Started():
	case <-r.ctx.Done():
		t.Fatal("the director never starts")
	}
	return r
}

// fate puts a match in and gives what became of its ticket.
func (r *running) fate(match *pb.Match) string {
	r.t.Helper()
	r.openmatch.matches <- match
	select {
	case fate := <-r.openmatch.fates:
		return fate
	case <-r.ctx.Done():
		r.t.Fatal("nothing becomes of the match")
		return ""
	}
}

// matchOf makes a match with details.
func (r *running) matchOf(id string, details *guildhallv1.MatchDetails) *pb.Match {
	r.t.Helper()
	extensions, err := ticket.MatchExtensions(details)
	if err != nil {
		r.t.Fatal(err)
	}
	return &pb.Match{MatchId: "m-" + id, Tickets: []*pb.Ticket{{Id: id}}, Extensions: extensions}
}

func TestEveryMatchIsSeenThrough(t *testing.T) {
	r := setupDirector(t)
	if got := r.fate(r.matchOf("t1", &guildhallv1.MatchDetails{Group: "guild:g1"})); got != "released t1" {
		t.Errorf("without a host: %s", got)
	}
	h := r.host("h", registry.HostAllocated, 10)
	r.await(r.director.placer, h)
	for id, c := range map[string]struct {
		details *guildhallv1.MatchDetails
		want    string
	}{
		"t2": {&guildhallv1.MatchDetails{Group: "guild:g1"}, "assigned t2"},
		"t3": {&guildhallv1.MatchDetails{Expired: true}, "deleted t3"},
		"t4": {&guildhallv1.MatchDetails{Group: "no group"}, "released t4"},
	} {
		if got := r.fate(r.matchOf(id, c.details)); got != c.want {
			t.Errorf("%v: %s, want %s", c.details, got, c.want)
		}
	}
	if got := r.fate(&pb.Match{MatchId: "m5", Tickets: []*pb.Ticket{{Id: "t5"}}}); got != "released t5" {
		t.Errorf("a match that is not ours: %s", got)
	}
}

// From the configuration to the assigned ticket, by each door.
func TestAMatchIsAssignedByEachDoor(t *testing.T) {
	for _, kind := range []Door{DoorAllocator, DoorKubernetes} {
		t.Run(string(kind), func(t *testing.T) {
			r := setupDirectorWith(t, func(w *world) AgonesConfig {
				d := newDoorway(t, w.ctx, w.allocator)
				d.serveDoor(kind)
				d.config.AgonesFleet = "rooms"
				return d.config
			})
			r.ready(r.director.placer, 10, "a")
			if got := r.fate(r.matchOf("t1", &guildhallv1.MatchDetails{Group: "guild:g1"})); got != "assigned t1" || r.allocator.gave() != 1 {
				t.Errorf("%s, with %d hosts", got, r.allocator.gave())
			}
		})
	}
}

// What a director's death costs can be seen: how old tickets are when their match is fetched.
func TestTicketAgeIsShown(t *testing.T) {
	r := setupDirector(t)
	h := r.host("h", registry.HostAllocated, 10)
	r.await(r.director.placer, h)
	old, future := r.matchOf("t1", &guildhallv1.MatchDetails{Group: "guild:g1"}), r.matchOf("t2", &guildhallv1.MatchDetails{Group: "guild:g1"})
	old.Tickets[0].CreateTime = timestamppb.New(time.Now().Add(-70 * time.Second))
	future.Tickets[0].CreateTime = timestamppb.New(time.Now().Add(time.Hour)) // by a clock that is wrong
	for _, match := range []*pb.Match{old, future, r.matchOf("t3", &guildhallv1.MatchDetails{Group: "guild:g1"})} {
		r.fate(match)
	}
	families, err := r.director.config.Metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "guildhall_director_ticket_age_seconds" {
			continue
		}
		if ages := family.GetMetric()[0].GetHistogram(); ages.GetSampleCount() != 2 || ages.GetSampleSum() < 70 || ages.GetSampleSum() > 100 {
			t.Errorf("the ages are %v, want one of 70s and one of none", ages)
		}
		return
	}
	t.Error("no age is shown")
}

func TestFetchingGoesOnAfterAFailure(t *testing.T) {
	r := setupDirector(t)
	h := r.host("h", registry.HostAllocated, 10)
	r.await(r.director.placer, h)
	for range 3 {
		r.openmatch.fetchErr <- status.Error(codes.Unavailable, "as the test wants")
	}
	if got := r.fate(r.matchOf("t1", &guildhallv1.MatchDetails{Group: "guild:g1"})); got != "assigned t1" {
		t.Error(got)
	}
	if n := counted(t, r.director.metrics.fetches, "failed"); n != 3 {
		t.Errorf("%v failed fetches are counted, want 3", n)
	}
}

func TestOperatorLists(t *testing.T) {
	r := setupDirector(t)
	h := r.host("h", registry.HostAllocated, 10)
	r.await(r.director.placer, h)
	if _, err := r.director.placer.Place(r.ctx, testGroup(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.registry.Take(r.ctx, testGroup(2), "nobody", 0); err != nil {
		t.Fatal(err)
	}
	o := &operator{registry: r.director.registry, hosts: r.director.placer.hosts}
	list := func() []*guildhallv1.Room {
		rooms, err := o.ListRooms(r.ctx, connect.NewRequest(&guildhallv1.ListRoomsRequest{}))
		if err != nil || len(rooms.Msg.GetRooms()) != 2 {
			t.Fatalf("rooms: %v, %v", rooms, err)
		}
		return rooms.Msg.GetRooms()
	}
	rooms := list()
	for rooms[0].Members == nil { // its host was too busy to tell
		rooms = list()
	}
	if room := rooms[0]; room.GetGroup() != "guild:g1" || room.GetHost() != "h" || room.GetMembers() != 7 && room.GetEpoch() == 1 {
		t.Errorf("the first room is %v", room)
	}
	if room := rooms[1]; room.Members != nil {
		t.Errorf("a host that nobody reached told of %d members", room.GetMembers())
	}
	hosts, err := o.ListHosts(r.ctx, connect.NewRequest(&guildhallv1.ListHostsRequest{}))
	if err != nil || len(hosts.Msg.GetHosts()) != 1 || hosts.Msg.GetHosts()[0].GetState() != "allocated" {
		t.Errorf("hosts: %v, %v", hosts, err)
	}
}

func TestNewSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	used, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer used.Close()
	for says, config := range map[string]Config{
		"GUILDHALL_SHARDS":                  {Shards: -1},
		"GUILDHALL_PLACEMENTS":              {Placements: -1},
		"GUILDHALL_MATCHFUNCTION_ADVERTISE": {MatchfunctionAdvertise: "nowhere"},
		"GUILDHALL_LISTEN":                  {Common: process.Common{AdminListen: "127.0.0.1:0"}, Listen: used.Addr().String()},
		"GUILDHALL_ADMIN_LISTEN":            {Common: process.Common{AdminListen: used.Addr().String()}},
		"GUILDHALL_NATS":                    {Common: process.Common{AdminListen: "127.0.0.1:0"}, Listen: "127.0.0.1:0", Config: broker.Config{NATS: "nats://127.0.0.1:1"}},
	} {
		if d, err := New(config); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("New gave %v, %v; want an error that names %s", d, err, says)
		}
	}
}

// Nothing leaks: the claim of a dead host goes, that of a living one stays.
func TestReapClaimsOfTheDead(t *testing.T) {
	r := setupDirector(t)
	alive := r.host("alive", registry.HostAllocated, 10)
	r.await(r.director.placer, alive)
	if _, err := r.registry.Take(r.ctx, testGroup(0), "dead", 0); err != nil {
		t.Fatal(err)
	}
	r.mustPlace(r.director.placer, testGroup(1))
	reaper := r.director.placer.reaper
	for look := range 2 {
		if _, err := r.registry.Claim(r.ctx, testGroup(0)); err != nil {
			t.Errorf("reaped at look %d, and the host may only have been late: %v", look, err)
		}
		if err := reaper.reap(r.ctx); err != nil {
			t.Fatal(err)
		}
	}
	if claim, err := r.registry.Claim(r.ctx, testGroup(0)); !errors.Is(err, registry.ErrNoClaim) {
		t.Errorf("the claim of the dead is left: %+v, %v", claim, err)
	}
	if _, err := r.registry.Claim(r.ctx, testGroup(1)); err != nil {
		t.Errorf("the claim of the living is gone: %v", err)
	}
}

// That claims could not be looked through is counted: whoever waits for a reaper that cannot see shall know.
func TestAReaperThatCannotSeeIsCounted(t *testing.T) {
	r := setupDirector(t)
	reaper := r.director.placer.reaper
	passed := counted(t, reaper.metrics.reaps, "passed")
	reaper.look(r.ctx)
	if n := counted(t, reaper.metrics.reaps, "passed"); n < passed+1 {
		t.Errorf("%v looks have passed, want one more than %v", n, passed)
	}
	r.director.nats.Close()
	reaper.look(r.ctx)
	if n := counted(t, reaper.metrics.reaps, "failed"); n < 1 {
		t.Errorf("%v looks have failed, and NATS is away", n)
	}
}

// A claim whose room was never opened, for its director died, or that could not be given back when the room ended: its
// host lives, and is asked. Not before the second look, for a room may be about to be opened.
func TestReapClaimsWithoutARoom(t *testing.T) {
	r := setupDirector(t)
	h := r.host("h", registry.HostAllocated, 10)
	r.await(r.director.placer, h)
	r.mustPlace(r.director.placer, testGroup(0))
	if _, err := r.registry.Take(r.ctx, testGroup(1), "h", 0); err != nil {
		t.Fatal(err)
	}
	reaper := r.director.placer.reaper
	for look := range 2 {
		if _, err := r.registry.Claim(r.ctx, testGroup(1)); err != nil {
			t.Errorf("reaped at look %d, and the room may be about to be opened: %v", look, err)
		}
		if err := reaper.reap(r.ctx); err != nil {
			t.Fatal(err)
		}
	}
	if claim, err := r.registry.Claim(r.ctx, testGroup(1)); !errors.Is(err, registry.ErrNoClaim) {
		t.Errorf("the claim without a room is left: %+v, %v", claim, err)
	}
	if _, err := r.registry.Claim(r.ctx, testGroup(0)); err != nil {
		t.Errorf("the claim of a live room is gone: %v", err)
	}
}

// Work that was taken in is finished when intake has stopped, and forced after the grace.
func TestWorkOutlivesIntake(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		intake, stop := context.WithCancel(t.Context())
		w := newWork(intake, 2, time.Minute)
		finished, forced := false, false
		w.do(func(ctx context.Context) {
			process.Sleep(ctx, 30*time.Second)
			finished = ctx.Err() == nil
		})
		w.do(func(ctx context.Context) {
			<-ctx.Done()
			forced = true
		})
		stop()
		start := time.Now()
		w.wait()
		if !finished || !forced || time.Since(start) != time.Minute {
			t.Errorf("finished %v, forced %v after %s", finished, forced, time.Since(start))
		}
	})
}

func TestHostsForgetsSeats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHosts(dialHost)
		leases := []registry.Lease{{Host: "h", State: registry.HostAllocated, RoomsCapacity: 1}}
		_, first := h.choose(leases, nil)
		if first == nil {
			t.Fatal("no seat on an empty host")
		}
		if _, second := h.choose(leases, nil); second != nil {
			t.Error("two seats on a host for one")
		}
		h.settle(first)
		_, second := h.choose(leases, nil)
		if second == nil {
			t.Fatal("a seat that was not taken is still kept")
		}
		h.settle(first) // of an attempt that is over, it is nobody's
		if _, third := h.choose(leases, nil); third != nil {
			t.Error("a seat was given away twice")
		}
		h.told("h", 1)
		h.settle(second)
		if _, third := h.choose(leases, nil); third != nil {
			t.Error("a room that no lease counts yet was not counted")
		}
		h.told("h", 0) // an answer that was overtaken
		if _, third := h.choose(leases, nil); third != nil {
			t.Error("a host's earlier answer was taken for its last word")
		}
		<-time.After(wordFor + time.Millisecond) // the bubble's time
		if _, third := h.choose(leases, nil); third == nil {
			t.Error("a seat is kept although the lease would show the room")
		}
	})
}

func TestMutexCanBeGivenUp(t *testing.T) {
	t.Parallel()
	m := newMutex()
	if err := m.lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.lock(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("locked twice: %v", err)
	}
	m.unlock()
}
