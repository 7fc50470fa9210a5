package ticket

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	"open-match.dev/open-match/pkg/pb"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

var dragons = guildhall.Group{Kind: "guild", ID: "drägons:1"}

func TestTicketRoundTrip(t *testing.T) {
	t.Parallel()
	for _, want := range []Details{
		{Group: dragons, Inbox: "_INBOX.abc", ExpiresAt: time.Now().UTC().Round(0)},
		{Group: guildhall.Group{Kind: "party", ID: "42"}, ExpiresAt: time.Unix(0, 1).UTC()},
	} {
		made, err := New(want, 4)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Read(overTheWire(t, made)); err != nil || got != want {
			t.Errorf("Read = %+v, %v; want %+v", got, err, want)
		}
	}
}

// overTheWire gives what Open Match gives back of what it was given.
func overTheWire[M proto.Message](t *testing.T, sent M) M {
	t.Helper()
	data, err := proto.Marshal(sent)
	if err != nil {
		t.Fatal(err)
	}
	got := sent.ProtoReflect().New().Interface().(M)
	if err := proto.Unmarshal(data, got); err != nil {
		t.Fatal(err)
	}
	return got
}

// TestOneProfileFindsTheTicket holds New and Profile together: every ticket is in exactly one profile's pool.
func TestOneProfileFindsTheTicket(t *testing.T) {
	t.Parallel()
	const shards = 5
	for n := range 100 {
		group := guildhall.Group{Kind: []guildhall.Kind{"guild", "party"}[n%2], ID: strconv.Itoa(n)}
		made, err := New(Details{Group: group}, shards)
		if err != nil {
			t.Fatal(err)
		}
		var found []string
		for _, kind := range []guildhall.Kind{"guild", "party"} {
			for shard := range shards {
				profile := Profile(kind, shard)
				if len(profile.GetPools()) != 1 {
					t.Fatalf("profile %s has %d pools", profile.GetName(), len(profile.GetPools()))
				}
				if finds(profile.GetPools()[0], made) {
					found = append(found, profile.GetName())
				}
			}
		}
		if len(found) != 1 {
			t.Errorf("the ticket of %s is in the pools of %v, want one", group, found)
		}
	}
}

func finds(pool *pb.Pool, ticket *pb.Ticket) bool {
	for _, filter := range pool.GetStringEqualsFilters() {
		if value, found := ticket.GetSearchFields().GetStringArgs()[filter.GetStringArg()]; !found || value != filter.GetValue() {
			return false
		}
	}
	return true
}

func TestMatchAndAssignmentRoundTrip(t *testing.T) {
	t.Parallel()
	details := &guildhallv1.MatchDetails{Group: dragons.String()}
	extensions, err := MatchExtensions(details)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ReadMatch(overTheWire(t, &pb.Match{Extensions: extensions})); err != nil || !proto.Equal(got, details) {
		t.Errorf("ReadMatch = %v, %v; want %v", got, err, details)
	}
	placement := &guildhallv1.Placement{Group: dragons.String(), Host: "h", Address: "10.0.0.1:7000", Epoch: 1<<64 - 1}
	assignment, err := Assignment(placement)
	if err != nil {
		t.Fatal(err)
	}
	if assignment.GetConnection() != placement.GetAddress() {
		t.Errorf("the assignment connects to %q, want %q", assignment.GetConnection(), placement.GetAddress())
	}
	if got, err := ReadAssignment(overTheWire(t, assignment)); err != nil || !proto.Equal(got, placement) {
		t.Errorf("ReadAssignment = %v, %v; want %v", got, err, placement)
	}
}

func TestNotOurs(t *testing.T) {
	t.Parallel()
	for name, extensions := range map[string]map[string]*anypb.Any{
		"none":         nil,
		"somebody's":   {"other": {}},
		"another case": {"Guildhall": {}},
	} {
		if _, err := Read(&pb.Ticket{Extensions: extensions}); !errors.Is(err, ErrNotOurs) {
			t.Errorf("Read, extensions %s: %v, want ErrNotOurs", name, err)
		}
		if _, err := ReadMatch(&pb.Match{Extensions: extensions}); !errors.Is(err, ErrNotOurs) {
			t.Errorf("ReadMatch, extensions %s: %v, want ErrNotOurs", name, err)
		}
		if _, err := ReadAssignment(&pb.Assignment{Extensions: extensions}); !errors.Is(err, ErrNotOurs) {
			t.Errorf("ReadAssignment, extensions %s: %v, want ErrNotOurs", name, err)
		}
	}
	if _, err := Read(nil); !errors.Is(err, ErrNotOurs) {
		t.Errorf("Read of none: %v, want ErrNotOurs", err)
	}
}

func TestBrokenDetails(t *testing.T) {
	t.Parallel()
	ticketDetails := func(group string) *anypb.Any { return packed(t, &guildhallv1.TicketDetails{Group: group}) }
	for name, broken := range map[string]*anypb.Any{
		"nil":          nil,
		"empty":        {},
		"another type": packed(t, wrapperspb.String("x")),
		"cut off":      {TypeUrl: ticketDetails("guild:x").GetTypeUrl(), Value: []byte{0x0a, 0xff}},
		"no group":     ticketDetails(""),
		"bad group":    ticketDetails("Guild:x"),
	} {
		if got, err := Read(&pb.Ticket{Id: "t1", Extensions: map[string]*anypb.Any{extension: broken}}); err == nil || got != (Details{}) {
			t.Errorf("%s: Read = %+v, %v; want an error", name, got, err)
		}
	}
}

func packed(t *testing.T, details proto.Message) *anypb.Any {
	t.Helper()
	extensions, err := pack(details)
	if err != nil {
		t.Fatal(err)
	}
	return extensions[extension]
}

func FuzzRead(f *testing.F) {
	made, err := New(Details{Group: dragons, Inbox: "i", ExpiresAt: time.Unix(1, 2)}, 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(made.GetExtensions()[extension].GetTypeUrl(), made.GetExtensions()[extension].GetValue())
	f.Add("", []byte{})
	f.Add("type.googleapis.com/nobody", []byte("x"))
	f.Fuzz(func(t *testing.T, url string, value []byte) {
		read, err := Read(&pb.Ticket{Extensions: map[string]*anypb.Any{extension: {TypeUrl: url, Value: value}}})
		if err != nil {
			return
		}
		if _, err := guildhall.ParseGroup(read.Group.String()); err != nil {
			t.Errorf("Read gave group %+v: %v", read.Group, err)
		}
	})
}
