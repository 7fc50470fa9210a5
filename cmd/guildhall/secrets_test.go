package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/guildhall-dev/guildhall"
	guildhallv1 "github.com/guildhall-dev/guildhall/api/guildhall/v1"
	"github.com/guildhall-dev/guildhall/client"
	"github.com/guildhall-dev/guildhall/internal/certtest"
	"github.com/guildhall-dev/guildhall/internal/pass"
)

// secrets are what nobody may read in a log: by name, and by what they look like.
type secrets map[string]string

// looks are what is secret whatever its value.
var looks = map[string]*regexp.Regexp{
	"a JWT":         regexp.MustCompile(`eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}`),
	"a private key": regexp.MustCompile(`BEGIN [A-Z ]*PRIVATE KEY`),
}

// add adds a secret, unless it is too short to be told from other text.
func (s secrets) add(name, text string) {
	if len(text) >= 8 {
		s[name] = text
	}
}

// addJWT adds a token or a pass: whole, and the signature alone.
func (s secrets) addJWT(name, text string) {
	s.add(name, text)
	s.add(name+"'s signature", text[strings.LastIndexByte(text, '.')+1:])
}

// addKey adds a private key, in each form in which one could come out.
func (s secrets) addKey(name string, key ed25519.PrivateKey, file []byte) {
	for i, line := range strings.Split(string(file), "\n") {
		if !strings.HasPrefix(line, "---") {
			s.add(fmt.Sprintf("%s, line %d", name, i), line)
		}
	}
	for form, text := range map[string]string{
		"hex": hex.EncodeToString(key.Seed()), "base64": base64.StdEncoding.EncodeToString(key.Seed()),
		"base64url": base64.RawURLEncoding.EncodeToString(key.Seed()),
		"a list":    strings.Trim(fmt.Sprintf("%d", key.Seed()), "[]"),
	} {
		s.add(name+" as "+form, text)
	}
}

// in gives the names of the secrets that a log tells.
func (s secrets) in(log string) []string {
	var found []string
	for name, text := range s {
		if strings.Contains(log, text) {
			found = append(found, name)
		}
	}
	for name, look := range looks {
		if look.MatchString(log) {
			found = append(found, name)
		}
	}
	return found
}

// check fails if a log tells a secret.
func (s secrets) check(t *testing.T, whose, log string) {
	t.Helper()
	if found := s.in(log); len(found) > 0 {
		t.Errorf("%s tells %q:\n%s", whose, found, log)
	}
}

// key makes a private key and the files of both halves.
func (s secrets) key(t *testing.T, name string) (key ed25519.PrivateKey, private, public []byte) {
	t.Helper()
	key, err := pass.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	if err := pass.SaveKeyPair(key, filepath.Join(folder, "private"), filepath.Join(folder, "public")); err != nil {
		t.Fatal(err)
	}
	if private, err = os.ReadFile(filepath.Join(folder, "private")); err != nil {
		t.Fatal(err)
	}
	if public, err = os.ReadFile(filepath.Join(folder, "public")); err != nil {
		t.Fatal(err)
	}
	s.addKey(name, key, private)
	return key, private, public
}

func (s secrets) token(t *testing.T, name string, key ed25519.PrivateKey, group guildhall.Group, lives time.Duration) string {
	t.Helper()
	token, err := pass.SignToken(key, pass.Token{Player: "p1", Groups: []guildhall.Group{group}}, lives)
	if err != nil {
		t.Fatal(err)
	}
	s.addJWT(name, token)
	return token
}

// startGuardedNATS starts a NATS that wants a password.
func startGuardedNATS(t *testing.T, password string) (*server.Server, *server.Options) {
	t.Helper()
	options := &server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true, JetStream: true, StoreDir: t.TempDir(),
		Username: "guildhall", Password: password,
	}
	nats, err := server.NewServer(options.Clone())
	if err != nil {
		t.Fatal(err)
	}
	nats.Start()
	t.Cleanup(func() { nats.Shutdown(); nats.WaitForShutdown() })
	if !nats.ReadyForConnections(patience) {
		t.Fatal("NATS does not start")
	}
	return nats, options
}

