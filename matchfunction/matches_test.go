package matchfunction

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"open-match.dev/open-match/pkg/pb"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/internal/ticket"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// filed makes a ticket of a group that expires so long after now.
func filed(t testing.TB, id, group string, expires time.Duration) *pb.Ticket {
	t.Helper()
	parsed, err := guildhall.ParseGroup(group)
	if err != nil {
		t.Fatal(err)
	}
	made, err := ticket.New(ticket.Details{Group: parsed, Inbox: "inbox", ExpiresAt: now.Add(expires)}, 1)
	if err != nil {
		t.Fatal(err)
	}
	made.Id = id
	return made
}

// foreign makes a ticket that is not ours.
func foreign(id string) *pb.Ticket { return &pb.Ticket{Id: id} }

// counter gives ids 1, 2, ….
func counter() func() string {
	n := 0
	return func() string { n++; return fmt.Sprint(n) }
}

// summary gives matches as text: `guild:a(t1 t2)`.
func summary(t testing.TB, matches []*pb.Match) string {
	t.Helper()
	var parts []string
	for _, match := range matches {
		details, err := ticket.ReadMatch(match)
		if err != nil {
			t.Fatal(err)
		}
		name := details.GetGroup()
		if details.GetExpired() {
			name += "expired"
		}
		var ids []string
		for _, one := range match.GetTickets() {
			ids = append(ids, one.GetId())
		}
		parts = append(parts, name+"("+strings.Join(ids, " ")+")")
	}
	return strings.Join(parts, " ")
}

func TestMatches(t *testing.T) {
	t.Parallel()
	const later = time.Second
	broken := filed(t, "broken", "guild:a", later)
	broken.Extensions["guildhall"] = &anypb.Any{TypeUrl: "type.googleapis.com/nobody"}
	for _, test := range []struct {
		name    string
		tickets []*pb.Ticket
		want    string
		foreign int
	}{
		{"none", nil, "", 0},
		{"one", []*pb.Ticket{filed(t, "1", "guild:a", later)}, "guild:a(1)", 0},
		{"one group", []*pb.Ticket{filed(t, "1", "guild:a", later), filed(t, "2", "guild:a", later)}, "guild:a(1 2)", 0},
		{"in the order of the groups' first tickets", []*pb.Ticket{
			filed(t, "1", "guild:z", later), filed(t, "2", "guild:a", later), filed(t, "3", "party:z", later), filed(t, "4", "guild:z", later),
		}, "guild:z(1 4) guild:a(2) party:z(3)", 0},
		{"groups that differ in little", []*pb.Ticket{
			filed(t, "1", "guild:a", later), filed(t, "2", "guild:A", later), filed(t, "3", "party:a", later), filed(t, "4", "guild:a:", later),
		}, "guild:a(1) guild:A(2) party:a(3) guild:a:(4)", 0},
		{"expired", []*pb.Ticket{filed(t, "1", "guild:a", -later), filed(t, "2", "guild:b", -later)}, "expired(1 2)", 0},
		{"expires at this instant", []*pb.Ticket{filed(t, "1", "guild:a", 0), filed(t, "2", "guild:a", 1)}, "guild:a(2) expired(1)", 0},
		{"the expired come last", []*pb.Ticket{
			filed(t, "1", "guild:a", -later), filed(t, "2", "guild:a", later), filed(t, "3", "guild:b", later), filed(t, "4", "guild:b", -later),
		}, "guild:a(2) guild:b(3) expired(1 4)", 0},
		{"foreign are left", []*pb.Ticket{foreign("1"), filed(t, "2", "guild:a", later), broken, nil}, "guild:a(2)", 3},
		{"foreign only", []*pb.Ticket{foreign("1")}, "", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			matches, foreign, err := Matches("guild/0", test.tickets, now, counter())
			if err != nil {
				t.Fatal(err)
			}
			if got := summary(t, matches); got != test.want || foreign != test.foreign {
				t.Errorf("%s and %d foreign, want %s and %d", got, foreign, test.want, test.foreign)
			}
			for i, match := range matches {
				isExpired := strings.HasPrefix(summary(t, matches[i:i+1]), "expired")
				if match.GetMatchProfile() != "guild/0" || match.GetMatchFunction() != functionName || match.GetMatchId() != fmt.Sprint(i+1) ||
					match.GetAllocateGameserver() == isExpired {
					t.Errorf("match %d: %v", i, match)
				}
			}
		})
	}
}

