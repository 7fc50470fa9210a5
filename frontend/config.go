package frontend

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/internal/broker"
	"github.com/guildhall-dev/guildhall/internal/process"
)

// Config configures a frontend. It needs a pass key, and token keys or development mode; the rest of its zero
// value works against an Open Match and a NATS on this machine. Any number of frontends may run with the same one.
type Config struct {
	process.Common
	broker.Config
	Listen     string          `split_words:"true" default:":7777" desc:"where players call: Connect, gRPC-Web and gRPC on one port"`
	GRPCListen string          `split_words:"true" default:":7778" desc:"where players, and gateways of many players, call by gRPC alone, at two thirds of the cost"`
	Kinds      guildhall.Kinds `split_words:"true" default:"guild capacity=1000 idle=30s history=1000; party capacity=100 idle=10s history=200" desc:"the kinds of groups; all services must have the same"`
	Shards     int             `split_words:"true" default:"1" desc:"match profiles for each kind; directors must have the same"`
	LeaseTTL   time.Duration   `split_words:"true" default:"3s" desc:"how long a host lives without a sign of life; all services must have the same"`

	OpenmatchFrontend string        `split_words:"true" default:"127.0.0.1:50504" desc:"Open Match's frontend service, host:port"`
	TicketTTL         time.Duration `split_words:"true" default:"30s" desc:"after this time a ticket that nobody watches is dropped, and one in Open Match that is still wanted is renewed"`
	LookAgain         time.Duration `split_words:"true" default:"5s" desc:"how often a ticket that waits is looked after, in case the word of its assignment was lost"`
	RefileAfter       time.Duration `split_words:"true" default:"5s" desc:"after this time a ticket without an answer is filed anew, for a director may have died with it; the time doubles each time, up to when the ticket would be renewed anyway"`

	PassKeyFile   string   `split_words:"true" desc:"file with the Ed25519 private key that signs passes (PEM)"`
	TokenKeysFile string   `split_words:"true" desc:"file with the Ed25519 public keys that player tokens are checked by (PEM)"`
	AllowOrigins  []string `split_words:"true" desc:"origins of web pages that may call, separated by commas; * for all"`
	Development   bool     `split_words:"true" desc:"anybody may be anybody: take tokens of the development key, mint them on request, serve reflection"`

	// Mounts are further handlers on the same port, by path prefix. `guildhall up` shows everything on one address.
	Mounts map[string]http.Handler `ignored:"true"`
}

// check says what is wrong with a configuration.
func (c *Config) check() error {
	errs := []error{process.CheckNumbers(c)}
	if c.PassKeyFile == "" {
		errs = append(errs, errors.New("GUILDHALL_PASS_KEY_FILE is not set: no pass can be signed"))
	}
	if c.TokenKeysFile == "" && !c.Development {
		errs = append(errs, errors.New("GUILDHALL_TOKEN_KEYS_FILE is not set: no player token can be checked"))
	}
	if c.TicketTTL < time.Second {
		errs = append(errs, fmt.Errorf("GUILDHALL_TICKET_TTL=%s: want at least 1s", c.TicketTTL))
	}
	return errors.Join(errs...)
}