// Of all that a server logs at its most talkative, through bad tokens and passes, a rotation, a broken key, a host that
// drains and a NATS that refuses it, nothing is secret.
func TestNoSecretIsLogged(t *testing.T) {
	t.Parallel()
	s := secrets{}
	group := guildhall.Group{Kind: "guild", ID: "dragons"}
	key, private, public := s.key(t, "the pass key")
	_, nextPrivate, nextPublic := s.key(t, "the next pass key")
	login, _, loginPublic := s.key(t, "the login's key")
	stranger, _, _ := s.key(t, "a stranger's key")
	s.add("NATS' password", "correct-horse-battery")
	nats, natsOptions := startGuardedNATS(t, s["NATS' password"])
	files := func(private, public []byte) map[string][]byte {
		return map[string][]byte{"pass.pem": private, "pass-keys.pem": public, "token-keys.pem": loginPublic}
	}
	volume := certtest.Mount(t, files(private, public))
	u := upWith(t, []string{
		"GUILDHALL_LOG_LEVEL=DEBUG", "GUILDHALL_PASS_KEY_FILE=" + volume.Path("pass.pem"),
		"GUILDHALL_PASS_KEYS_FILE=" + volume.Path("pass-keys.pem"), "GUILDHALL_TOKEN_KEYS_FILE=" + volume.Path("token-keys.pem"),
		"GUILDHALL_NATS=nats://guildhall:" + s["NATS' password"] + "@" + nats.Addr().String(),
	}, "--hosts", "2")

	// Somebody in the room, whom the moves and the outage will find there.
	token := s.token(t, "the player's token", login, group, time.Hour)
	e := newEntered(t, u.url, "p1", group.String(), func(e *entered) { e.Env = append(e.Env, "GUILDHALL_TOKEN="+token) })
	e.await("joined")

	for name, bad := range map[string]string{
		"a stranger's token": s.token(t, "a stranger's token", stranger, group, time.Hour),
		"an old token":       s.token(t, "an old token", login, group, -time.Hour),
		"a broken token":     token[:len(token)-20] + "!",
		"no JWT":             "nothing-of-the-kind",
	} {
		s.add(name, bad)
		file := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(file, []byte(bad+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := command(t, "enter", "--server", u.url, "--player", "p1", "--group", group.String(), "--token-file", file).CombinedOutput()
		if err == nil || !bytes.Contains(out, []byte("not valid")) {
			t.Errorf("%s: %v, %s", name, err, out)
		}
		s.check(t, "enter with "+name, string(out))
	}
	s.showBadPasses(t, u, token, group, key)

	volume.Swap(files([]byte("-----BEGIN PRIVATE KEY-----\nbroken"), append(public, nextPublic...)))
	u.awaitLog(t, "a secret cannot be read")
	volume.Swap(files(nextPrivate, append(public, nextPublic...)))
	u.awaitLog(t, "a secret can be read again")
	for _, host := range u.hosts() {
		if host.Rooms > 0 {
			if err := syscall.Kill(host.PID, syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		}
	}
	e.await("resumed")
	refusing := natsOptions.Clone()
	refusing.Password = "another"
	if err := nats.ReloadOptions(refusing); err != nil {
		t.Fatal(err)
	}
	u.awaitLog(t, "uthorization violation")
	if err := nats.ReloadOptions(natsOptions.Clone()); err != nil {
		t.Fatal(err)
	}
	e.say("are you there?")
	e.await("acked")
	if code := e.leave(); code != 0 {
		t.Errorf("enter ended with %d", code)
	}
	u.interrupt()
	if code := u.end(); code != 0 {
		t.Errorf("up ended with exit code %d", code)
	}

	log := u.stdout.String() + u.stderr.String()
	for _, told := range []string{"a pass was refused", "a player token was refused", "NATS connection is back", "a secret was replaced"} {
		if !strings.Contains(log, told) {
			t.Errorf("the log does not tell %q: this test has not seen what it should", told)
		}
	}
	s.check(t, "up", log)
	s.checkFindsAll(t, log)
}

// showBadPasses shows passes that are none to the room's host.
func (s secrets) showBadPasses(t *testing.T, u *ups, token string, group guildhall.Group, key ed25519.PrivateKey) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	assignment, err := client.Enter(ctx, client.Config{Server: u.url, Token: token}, group)
	if err != nil {
		t.Fatal(err)
	}
	s.addJWT("the pass", assignment.GetPass())
	conn, err := grpc.NewClient(assignment.GetAddress(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	elsewhere, _, err := pass.NewMinter(key).Mint(pass.Pass{Player: "p1", Group: group, Host: "elsewhere", Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"a token as a pass": token, "a broken pass": assignment.GetPass() + "x", "half of a pass": assignment.GetPass()[:80],
		"a pass for elsewhere": elsewhere,
	} {
		s.addJWT(name, bad)
		stream, err := guildhallv1.NewRoomServiceClient(conn).Join(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(&guildhallv1.JoinRequest{Frame: &guildhallv1.JoinRequest_Hello{Hello: &guildhallv1.Hello{Pass: bad}}}); err != nil {
			t.Fatal(err)
		}
		answer, err := stream.Recv()
		if err != nil || answer.GetClosed().GetCode() != guildhallv1.CloseCode_CLOSE_CODE_PASS_REFUSED {
			t.Errorf("%s was answered with %v, %v", name, answer, err)
		}
		s.check(t, "the answer to "+name, answer.String())
	}
}

// checkFindsAll plants each secret in the middle of a log, alone: the check must find it there.
func (s secrets) checkFindsAll(t *testing.T, log string) {
	t.Helper()
	middle := strings.IndexByte(log[len(log)/2:], '\n') + len(log)/2
	for name, text := range s {
		planted := log[:middle] + fmt.Sprintf("\n{\"msg\":\"oops\",\"error\":%q}", "it said "+text+", of all things") + log[middle:]
		if found := s.in(planted); len(found) == 0 {
			t.Errorf("the check does not find %s", name)
		}
	}
	for name, planted := range map[string]string{
		"a JWT": "pass=eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJwMSJ9.c2ln", "a private key": "-----BEGIN PRIVATE KEY-----",
	} {
		if found := s.in(log + planted); len(found) == 0 {
			t.Errorf("the check does not find %s by its look", name)
		}
	}
}

// awaitLog waits until up has logged something.
func (u *ups) awaitLog(t *testing.T, text string) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	late := time.After(patience)
	for !strings.Contains(u.stderr.String(), text) {
		select {
		case <-ticker.C:
		case <-late:
			t.Fatalf("up does not log %q:\n%s", text, u.stderr)
		}
	}
}