// A proposal that Open Match's backend cannot take fails the run, and so all later ones.
func TestManyExpiredFitOpenMatch(t *testing.T) {
	t.Parallel()
	var tickets []*pb.Ticket
	group := "guild:" + strings.Repeat("=", guildhall.MaxGroupIDBytes)
	for n := range 5*expiredPerMatch + 1 {
		tickets = append(tickets, filed(t, fmt.Sprint(n), group, -time.Minute))
	}
	matches, _, err := Matches("guild/0", tickets, now, counter())
	if err != nil || len(matches) != 6 {
		t.Fatalf("%d matches, %v; want 6", len(matches), err)
	}
	reaped := 0
	for _, match := range matches {
		details, err := ticket.ReadMatch(match)
		if err != nil || !details.GetExpired() {
			t.Errorf("match %s is not of expired tickets: %v", match.GetMatchId(), err)
		}
		if size := proto.Size(match); size > 2<<20 {
			t.Errorf("a match of %d tickets has %d bytes", len(match.GetTickets()), size)
		}
		reaped += len(match.GetTickets())
	}
	if reaped != len(tickets) {
		t.Errorf("%d of %d expired tickets are in matches", reaped, len(tickets))
	}
}

// FuzzMatches reads a crowd from bytes, one ticket each, and holds what must be so of any crowd.
func FuzzMatches(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 1, 2, 3, 0, 1, 2, 3})
	f.Add([]byte("the quick brown fox jumps over the lazy dog"))
	f.Add([]byte{0xff, 0x80, 0x40, 0x20, 0x10, 0x08, 0xff})
	f.Fuzz(func(t *testing.T, crowd []byte) {
		crowd = crowd[:min(len(crowd), 500)]
		var tickets []*pb.Ticket
		for i, b := range crowd {
			tickets = append(tickets, ticketOf(t, fmt.Sprint(i), b))
		}
		before := make([]*pb.Ticket, len(tickets))
		for i, one := range tickets {
			before[i] = proto.CloneOf(one)
		}
		matches, foreign, err := Matches("p", tickets, now, counter())
		if err != nil {
			t.Fatal(err)
		}
		checkCrowd(t, tickets, matches, foreign)
		again, _, err := Matches("p", tickets, now, counter())
		if err != nil || !reflect.DeepEqual(summary(t, matches), summary(t, again)) {
			t.Errorf("the same tickets gave %s and then %s, %v", summary(t, matches), summary(t, again), err)
		}
		for i, one := range tickets {
			if !proto.Equal(one, before[i]) {
				t.Errorf("ticket %d was changed", i)
			}
		}
	})
}

// ticketOf makes a ticket of a byte: its group, whether it has expired, and whether it is ours.
func ticketOf(t testing.TB, id string, b byte) *pb.Ticket {
	t.Helper()
	if b%16 == 15 {
		return foreign(id)
	}
	expires := time.Minute
	if b&0x80 != 0 {
		expires = -time.Minute
	}
	return filed(t, id, fmt.Sprintf("guild:%d", b%16), expires)
}

// checkCrowd sees that each ticket of ours is in one match, with its like only, in order.
func checkCrowd(t *testing.T, tickets []*pb.Ticket, matches []*pb.Match, foreignCount int) {
	t.Helper()
	place := map[*pb.Ticket]int{}
	for i, one := range tickets {
		place[one] = i
	}
	seen, names, ids := map[*pb.Ticket]bool{}, map[string]bool{}, map[string]bool{}
	first := -1
	for i, match := range matches {
		details, err := ticket.ReadMatch(match)
		if err != nil || len(match.GetTickets()) == 0 || names[details.GetGroup()] || ids[match.GetMatchId()] {
			t.Fatalf("match %d is empty, stands twice or is none of ours: %v, %v", i, match, err)
		}
		names[details.GetGroup()], ids[match.GetMatchId()] = true, true
		if start := place[match.GetTickets()[0]]; !details.GetExpired() && start < first {
			t.Errorf("match %d begins with ticket %d, behind one that begins with %d", i, start, first)
		} else {
			first = start
		}
		last := -1
		for _, one := range match.GetTickets() {
			read, err := ticket.Read(one)
			if err != nil || seen[one] || place[one] <= last || details.GetExpired() != !read.ExpiresAt.After(now) {
				t.Errorf("ticket %s does not belong in match %s: %v", one.GetId(), summary(t, matches[i:i+1]), err)
			}
			if !details.GetExpired() && read.Group.String() != details.GetGroup() {
				t.Errorf("ticket of %s is in the match of %s", read.Group, details.GetGroup())
			}
			seen[one], last = true, place[one]
		}
		if details.GetExpired() && i != len(matches)-1 {
			t.Error("the match of the expired is not the last") // they are too few for two
		}
	}
	if len(seen)+foreignCount != len(tickets) {
		t.Errorf("%d tickets are in matches and %d are foreign, of %d", len(seen), foreignCount, len(tickets))
	}
}

func BenchmarkMatches(b *testing.B) {
	for _, size := range []int{100, 10_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			var tickets []*pb.Ticket
			for n := range size {
				tickets = append(tickets, filed(b, fmt.Sprint(n), fmt.Sprintf("guild:%d", n%(size/20)), time.Minute))
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := Matches("guild/0", tickets, now, counter()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
