package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/guildhall-dev/guildhall/internal/certtest"
	"github.com/guildhall-dev/guildhall/internal/logtest"
	"github.com/guildhall-dev/guildhall/internal/secret"
)

// patience bounds every wait: what takes longer has failed.
const patience = time.Minute

// guarded is a NATS server that lets in only whom it knows.
type guarded struct {
	t       *testing.T
	options *server.Options
	server  *server.Server
	log     *logtest.Buffer
}

func guard(t *testing.T, options *server.Options) *guarded {
	t.Helper()
	t.Parallel()
	options.Host, options.Port, options.NoLog, options.NoSigs = "127.0.0.1", server.RANDOM_PORT, true, true
	s, err := server.NewServer(options.Clone())
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) {
		t.Fatal("NATS does not start")
	}
	return &guarded{t: t, options: options, server: s, log: &logtest.Buffer{}}
}

// reload gives the server other options, as a change of its configuration does.
func (g *guarded) reload(change func(*server.Options)) {
	g.t.Helper()
	changed := g.options.Clone()
	change(changed)
	if err := g.server.ReloadOptions(changed); err != nil {
		g.t.Fatal(err)
	}
}

// connect connects as a service does.
func (g *guarded) connect(credentials Credentials) *nats.Conn {
	g.t.Helper()
	logger := slog.New(slog.NewTextHandler(g.log, nil))
	config := Config{NATS: g.server.ClientURL(), Credentials: credentials, NATSTimeout: patience}
	conn, _, err := Connect(config, "test", secret.New(logger, prometheus.NewRegistry()), logger)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(conn.Close)
	return conn
}

// await asks again until the answer is yes.
func (g *guarded) await(what string, yes func() bool) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for !yes() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			g.t.Fatalf("it never came about that %s\n%s", what, g.log)
		}
	}
}

// works says whether the connection carries messages.
func works(conn *nats.Conn) bool {
	return conn.IsConnected() && conn.FlushTimeout(time.Second) == nil
}

// refusals counts how often NATS has refused us.
func (g *guarded) refusals() int { return strings.Count(g.log.String(), "authorization violation") }

// A token is replaced in its file first, and NATS ends whoever showed the old one.
func TestTokenRotates(t *testing.T) {
	g := guard(t, &server.Options{Authorization: "the-first"})
	volume := certtest.Mount(t, map[string][]byte{"token": []byte("the-first\n")})
	conn := g.connect(Credentials{NATSTokenFile: volume.Path("token")})
	volume.Swap(map[string][]byte{"token": []byte("the-second\n")})
	g.reload(func(o *server.Options) { o.Authorization = "the-second" })
	g.await("the connection is back with the new token", func() bool { return conn.Stats().Reconnects > 0 && works(conn) })
	g.checkQuiet("the-first", "the-second")
}

// The other way round: NATS takes the old token no more, and the new one comes late. The client is refused again and
// again, and does not give up.
func TestTokenComesLate(t *testing.T) {
	g := guard(t, &server.Options{Authorization: "the-first"})
	volume := certtest.Mount(t, map[string][]byte{"token": []byte("the-first")})
	conn := g.connect(Credentials{NATSTokenFile: volume.Path("token")})
	g.reload(func(o *server.Options) { o.Authorization = "the-second" })
	g.await("it is refused", func() bool { return g.refusals() > 3 })
	volume.Swap(map[string][]byte{"token": nil}) // and it is broken, too
	before := g.refusals()
	g.await("it is refused with what it had before", func() bool { return g.refusals() > before+1 })
	volume.Swap(map[string][]byte{"token": []byte("the-second")})
	g.await("the connection is back", func() bool { return works(conn) })
	if !strings.Contains(g.log.String(), "a secret cannot be read") {
		t.Errorf("the broken file is not told: %s", g.log)
	}
	g.checkQuiet("the-first", "the-second")
}

// checkQuiet sees that no secret was logged.
func (g *guarded) checkQuiet(secrets ...string) {
	g.t.Helper()
	for _, hush := range secrets {
		if strings.Contains(g.log.String(), hush) {
			g.t.Errorf("the log tells %q: %s", hush, g.log)
		}
	}
}

// realm is an operator of NATS with one account.
type realm struct {
	t       *testing.T
	account nkeys.KeyPair
	claims  *jwt.AccountClaims
	owner   nkeys.KeyPair
}

func newRealm(t *testing.T) (*realm, *server.Options) {
	t.Helper()
	r := &realm{t: t, owner: must(nkeys.CreateOperator())(t), account: must(nkeys.CreateAccount())(t)}
	r.claims = jwt.NewAccountClaims(r.public(r.account))
	resolver := &server.MemAccResolver{}
	if err := resolver.Store(r.public(r.account), must(r.claims.Encode(r.owner))(t)); err != nil {
		t.Fatal(err)
	}
	return r, &server.Options{AccountResolver: resolver, TrustedKeys: []string{r.public(r.owner)}}
}

func (r *realm) public(pair nkeys.KeyPair) string { return must(pair.PublicKey())(r.t) }

// user makes a user and its credentials file.
func (r *realm) user() (id string, file []byte) {
	pair := must(nkeys.CreateUser())(r.t)
	token := must(jwt.NewUserClaims(r.public(pair)).Encode(r.account))(r.t)
	return r.public(pair), must(jwt.FormatUserConfig(token, must(pair.Seed())(r.t)))(r.t)
}

