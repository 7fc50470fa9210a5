// Package broker connects to NATS, over which Guildhall's parts share the registry and the log and tell one
// another what happened.
package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/guildhall-dev/guildhall/internal/secret"
	"github.com/guildhall-dev/guildhall/internal/socket"
)

// Config says which NATS to connect to. A service embeds it.
type Config struct {
	NATS string `split_words:"true" default:"nats://127.0.0.1:4222" desc:"URLs of NATS with JetStream, separated by commas"`
	Credentials
	NATSReplicas int           `split_words:"true" default:"1" desc:"copies that JetStream keeps of the registry and the log: 1, 3 or 5; all services must have the same"`
	NATSTimeout  time.Duration `split_words:"true" default:"5s" desc:"how long one call to NATS may take"`
}

// Connect connects a service to NATS. The connection heals itself for ever; the first one must succeed. Its credentials are
// among the secrets; nil means that they are of no process, and nobody is told of them.
func Connect(config Config, service string, secrets *secret.Files, logger *slog.Logger) (*nats.Conn, jetstream.JetStream, error) {
	options := []nats.Option{
		nats.Name("guildhall " + service),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		// While a user is replaced, NATS may refuse us until the new one has reached us. The default is to give up for good.
		nats.IgnoreAuthErrorAbort(),
		nats.ReconnectBufSize(-1), // a write during an outage fails at once: late is worse than lost here
		nats.PingInterval(2 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.SetCustomDialer(dialer{}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				logger.Warn("NATS connection lost", "error", err)
			}
		}),
		nats.ReconnectHandler(func(conn *nats.Conn) { logger.Info("NATS connection is back", "url", redacted(conn.ConnectedUrl())) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { logger.Warn("NATS", "error", err) }),
	}
	if secrets == nil {
		secrets = secret.New(nil, nil)
	}
	credentials, err := config.options(secrets)
	if err != nil {
		return nil, nil, err
	}
	conn, err := nats.Connect(config.NATS, append(options, credentials...)...)
	if err != nil {
		return nil, nil, fmt.Errorf("GUILDHALL_NATS: cannot connect to %s: %w", redacted(config.NATS), withoutURL(err))
	}
	js, err := jetstream.New(conn, jetstream.WithDefaultTimeout(config.NATSTimeout), jetstream.WithPublishAsyncTimeout(config.NATSTimeout))
	if err != nil {
		conn.Close()
		return nil, nil, fmt.Errorf("GUILDHALL_NATS: %w", err)
	}
	return conn, js, nil
}

// dialer dials NATS. A service has one connection, on which everything it does is a short message.
type dialer struct{}

// Dial connects within [nats.DefaultTimeout], as NATS's own dialer does.
func (dialer) Dial(network, address string) (net.Conn, error) {
	conn, err := net.DialTimeout(network, address, nats.DefaultTimeout)
	if err != nil {
		return nil, err
	}
	return socket.Quiet(conn), nil
}

// withoutURL gives why a URL does not parse without the URL, which may have a password.
func withoutURL(err error) error {
	if of, isURL := errors.AsType[*url.Error](err); isURL {
		return of.Err
	}
	return err
}

// redacted gives URLs without the passwords and tokens in them.
func redacted(urls string) string {
	var shown []string
	for text := range strings.SplitSeq(urls, ",") {
		parsed, err := url.Parse(strings.TrimSpace(text))
		if err != nil {
			shown = append(shown, "a URL that does not parse")
			continue
		}
		if parsed.User != nil { // a user without a password is a token
			parsed.User = url.User("xxxxx")
		}
		shown = append(shown, parsed.String())
	}
	return strings.Join(shown, ",")
}
