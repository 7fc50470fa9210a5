package matchfunction

import (
	"slices"
	"time"

	"open-match.dev/open-match/pkg/pb"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/ticket"
)

// functionName is Match.match_function of every match made here.
const functionName = "guildhall"

// expiredPerMatch bounds a match of expired tickets. Open Match's backend takes proposals of 4 MiB at most, and one
// that it cannot take fails the whole run, then and ever after.
const expiredPerMatch = 1000

// Matches makes one match for each group among the tickets, in the order of the groups' first tickets, and more
// of all tickets that had expired at the instant now, for the director to delete. Tickets that are not
// Guildhall's are left where they are and counted. newID gives match ids; two matches of one synchronizer cycle
// must not share one, whichever process made them.
//
// It is pure: the same tickets give the same matches.
func Matches(profile string, tickets []*pb.Ticket, now time.Time, newID func() string) (matches []*pb.Match, foreign int, err error) {
	var order []guildhall.Group
	byGroup := map[guildhall.Group][]*pb.Ticket{}
	var expired []*pb.Ticket
	for _, t := range tickets {
		details, err := ticket.Read(t)
		switch {
		case err != nil:
			foreign++
		case !details.ExpiresAt.After(now):
			expired = append(expired, t)
		default:
			if byGroup[details.Group] == nil {
				order = append(order, details.Group)
			}
			byGroup[details.Group] = append(byGroup[details.Group], t)
		}
	}
	add := func(details *guildhallv1.MatchDetails, tickets []*pb.Ticket) error {
		extensions, err := ticket.MatchExtensions(details)
		matches = append(matches, &pb.Match{
			MatchId: newID(), MatchProfile: profile, MatchFunction: functionName,
			Tickets: tickets, Extensions: extensions, AllocateGameserver: !details.GetExpired(),
		})
		return err
	}
	for _, group := range order {
		if err := add(&guildhallv1.MatchDetails{Group: group.String()}, byGroup[group]); err != nil {
			return nil, foreign, err
		}
	}
	for some := range slices.Chunk(expired, expiredPerMatch) {
		if err := add(&guildhallv1.MatchDetails{Expired: true}, some); err != nil {
			return nil, foreign, err
		}
	}
	return matches, foreign, nil
}
