package e2e

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/client"
	"github.com/guildhall-dev/guildhall/embedded"
	"github.com/guildhall-dev/guildhall/internal/certtest"
	"github.com/guildhall-dev/guildhall/internal/pass"
)

// rotation is an installation whose keys are replaced while players come and go.
type rotation struct {
	*bundle
	group    guildhall.Group
	frontend *certtest.Volume // pass.pem and token-keys.pem
	hosts    *certtest.Volume // pass-keys.pem
	login    atomic.Pointer[ed25519.PrivateKey]
	entered  atomic.Int64
	refused  chan error
}

// pems writes keys in a form and gives the files' contents, one behind the other.
func pems(t *testing.T, save func(ed25519.PrivateKey, string) error, keys ...ed25519.PrivateKey) []byte {
	t.Helper()
	var all bytes.Buffer
	for _, key := range keys {
		file := filepath.Join(t.TempDir(), "key.pem")
		if err := save(key, file); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.Bytes()
}

func newSigner(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	key, err := pass.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (r *rotation) forFrontend(passKey ed25519.PrivateKey, logins ...ed25519.PrivateKey) map[string][]byte {
	return map[string][]byte{
		"pass.pem": pems(r.t.(*testing.T), pass.SavePrivateKey, passKey), "token-keys.pem": pems(r.t.(*testing.T), pass.SavePublicKey, logins...),
	}
}

func (r *rotation) forHosts(keys ...ed25519.PrivateKey) map[string][]byte {
	return map[string][]byte{"pass-keys.pem": pems(r.t.(*testing.T), pass.SavePublicKey, keys...)}
}

// signToken gives a token as the game's login gives it.
func (r *rotation) signToken(key ed25519.PrivateKey, player string) string {
	token, err := pass.SignToken(key, pass.Token{Player: guildhall.PlayerID(player), Groups: []guildhall.Group{r.group}}, time.Hour)
	if err != nil {
		panic(err) // an Ed25519 key signs anything
	}
	return token
}

// come has players enter and leave, one after the other, until ctx ends. None may be refused.
func (r *rotation) come(ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		if err := r.comeOnce(ctx, fmt.Sprint("p", i)); err != nil && ctx.Err() == nil {
			r.refused <- err
			return
		}
		r.entered.Add(1)
	}
}

func (r *rotation) comeOnce(ctx context.Context, player string) error {
	room, err := client.Join(ctx, client.Config{Server: r.server, Token: r.signToken(*r.login.Load(), player), HTTPClient: players}, r.group)
	if err != nil {
		return err
	}
	var failed error
	for event := range room.Events() {
		switch e := event.(type) {
		case client.Joined:
			go func() { _ = room.Leave(ctx) }() // Err says it too
		case client.Closed:
			if e.Code != "left" {
				failed = fmt.Errorf("%s was sent away: %+v", player, e)
			}
		}
	}
	return errors.Join(failed, room.Err())
}

// more waits until more players have come in, all by what is in force now.
func (r *rotation) more() {
	r.t.Helper()
	from := r.entered.Load()
	r.eventually("more players come in", func() bool {
		select {
		case err := <-r.refused:
			r.t.Fatalf("a player was refused: %v", err)
		default:
		}
		return r.entered.Load() >= from+5
	})
}

// admits says whether the room's host lets a pass of a key in.
func (r *rotation) admits(key ed25519.PrivateKey) bool {
	r.t.Helper()
	room := r.room(r.group)
	host := r.host(room.GetHost())
	signed, _, err := pass.NewMinter(key).Mint(pass.Pass{
		Player: "prober", Group: r.group, Host: guildhall.HostName(room.GetHost()), Epoch: guildhall.Epoch(room.GetEpoch()),
	})
	if err != nil {
		r.t.Fatal(err)
	}
	conn, err := grpc.NewClient(host.GetAddress(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	stream, err := guildhallv1.NewRoomServiceClient(conn).Join(r.ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := stream.Send(&guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_Hello{Hello: &guildhallv1.Hello{Pass: signed}}}); err != nil {
		r.t.Fatal(err)
	}
	answer, err := stream.Recv()
	if err != nil {
		r.t.Fatal(err)
	}
	return answer.GetWelcome() != nil
}

// signs says whether the frontend signs passes by a key.
func (r *rotation) signs(key ed25519.PrivateKey) bool {
	r.t.Helper()
	assignment, err := client.Enter(r.ctx, client.Config{Server: r.server, Token: r.signToken(*r.login.Load(), "asker"), HTTPClient: players}, r.group)
	if err != nil {
		r.t.Fatal(err)
	}
	_, err = pass.ReadPass(pass.PublicKeys{key.Public().(ed25519.PublicKey)}, assignment.GetPass())
	if err != nil && !errors.Is(err, jwt.ErrTokenSignatureInvalid) {
		r.t.Fatal(err)
	}
	return err == nil
}

// takes says whether the frontend lets a token of a login's key in.
func (r *rotation) takes(key ed25519.PrivateKey) bool {
	_, err := client.Enter(r.ctx, client.Config{Server: r.server, Token: r.signToken(key, "asker"), HTTPClient: players}, r.group)
	return err == nil
}

// Both keys are replaced in the order of docs/secrets.md, and nobody is refused; the old ones are, once they are removed.
func TestKeysRotateWhilePlayersEnter(t *testing.T) {
	if !isEmbedded {
		t.Skip("the keys of the installation at " + server + " are not for a test to replace")
	}
	t.Parallel()
	one, two, loginOne, loginTwo := newSigner(t), newSigner(t), newSigner(t), newSigner(t)
	r := &rotation{bundle: setupAt(t, ""), refused: make(chan error, 1)}
	r.group, r.login = r.bundle.group("guild"), atomic.Pointer[ed25519.PrivateKey]{}
	r.login.Store(&loginOne)
	r.frontend, r.hosts = certtest.Mount(t, r.forFrontend(one, loginOne)), certtest.Mount(t, r.forHosts(one))
	config := embedded.Config{Hosts: 1}
	config.Frontend.PassKeyFile, config.Frontend.TokenKeysFile = r.frontend.Path("pass.pem"), r.frontend.Path("token-keys.pem")
	config.Host.PassKeysFile = r.hosts.Path("pass-keys.pem")
	r.server = startOwn(t, config).URL()
	coming, stop := context.WithCancel(r.ctx)
	gone := make(chan struct{})
	go func() { defer close(gone); r.come(coming) }()
	defer func() { stop(); <-gone }()
	r.more()
	if r.admits(two) || r.takes(loginTwo) {
		t.Fatal("a key that nobody has published is good")
	}

	// 1. The new public keys, beside the old ones.
	r.hosts.Swap(r.forHosts(one, two))
	r.frontend.Swap(r.forFrontend(one, loginOne, loginTwo))
	r.eventually("the new keys are good", func() bool { return r.admits(two) && r.takes(loginTwo) })
	r.more()

	// 2. The signers.
	r.login.Store(&loginTwo)
	r.frontend.Swap(r.forFrontend(two, loginOne, loginTwo))
	r.eventually("the new key signs", func() bool { return r.signs(two) })
	r.more()
	if !r.admits(one) || !r.takes(loginOne) {
		t.Error("the old key is refused before it is removed")
	}

	// A file that is broken changes nothing.
	r.hosts.Swap(map[string][]byte{"pass-keys.pem": []byte("half of a key")})
	r.more()

	// 3. Without the old ones.
	r.hosts.Swap(r.forHosts(two))
	r.frontend.Swap(r.forFrontend(two, loginTwo))
	r.eventually("the old keys are refused", func() bool { return !r.admits(one) && !r.takes(loginOne) })
	r.more()
	if r.signs(one) {
		t.Error("the old key signs")
	}
}