// revoke has the server end a user.
func (r *realm) revoke(g *guarded, id string) {
	r.t.Helper()
	r.claims.RevokeAt(id, time.Now().Add(time.Hour))
	decoded := must(jwt.DecodeAccountClaims(must(r.claims.Encode(r.owner))(r.t)))(r.t)
	account := must(g.server.LookupAccount(r.public(r.account)))(r.t)
	g.server.UpdateAccountClaims(account, decoded)
}

func must[T any](value T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// A user of an operator's account is replaced, early and late.
func TestCredentialsRotate(t *testing.T) {
	for name, isLate := range map[string]bool{"the new one is there": false, "the new one comes late": true} {
		t.Run(name, func(t *testing.T) {
			r, options := newRealm(t)
			g := guard(t, options)
			first, file := r.user()
			_, next := r.user()
			volume := certtest.Mount(t, map[string][]byte{"nats.creds": file})
			conn := g.connect(Credentials{NATSCreds: volume.Path("nats.creds")})
			if !isLate {
				volume.Swap(map[string][]byte{"nats.creds": next})
			}
			r.revoke(g, first)
			if isLate {
				g.await("it is refused", func() bool { return g.refusals() > 3 })
				volume.Swap(map[string][]byte{"nats.creds": []byte("half of a file")})
				before := g.refusals()
				g.await("it is refused with what it had before", func() bool { return g.refusals() > before+1 })
				volume.Swap(map[string][]byte{"nats.creds": next})
			}
			g.await("the connection is back with the new user", func() bool { return conn.Stats().Reconnects > 0 && works(conn) })
			for _, text := range [][]byte{file, next} {
				for line := range strings.Lines(string(text)) {
					if len(line) > 40 && !strings.Contains(line, " ") {
						g.checkQuiet(strings.TrimSpace(line))
					}
				}
			}
		})
	}
}

// NATS gets another authority and a certificate of it, and so do we.
func TestCertificatesRotate(t *testing.T) {
	one, two := certtest.New(t), certtest.New(t)
	side := func(a *certtest.Authority) *tls.Config {
		return &tls.Config{
			MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{a.Pair(certtest.Leaf{Host: "127.0.0.1"})},
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.Pool(),
		}
	}
	files := func(a *certtest.Authority) map[string][]byte {
		cert, key := a.Issue(certtest.Leaf{CommonName: "service"})
		return map[string][]byte{"tls.crt": cert, "tls.key": key, "ca.crt": a.PEM()}
	}
	g := guard(t, &server.Options{TLSConfig: side(one), TLSTimeout: patience.Seconds()})
	volume := certtest.Mount(t, files(one))
	conn := g.connect(Credentials{
		NatsCAFile: volume.Path("ca.crt"), NATSCertFile: volume.Path("tls.crt"), NATSKeyFile: volume.Path("tls.key"),
	})
	if _, err := conn.TLSConnectionState(); err != nil {
		t.Errorf("there is no TLS: %v", err)
	}
	volume.Swap(files(two))
	g.reload(func(o *server.Options) { o.TLSConfig = side(two) })
	if err := conn.ForceReconnect(); err != nil && !errors.Is(err, nats.ErrReconnectBufExceeded) {
		t.Fatal(err)
	}
	g.await("the connection is back", func() bool { return conn.Stats().Reconnects > 0 && works(conn) })
}

// What cannot be used is refused at the start, by the name of its variable, without its content.
func TestBadCredentials(t *testing.T) {
	t.Parallel()
	server := setup(t)
	volume := certtest.Mount(t, map[string][]byte{"text": []byte("hush hush"), "empty": nil})
	for _, c := range []struct {
		credentials Credentials
		says        string
	}{
		{Credentials{NATSCreds: volume.Path("missing")}, "GUILDHALL_NATS_CREDS"},
		{Credentials{NATSCreds: volume.Path("text")}, "GUILDHALL_NATS_CREDS"},
		{Credentials{NATSTokenFile: volume.Path("missing")}, "GUILDHALL_NATS_TOKEN_FILE"},
		{Credentials{NATSTokenFile: volume.Path("empty")}, "one word"},
		{Credentials{NATSTokenFile: volume.Path("text")}, "one word"},
		{Credentials{NatsCAFile: volume.Path("text")}, "GUILDHALL_NATS_CA_FILE"},
		{Credentials{NATSCertFile: volume.Path("text")}, "both or none"},
		{Credentials{NATSKeyFile: volume.Path("text")}, "both or none"},
		{Credentials{NATSCertFile: "a", NATSKeyFile: "b"}, "GUILDHALL_NATS_CA_FILE"},
		{Credentials{NATSCreds: "a", NATSTokenFile: "b"}, "one of them"},
	} {
		conn, _, err := Connect(Config{NATS: server.URL(), Credentials: c.credentials, NATSTimeout: patience}, "test", nil, quiet())
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%+v: %v, want an error that says %q", c.credentials, err, c.says)
		}
		if conn != nil {
			conn.Close()
		}
	}
}

// Passwords and tokens in URLs are told to nobody.
func TestURLsAreRedacted(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"nats://user:hush@127.0.0.1:1", "nats://hush@127.0.0.1:1", "nats://user:hush@%zz:1", "nats://user:hush@ 127.0.0.1:1",
		"nats://127.0.0.1:1,nats://user:hush@127.0.0.1:1",
	} {
		_, _, err := Connect(Config{NATS: url}, "test", nil, quiet())
		if err == nil || strings.Contains(err.Error(), "hush") || !strings.Contains(err.Error(), "GUILDHALL_NATS") {
			t.Errorf("Connect to %s: %v", url, err)
		}
	}
}
