package director

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"open-match.dev/open-match/pkg/pb"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/internal/broker"
	"github.com/guildhall-dev/guildhall/internal/process"
)

// Config configures a director. Its zero value works against an Open Match, an Agones allocator and a NATS on
// this machine. Any number of directors may run with the same one.
type Config struct {
	process.Common
	broker.Config
	AgonesConfig
	Listen   string          `split_words:"true" default:":50600" desc:"where OperatorService is served; internal"`
	Kinds    guildhall.Kinds `split_words:"true" default:"guild capacity=1000 idle=30s history=1000; party capacity=100 idle=10s history=200" desc:"the kinds of groups; all services must have the same"`
	Shards   int             `split_words:"true" default:"1" desc:"match profiles for each kind; frontends must have the same"`
	LeaseTTL time.Duration   `split_words:"true" default:"3s" desc:"how long a host lives without a sign of life; all services must have the same"`

	OpenmatchBackend       string `split_words:"true" default:"127.0.0.1:50505" desc:"Open Match's backend service, host:port"`
	OpenmatchFrontend      string `split_words:"true" default:"127.0.0.1:50504" desc:"Open Match's frontend service, host:port; expired tickets are deleted there"`
	MatchfunctionAdvertise string `split_words:"true" default:"127.0.0.1:50502" desc:"where Open Match's backend reaches the match function, host:port"`

	Headroom     Headroom      `split_words:"true" default:"10" desc:"free rooms to keep on allocated hosts ahead of need; none or 0 for none. Idle hosts of the headroom are kept every 5s: GUILDHALL_HOST_IDLE_GRACE should be longer"`
	Placements   int           `split_words:"true" default:"256" desc:"groups that are placed at once, at most"`
	PlaceTimeout time.Duration `split_words:"true" default:"15s" desc:"how long placing one group may take before its tickets go back"`
	RetryAfter   time.Duration `split_words:"true" default:"250ms" desc:"how long the tickets of a group that could not be placed rest before they go back"`
}

// check says what is wrong with a configuration.
func (c *Config) check() error {
	errs := []error{process.CheckNumbers(c), c.AgonesConfig.check()}
	if _, err := functionConfig(c.MatchfunctionAdvertise); err != nil {
		errs = append(errs, fmt.Errorf("GUILDHALL_MATCHFUNCTION_ADVERTISE=%q: %w", c.MatchfunctionAdvertise, err))
	}
	return errors.Join(errs...)
}

// functionConfig tells Open Match where the match function is.
func functionConfig(address string) (*pb.FunctionConfig, error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("want host:port: %w", err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || host == "" || port == 0 {
		return nil, errors.New("want host:port, both given")
	}
	return &pb.FunctionConfig{Host: host, Port: int32(port), Type: pb.FunctionConfig_GRPC}, nil
}
