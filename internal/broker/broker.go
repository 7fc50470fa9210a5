// Package broker connects to NATS, over which Guildhall's parts share the registry and the log and tell one
// another what happened.
package broker

import (
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Config says which NATS to connect to. A service embeds it.
type Config struct {
	NATS         string        `split_words:"true" default:"nats://127.0.0.1:4222" desc:"URLs of NATS with JetStream, separated by commas"`
	NATSCreds    string        `split_words:"true" desc:"file with the NATS credentials; none if empty"`
	NATSReplicas int           `split_words:"true" default:"1" desc:"copies that JetStream keeps of the registry and the log: 1, 3 or 5; all services must have the same"`
	NATSTimeout  time.Duration `split_words:"true" default:"5s" desc:"how long one call to NATS may take"`
}

// Connect connects a service to NATS. The connection heals itself for ever; the first one must succeed.
func Connect(config Config, service string, logger *slog.Logger) (*nats.Conn, jetstream.JetStream, error) {
	options := []nats.Option{
		nats.Name("guildhall " + service),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectBufSize(-1), // a write during an outage fails at once: late is worse than lost here
		nats.PingInterval(2 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				logger.Warn("NATS connection lost", "error", err)
			}
		}),
		nats.ReconnectHandler(func(conn *nats.Conn) { logger.Info("NATS connection is back", "url", conn.ConnectedUrlRedacted()) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { logger.Warn("NATS", "error", err) }),
	}
	if config.NATSCreds != "" {
		options = append(options, nats.UserCredentials(config.NATSCreds))
	}
	conn, err := nats.Connect(config.NATS, options...)
	if err != nil {
		return nil, nil, fmt.Errorf("GUILDHALL_NATS: cannot connect to %s: %w", redacted(config.NATS), err)
	}
	js, err := jetstream.New(conn, jetstream.WithDefaultTimeout(config.NATSTimeout))
	if err != nil {
		conn.Close()
		return nil, nil, fmt.Errorf("GUILDHALL_NATS: %w", err)
	}
	return conn, js, nil
}

// redacted gives URLs without the passwords in them.
func redacted(urls string) string {
	var shown []string
	for text := range strings.SplitSeq(urls, ",") {
		parsed, err := url.Parse(strings.TrimSpace(text))
		if err != nil {
			shown = append(shown, "a URL that does not parse")
			continue
		}
		shown = append(shown, parsed.Redacted())
	}
	return strings.Join(shown, ",")
}
