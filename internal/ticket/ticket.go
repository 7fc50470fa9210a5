// Package ticket is how Guildhall writes what it means into Open Match's messages: the search fields of a
// ticket, the profiles that find it, and the details that ride in the extensions of tickets, matches and
// assignments.
package ticket

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"open-match.dev/open-match/pkg/pb"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

const (
	// argKind and argShard are the string arguments that profiles filter by; argGroup is for whoever looks.
	argKind  = "guildhall.kind"
	argShard = "guildhall.shard"
	argGroup = "guildhall.group"

	// extension is the key of our details in every extensions map.
	extension = "guildhall"
)

// ErrNotOurs says that a ticket, match or assignment carries no details of ours.
var ErrNotOurs = errors.New("no guildhall details in its extensions")

// Details is what a ticket says beyond its search fields.
type Details struct {
	Group guildhall.Group
	// Inbox is the NATS subject on which the frontend that filed it waits.
	Inbox string
	// ExpiresAt is when nobody waits for it any more.
	ExpiresAt time.Time
	// Traceparent is the trace in which it was filed, as package tracing writes it; empty if there is none.
	Traceparent string
}

// New makes the ticket of a group.
func New(details Details, shards int) (*pb.Ticket, error) {
	extensions, err := pack(&guildhallv1.TicketDetails{
		Group: details.Group.String(), Inbox: details.Inbox, ExpiresAt: timestamppb.New(details.ExpiresAt),
		Traceparent: details.Traceparent,
	})
	if err != nil {
		return nil, err
	}
	return &pb.Ticket{
		SearchFields: &pb.SearchFields{StringArgs: map[string]string{
			argKind:  string(details.Group.Kind),
			argShard: strconv.Itoa(details.Group.Shard(shards)),
			argGroup: details.Group.String(),
		}},
		Extensions: extensions,
	}, nil
}

// Read reads the details of a ticket; [ErrNotOurs] if it has none.
func Read(ticket *pb.Ticket) (Details, error) {
	var details guildhallv1.TicketDetails
	if err := unpack(ticket.GetExtensions(), &details); err != nil {
		return Details{}, fmt.Errorf("ticket %s: %w", ticket.GetId(), err)
	}
	group, err := guildhall.ParseGroup(details.GetGroup())
	if err != nil {
		return Details{}, fmt.Errorf("ticket %s: %w", ticket.GetId(), err)
	}
	return Details{
		Group: group, Inbox: details.GetInbox(), ExpiresAt: details.GetExpiresAt().AsTime(), Traceparent: details.GetTraceparent(),
	}, nil
}

// Traceparents gives the traces in which tickets were filed, without those that have none.
func Traceparents(tickets []*pb.Ticket) []string {
	var traces []string
	for _, t := range tickets {
		if details, err := Read(t); err == nil && details.Traceparent != "" {
			traces = append(traces, details.Traceparent)
		}
	}
	return traces
}

// Profile makes the match profile of one shard of a kind.
func Profile(kind guildhall.Kind, shard int) *pb.MatchProfile {
	name := fmt.Sprintf("%s/%d", kind, shard)
	return &pb.MatchProfile{Name: name, Pools: []*pb.Pool{{
		Name: name,
		StringEqualsFilters: []*pb.StringEqualsFilter{
			{StringArg: argKind, Value: string(kind)},
			{StringArg: argShard, Value: strconv.Itoa(shard)},
		},
	}}}
}

// MatchExtensions makes the extensions of a match.
func MatchExtensions(details *guildhallv1.MatchDetails) (map[string]*anypb.Any, error) {
	return pack(details)
}

// ReadMatch reads the details of a match; [ErrNotOurs] if it has none.
func ReadMatch(match *pb.Match) (*guildhallv1.MatchDetails, error) {
	details := &guildhallv1.MatchDetails{}
	if err := unpack(match.GetExtensions(), details); err != nil {
		return nil, fmt.Errorf("match %s: %w", match.GetMatchId(), err)
	}
	return details, nil
}

// Assignment makes the assignment for a placement.
func Assignment(placement *guildhallv1.Placement) (*pb.Assignment, error) {
	extensions, err := pack(placement)
	if err != nil {
		return nil, err
	}
	return &pb.Assignment{Connection: placement.GetAddress(), Extensions: extensions}, nil
}

// ReadAssignment reads the placement of an assignment; [ErrNotOurs] if it has none.
func ReadAssignment(assignment *pb.Assignment) (*guildhallv1.Placement, error) {
	placement := &guildhallv1.Placement{}
	if err := unpack(assignment.GetExtensions(), placement); err != nil {
		return nil, fmt.Errorf("assignment to %s: %w", assignment.GetConnection(), err)
	}
	return placement, nil
}

func pack(details proto.Message) (map[string]*anypb.Any, error) {
	packed, err := anypb.New(details)
	if err != nil {
		return nil, fmt.Errorf("packing %T: %w", details, err)
	}
	return map[string]*anypb.Any{extension: packed}, nil
}

func unpack(extensions map[string]*anypb.Any, into proto.Message) error {
	packed, found := extensions[extension]
	if !found {
		return ErrNotOurs
	}
	return packed.UnmarshalTo(into)
}
