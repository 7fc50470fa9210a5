package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/xid"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/internal/broker"
)

// ErrNoClaim says that no host owns the group's room: it may be placed.
var ErrNoClaim = errors.New("registry: the group has no claim")

// ErrClaimLost says that somebody else wrote the claim meanwhile. Read it again: it says where the room is now.
var ErrClaimLost = errors.New("registry: the claim has changed")

// Claim is the record that a host owns a group's room.
type Claim struct {
	Group guildhall.Group
	Host  guildhall.HostName
	// Epoch is the revision of the write that gave the room to the host.
	Epoch guildhall.Epoch
	// Since is when that write was made, by the clock of NATS.
	Since time.Time
}

// SettleTime is how long whoever writes a claim may take to have the room opened, or to give the claim back.
const SettleTime = 3 * time.Second

// IsSettled says whether that time has passed, by this machine's clock and NATS's: a clock that goes wrong only makes
// somebody ask once more, or be sent on.
func (c Claim) IsSettled() bool { return time.Since(c.Since) > SettleTime }

// PlacedOn says where the room is, given the lease of the host that owns it.
func (c Claim) PlacedOn(host Lease) *guildhallv1.Placement {
	return &guildhallv1.Placement{
		Group: c.Group.String(), Host: string(c.Host), Address: host.Address, Epoch: uint64(c.Epoch),
	}
}

// claimRecord is a claim's value in the bucket; what else belongs to it is its key and its revision.
type claimRecord struct {
	Host guildhall.HostName `json:"host"`
	// Nonce tells a writer whose reply was lost that it was its own write.
	Nonce string `json:"nonce"`
}

// Claim reads the claim of a group; [ErrNoClaim] if there is none.
func (r *Registry) Claim(ctx context.Context, group guildhall.Group) (Claim, error) {
	entry, err := get(ctx, r.claims, group.Key())
	if errors.Is(err, jetstream.ErrKeyNotFound) || errors.Is(err, jetstream.ErrKeyDeleted) {
		return Claim{}, ErrNoClaim
	}
	if err != nil {
		return Claim{}, fmt.Errorf("reading the claim of %s: %w", group, err)
	}
	claim, _, err := decodeClaim(entry)
	return claim, err
}

func decodeClaim(entry jetstream.KeyValueEntry) (Claim, claimRecord, error) {
	group, err := guildhall.ParseGroupKey(entry.Key())
	if err != nil {
		return Claim{}, claimRecord{}, fmt.Errorf("registry: %w", err)
	}
	var record claimRecord
	if err := json.Unmarshal(entry.Value(), &record); err != nil {
		return Claim{}, claimRecord{}, fmt.Errorf("registry: the claim of %s does not decode: %w", group, err)
	}
	return Claim{
		Group: group, Host: record.Host, Epoch: guildhall.Epoch(entry.Revision()), Since: entry.Created(),
	}, record, nil
}

// Take gives a group's room to a host, over the claim of epoch over, or over none if that is 0. It is
// [ErrClaimLost] if the claim is another by now. Only one of several takers over the same epoch succeeds.
func (r *Registry) Take(ctx context.Context, group guildhall.Group, host guildhall.HostName, over guildhall.Epoch) (Claim, error) {
	record := claimRecord{Host: host, Nonce: xid.New().String()}
	value, err := json.Marshal(record)
	if err != nil {
		return Claim{}, fmt.Errorf("encoding the claim of %s: %w", group, err)
	}
	revision, err := broker.Write(ctx, func(ctx context.Context) (uint64, error) {
		if over == 0 {
			return r.claims.Create(ctx, group.Key(), value)
		}
		return r.claims.Update(ctx, group.Key(), value, uint64(over))
	})
	if err == nil {
		return Claim{Group: group, Host: host, Epoch: guildhall.Epoch(revision), Since: time.Now()}, nil
	}
	return r.afterTake(ctx, group, record, over, err)
}

// afterTake finds out how a write ended that did not say so. Even a refusal is no answer: the write may have been sent
// twice, and the second refused because of the first. A later claim is an answer even to a write of unknown outcome: that
// one is over, or will be refused.
func (r *Registry) afterTake(ctx context.Context, group guildhall.Group, mine claimRecord, over guildhall.Epoch, cause error) (Claim, error) {
	later := false
	entry, err := get(ctx, r.claims, group.Key())
	if err == nil {
		later = entry.Revision() > uint64(over)
		claim, record, err := decodeClaim(entry)
		if err == nil && record == mine {
			return claim, nil
		}
	}
	if later || isConflict(cause) {
		return Claim{}, ErrClaimLost
	}
	return Claim{}, fmt.Errorf("claiming %s for %s: %w", group, mine.Host, cause)
}

// isConflict says whether a write was refused because of another. The key-value client does not translate every such
// refusal: not that of a key made over a delete marker.
func isConflict(err error) bool {
	return errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch) || broker.IsWrongSequence(err)
}

// Release gives a claim back. One that is another by now is left alone, and that is no error.
func (r *Registry) Release(ctx context.Context, claim Claim) error {
	if claim.Epoch == 0 {
		return nil // no claim; NATS would take the 0 for "whatever is there"
	}
	err := r.purge(ctx, claimsBucket, claim.Group.Key(), uint64(claim.Epoch))
	if err == nil || isConflict(err) {
		return nil
	}
	return fmt.Errorf("releasing the claim of %s: %w", claim.Group, err)
}

// Claims lists every claim, by kind and id. A record that does not decode is left out, and the logger is told: it is one group's
// trouble, not everybody's.
func (r *Registry) Claims(ctx context.Context) ([]Claim, error) {
	var claims []Claim
	err := r.list(ctx, r.claims, func(entry jetstream.KeyValueEntry) {
		claim, _, err := decodeClaim(entry)
		if err != nil {
			r.logger.Error("a claim is left out", "key", entry.Key(), "error", err)
			return
		}
		claims = append(claims, claim)
	})
	if err != nil {
		return nil, fmt.Errorf("listing claims: %w", err)
	}
	slices.SortFunc(claims, func(a, b Claim) int {
		return cmp.Or(cmp.Compare(a.Group.Kind, b.Group.Kind), cmp.Compare(a.Group.ID, b.Group.ID))
	})
	return claims, nil
}
