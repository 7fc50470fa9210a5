package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/internal/broker"
)

// Ban says that a player may not be in a group's room.
type Ban struct {
	// Since is when the ban was made, by the clock of who made it; Registry.Ban sets it.
	Since time.Time `json:"since"`
	// Until is when it ends by itself; zero is never.
	Until  time.Time `json:"until,omitzero"`
	Reason string    `json:"reason,omitempty"`
}

// Over says whether the ban has ended by itself.
func (b Ban) Over() bool { return !b.Until.IsZero() && !time.Now().Before(b.Until) }

// BannedPlayer is a ban, and whose.
type BannedPlayer struct {
	Group  guildhall.Group
	Player guildhall.PlayerID
	Ban
}

// banned is who is banned from where.
type banned struct {
	group  guildhall.Group
	player guildhall.PlayerID
}

// seenBan is a ban in the view.
type seenBan struct {
	Ban
	revision uint64
}

// bansSilence is how long the watch of the bans may tell nothing: nobody need be banned.
const bansSilence = time.Hour

const (
	// banSlack is how much longer NATS keeps a ban than it holds: it ends by its own word, not by a clock that is ahead.
	banSlack = time.Minute
	// banMost is how long NATS keeps a ban at most, for there is a greatest duration.
	banMost = 100 * 365 * 24 * time.Hour
)

// key gives the key of a ban: the group's, and behind it the player's name, escaped as a group's id is, which may have the
// same characters.
func (b banned) key() (string, error) {
	if _, err := guildhall.ParsePlayerID(string(b.player)); err != nil {
		return "", err
	}
	return b.group.Key() + "." + guildhall.Group{Kind: playerKind, ID: string(b.player)}.Key(), nil
}

const playerKind = "player"

func parseBanKey(key string) (banned, error) {
	group, player := key, ""
	if at := strings.LastIndex(key, "."+playerKind+"."); at >= 0 { // the last one: a group may be called player; what is escaped has no dot
		group, player = key[:at], key[at+len(playerKind)+2:]
	}
	parsed, err := guildhall.ParseGroupKey(group)
	if err != nil {
		return banned{}, fmt.Errorf("registry: the key of a ban: %w", err)
	}
	named, err := guildhall.ParseGroupKey(playerKind + "." + player)
	if err != nil {
		return banned{}, fmt.Errorf("registry: the key of a ban: %w", err)
	}
	return banned{parsed, guildhall.PlayerID(named.ID)}, nil
}

// Ban bans a player from a group's room, over an earlier ban if there is one. After an error the ban may or may not stand:
// call again.
func (r *Registry) Ban(ctx context.Context, group guildhall.Group, player guildhall.PlayerID, ban Ban) error {
	if ban.Over() {
		return fmt.Errorf("banning %s from %s: the ban would be over since %s", player, group, ban.Until)
	}
	ban.Since = time.Now()
	value, err := json.Marshal(ban)
	if err != nil {
		return fmt.Errorf("encoding the ban of %s from %s: %w", player, group, err)
	}
	header := nats.Header{}
	if !ban.Until.IsZero() {
		keep := min(time.Until(ban.Until), banMost).Truncate(time.Second) + banSlack // NATS counts whole seconds
		header.Set(jetstream.MsgTTLHeader, keep.String())
	}
	if err := r.writeBan(ctx, banned{group, player}, header, value); err != nil {
		return fmt.Errorf("banning %s from %s: %w", player, group, err)
	}
	return nil
}

// Unban lifts a ban. If there is none, that is no error.
func (r *Registry) Unban(ctx context.Context, group guildhall.Group, player guildhall.PlayerID) error {
	if err := r.writeBan(ctx, banned{group, player}, purgeHeader(), nil); err != nil {
		return fmt.Errorf("lifting the ban of %s from %s: %w", player, group, err)
	}
	return nil
}

// writeBan writes over the ban that is there, or over none; nil lifts it. Only over what it has read: a lifting that was
// sent long ago, and arrives now, must not lift a ban that was made since. Of two who ban and unban at once, the last has it.
func (r *Registry) writeBan(ctx context.Context, who banned, header nats.Header, value []byte) error {
	key, err := who.key()
	if err != nil {
		return err
	}
	for {
		entry, err := get(ctx, r.bans, key)
		missing := errors.Is(err, jetstream.ErrKeyNotFound)
		switch {
		case missing && value == nil:
			return nil
		case missing:
			err = r.createBan(ctx, key, header, value)
		case err == nil:
			err = r.publishBan(ctx, key, entry.Revision(), header, value)
		}
		if !isConflict(err) {
			return err
		}
	}
}

func (r *Registry) publishBan(ctx context.Context, key string, over uint64, header nats.Header, value []byte) error {
	message := &nats.Msg{Subject: "$KV." + bansBucket + "." + key, Header: maps.Clone(header), Data: value}
	message.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(over, 10))
	_, err := broker.Write(ctx, func(ctx context.Context) (*jetstream.PubAck, error) { return r.js.PublishMsg(ctx, message) })
	return err
}

