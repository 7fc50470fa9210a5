package client_test

import (
	"testing"

	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
)

// A player is sent to the host that had the room before: it is cut off and does not know. Its log ends before what the
// player has seen, and that is no reason to see it again.
func TestSeatInAnEarlierEpochIsNotTaken(t *testing.T) {
	both(t, func(t *testing.T, b *bundle) {
		p := b.joins()
		v := b.visited()
		v.welcome(&guildhallv1.Welcome{Epoch: 9, Members: []string{"p1"}, LastSeq: 5})
		v.shows(6, 7, 8)
		p.sees(6, 8)
		v.breaks()
		v = b.visited()
		v.welcome(&guildhallv1.Welcome{Epoch: 7, Members: []string{"p1"}, LastSeq: 5})
		v = b.visited()
		if v.hello.GetAfter() != 8 {
			t.Errorf("it comes back behind number %d, and had seen 8", v.hello.GetAfter())
		}
		v.welcome(&guildhallv1.Welcome{Epoch: 9, Members: []string{"p1"}, LastSeq: 9})
		v.shows(9)
		p.sees(6, 9)
	})
}
