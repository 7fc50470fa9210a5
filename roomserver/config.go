package roomserver

import (
	"errors"
	"fmt"
	"time"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/internal/broker"
	"github.com/guildhall-dev/guildhall/internal/process"
)

// Config configures a host. It needs the public keys that passes are checked by, an Agones SDK sidecar and NATS;
// the rest of its zero value works.
type Config struct {
	process.Common
	broker.Config
	Listen            string          `split_words:"true" default:":7000" desc:"where players dial (RoomService), over gRPC and WebSocket"`
	InternalListen    string          `split_words:"true" default:":7001" desc:"where directors call (HostService)"`
	InternalAdvertise string          `split_words:"true" desc:"how directors reach it, host:port; if empty, the pod's address and the port of INTERNAL_LISTEN"`
	Kinds             guildhall.Kinds `split_words:"true" default:"guild capacity=1000 idle=30s history=1000; party capacity=100 idle=10s history=200" desc:"the kinds of groups; all services must have the same"`
	RoomsPerHost      int             `split_words:"true" default:"50" desc:"rooms that the host carries at most; 1 gives every group a game server of its own"`
	HostIdleGrace     time.Duration   `split_words:"true" default:"60s" desc:"how long an allocated host without rooms stays before it shuts down; directors keep those of the headroom every 5s, so it should be longer"`
	LeaseTTL          time.Duration   `split_words:"true" default:"3s" desc:"how long a host lives without a sign of life; all services must have the same"`
	BodyBytes         int             `split_words:"true" default:"4096" desc:"the largest message body"`
	Player            Limits
	LogStreams        int           `split_words:"true" default:"4" desc:"streams over which the groups' logs are spread; fixed for the life of an installation, and all hosts must have the same"`
	PassKeysFile      string        `split_words:"true" desc:"file with the Ed25519 public keys that passes are checked by (PEM)"`
	AgonesSDK         string        `split_words:"true" desc:"Agones' SDK sidecar, host:port; if empty, 127.0.0.1 and the port in AGONES_SDK_GRPC_PORT, or 9357"`
	AgonesPort        string        `split_words:"true" default:"room" desc:"name of the game server's port that players dial"`
	AgonesWait        time.Duration `split_words:"true" default:"30s" desc:"how long the sidecar may take to answer at the start, and be gone later"`
	AgonesOverflow    string        `split_words:"true" default:"guildhall.dev/overflow=true" desc:"label or annotation, KEY=VALUE, by which the Fleet's spec.allocationOverflow marks game servers that should give way: a host that gets it drains for good; none for no such"`
	Reflection        bool          `split_words:"true" desc:"serve gRPC reflection for directors' service, for grpcurl"`
}

// Check says what is wrong with a configuration. New asks it too; whoever only starts hosts may do so before.
func (c *Config) Check() error {
	errs := []error{process.CheckNumbers(c)}
	if c.PassKeysFile == "" {
		errs = append(errs, errors.New("GUILDHALL_PASS_KEYS_FILE is not set: no pass can be checked"))
	}
	if _, err := parseMark(c.AgonesOverflow); err != nil {
		errs = append(errs, err)
	}
	if c.BodyBytes > maxBodyBytes {
		errs = append(errs, fmt.Errorf("GUILDHALL_BODY_BYTES=%d: want at most %d", c.BodyBytes, maxBodyBytes))
	}
	if c.Player.BytesBurst < c.BodyBytes {
		errs = append(errs, fmt.Errorf("GUILDHALL_PLAYER_BYTES_BURST=%d is less than one message of GUILDHALL_BODY_BYTES=%d", c.Player.BytesBurst, c.BodyBytes))
	}
	return errors.Join(errs...)
}

// maxBodyBytes keeps an entry of the log well below the largest message of NATS, 1 MiB.
const maxBodyBytes = 64 << 10