// createBan writes a ban where none is: where there never was one, or over the marker of one that was lifted.
func (r *Registry) createBan(ctx context.Context, key string, header nats.Header, value []byte) error {
	var options []jetstream.KVCreateOpt
	if ttl := header.Get(jetstream.MsgTTLHeader); ttl != "" {
		keep, err := time.ParseDuration(ttl)
		if err != nil {
			return err
		}
		options = append(options, jetstream.KeyTTL(keep))
	}
	_, err := broker.Write(ctx, func(ctx context.Context) (uint64, error) { return r.bans.Create(ctx, key, value, options...) })
	return err
}

// Banned reads the ban of a player from the registry itself, not from the view.
func (r *Registry) Banned(ctx context.Context, group guildhall.Group, player guildhall.PlayerID) (Ban, bool, error) {
	key, err := banned{group, player}.key()
	if err != nil {
		return Ban{}, false, err
	}
	entry, err := get(ctx, r.bans, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return Ban{}, false, nil
	}
	if err != nil {
		return Ban{}, false, fmt.Errorf("reading the ban of %s from %s: %w", player, group, err)
	}
	ban := r.decodeBan(entry)
	return ban, !ban.Over(), nil
}

// decodeBan reads a ban's record. One that does not decode is a ban for good: whoever made it meant to keep somebody out,
// and Unban lifts it.
func (r *Registry) decodeBan(entry jetstream.KeyValueEntry) Ban {
	var ban Ban
	if err := json.Unmarshal(entry.Value(), &ban); err != nil {
		r.logger.Error("a ban does not decode: it holds for good, until it is lifted", "key", entry.Key(), "error", err)
		return Ban{Since: entry.Created()}
	}
	return ban
}

// Bans lists every ban that holds, by group and player.
func (r *Registry) Bans(ctx context.Context) ([]BannedPlayer, error) {
	var bans []BannedPlayer
	err := r.list(ctx, r.bans, func(entry jetstream.KeyValueEntry) {
		who, err := parseBanKey(entry.Key())
		if err != nil {
			r.logger.Error("a ban is left out", "key", entry.Key(), "error", err)
			return
		}
		if ban := r.decodeBan(entry); !ban.Over() {
			bans = append(bans, BannedPlayer{who.group, who.player, ban})
		}
	})
	if err != nil {
		return nil, fmt.Errorf("listing bans: %w", err)
	}
	slices.SortFunc(bans, func(a, b BannedPlayer) int {
		return cmp.Or(cmp.Compare(a.Group.String(), b.Group.String()), cmp.Compare(a.Player, b.Player))
	})
	return bans, nil
}

// applyBan gives what takes a ban into the view. Nobody tells when a ban is over: those are dropped when there may be as
// many of them as of the others.
func (r *Registry) applyBan() func(map[banned]seenBan, jetstream.KeyValueEntry) {
	most := 0
	return func(bans map[banned]seenBan, told jetstream.KeyValueEntry) {
		who, err := parseBanKey(told.Key())
		switch {
		case err != nil:
			r.logger.Error("a ban is left out", "key", told.Key(), "error", err)
		case told.Operation() != jetstream.KeyValuePut:
			delete(bans, who)
		default:
			bans[who] = seenBan{r.decodeBan(told), told.Revision()}
		}
		if len(bans) > most {
			maps.DeleteFunc(bans, func(_ banned, ban seenBan) bool { return ban.Over() })
			most = max(1024, 2*len(bans))
		}
	}
}

// BanInView reads the ban of a player from the view, without a round trip. The view knows of a ban moments after it was
// made; when the node of NATS that tells it is lost, some 10 s after. Before [Registry.Synced] it knows of none. It
// needs [Config.Bans], and panics without: who asks and did not say so would never hear of any.
func (r *Registry) BanInView(group guildhall.Group, player guildhall.PlayerID) (Ban, bool) {
	ban, found, _ := r.viewOfBans().get(banned{group, player})
	return ban.Ban, found && !ban.Over()
}

// WatchBans calls see for every ban of the view that holds, and then for each that is made or made anew, until ctx ends: a
// host sends away who is here and banned. It calls from its own goroutine, one call after the other, and see may take its
// time and may call the registry. A ban that is lifted again at once may not be seen, nor the ones between when one player's
// ban is made anew several times. It needs [Config.Bans],
// and panics without.
func (r *Registry) WatchBans(ctx context.Context, see func(guildhall.Group, guildhall.PlayerID, Ban)) error {
	seen := map[banned]seenBan{}
	for {
		bans, changed := r.viewOfBans().all()
		for who, ban := range bans {
			if ban.revision != seen[who].revision && !ban.Over() {
				see(who.group, who.player, ban.Ban)
			}
		}
		seen = bans
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

func (r *Registry) viewOfBans() *view[banned, seenBan] {
	if r.seenBans == nil {
		panic("registry: the view of the bans needs Config.Bans")
	}
	return r.seenBans
}
