package chaos

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/guildhall-dev/guildhall"
	"github.com/guildhall-dev/guildhall/director"
	"github.com/guildhall-dev/guildhall/frontend"
	"github.com/guildhall-dev/guildhall/internal/broker"
	"github.com/guildhall-dev/guildhall/internal/pass"
	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/matchfunction"
)

// townConfig says what is built.
type townConfig struct {
	Directors, Frontends int
	ReadyHosts, MaxHosts int
	RoomsPerHost         int
	RoomIdle, HostIdle   time.Duration
	LeaseTTL             time.Duration // 0 means the product's own
	Seed                 uint64
}

// town is an installation: each part a process of its own, each path between two of them a cable.
type town struct {
	townConfig
	folder string
	ports  *ports
	keys   keys

	brokers       *brokers
	openmatch     *service // nil if it is a real one
	openmatchAt   openMatchSettings
	openmatchPIDs []int // of a real one, to be paused
	function      *service
	functionAt    string // what Open Match calls
	directors     []*service
	frontends     []*service
	fleet         *fleet
	gate          *balancer

	// The cables of a process, by its name.
	nats      map[string][]*cable // to the nodes of NATS
	openpaths map[string][]*cable // to Open Match, or from it
	allocator map[string][]*cable // to Agones
}

// keys are the files with the keys of an installation, and the key of the players' login.
type keys struct {
	passPrivate, passPublic string
	tokens                  string
	login                   ed25519.PrivateKey
}

// setup builds an installation and waits until players can enter. It goes with the test, which fails if a process
// outlives it.
func setup(t *testing.T, config townConfig) *town {
	t.Helper()
	w := &town{
		townConfig: config, folder: folderOf(t), ports: newPorts(config.Seed),
		nats: map[string][]*cable{}, openpaths: map[string][]*cable{}, allocator: map[string][]*cable{},
	}
	t.Cleanup(func() {
		if err := w.halt(); err != nil {
			t.Error(err)
		}
	})
	if err := w.build(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := w.start(ctx); err != nil {
		t.Fatal(err)
	}
	return w
}

// folderOf gives a new folder for logs and data. It is kept if the test fails, for it is the evidence, or if a place for it
// was given.
func folderOf(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp(*keepFolder, "guildhall-chaos-"+t.Name()+"-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() || *keepFolder != "" {
			t.Logf("logs and data are in %s", folder)
			return
		}
		_ = os.RemoveAll(folder)
	})
	return folder
}

func (w *town) build() error {
	for _, step := range []func() error{
		w.buildKeys, w.buildBrokers, w.buildOpenMatch, w.buildFunction, w.buildFleet, w.buildDirectors, w.buildFrontends,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (w *town) buildKeys() error {
	at := func(name string) string { return filepath.Join(w.folder, name) }
	w.keys = keys{passPrivate: at("pass.pem"), passPublic: at("pass.pub.pem"), tokens: at("tokens.pub.pem")}
	signing, err := pass.NewKey()
	if err != nil {
		return err
	}
	if w.keys.login, err = pass.NewKey(); err != nil {
		return err
	}
	return errors.Join(
		pass.SaveKeyPair(signing, w.keys.passPrivate, w.keys.passPublic),
		pass.SavePublicKey(w.keys.login, w.keys.tokens))
}

func (w *town) buildBrokers() (err error) {
	w.brokers, err = newBrokers(w)
	return err
}

// addresses takes so many ports.
func (w *town) addresses(n int) ([]string, error) {
	var list []string
	for range n {
		address, err := w.ports.address()
		if err != nil {
			return nil, err
		}
		list = append(list, address)
	}
	return list, nil
}

// buildFunction makes the match function that Open Match calls.
func (w *town) buildFunction() error {
	at, err := w.addresses(2)
	if err != nil {
		return err
	}
	c := matchfunction.Config{Common: w.common(at[0]), Listen: at[1]}
	if c.OpenmatchQuery, err = w.cable(w.openpaths, roleMatchFunction, w.openmatchAt.Query); err != nil {
		return err
	}
	if w.functionAt, err = w.cable(w.openpaths, roleMatchFunction, c.Listen); err != nil {
		return err
	}
	w.function = w.service(roleMatchFunction, roleMatchFunction, &c, c.AdminListen)
	return nil
}

func (w *town) buildFleet() (err error) {
	w.fleet, err = newFleet(w)
	return err
}

func (w *town) buildDirectors() error {
	for i := range w.Directors {
		name := fmt.Sprintf("director-%d", i)
		at, err := w.addresses(1)
		if err != nil {
			return err
		}
		url, err := w.layNATS(name)
		if err != nil {
			return err
		}
		c := director.Config{
			Common: w.common(at[0]), Config: w.broker(url), Listen: "127.0.0.1:0", Kinds: w.kinds(), LeaseTTL: w.LeaseTTL,
			MatchfunctionAdvertise: w.functionAt,
			Headroom:               director.NoHeadroom, // hosts that are allocated before they are needed would look like leaks
		}
		if c.OpenmatchBackend, err = w.cable(w.openpaths, name, w.openmatchAt.Backend); err != nil {
			return err
		}
		if c.OpenmatchFrontend, err = w.cable(w.openpaths, name, w.openmatchAt.Frontend); err != nil {
			return err
		}
		if c.AgonesAllocator, err = w.cable(w.allocator, name, w.fleet.agones.AllocatorAddr()); err != nil {
			return err
		}
		w.directors = append(w.directors, w.service(name, roleDirector, &c, at[0]))
	}
	return nil
}

func (w *town) buildFrontends() error {
	w.gate = newBalancer()
	for i := range w.Frontends {
		name := fmt.Sprintf("frontend-%d", i)
		at, err := w.addresses(2)
		if err != nil {
			return err
		}
		url, err := w.layNATS(name)
		if err != nil {
			return err
		}
		c := frontend.Config{
			Common: w.common(at[0]), Config: w.broker(url), Listen: at[1], GRPCListen: "127.0.0.1:0", Kinds: w.kinds(), LeaseTTL: w.LeaseTTL,
			PassKeyFile: w.keys.passPrivate, TokenKeysFile: w.keys.tokens,
		}
		if c.OpenmatchFrontend, err = w.cable(w.openpaths, name, w.openmatchAt.Frontend); err != nil {
			return err
		}
		s := w.service(name, roleFrontend, &c, at[0])
		w.frontends = append(w.frontends, s)
		w.gate.add(c.Listen, s)
	}
	return nil
}

// service makes a service of ours from its configuration.
func (w *town) service(name, role string, config any, admin string, more ...string) *service {
	environ := append(process.Environ(config), more...)
	return newService(w.folder, name, admin, func() (*exec.Cmd, error) { return self(role, environ...) })
}

// cable lays a cable of a process to an address, and gives what to call in its place.
func (w *town) cable(paths map[string][]*cable, name, target string) (string, error) {
	c, err := newCable("127.0.0.1:0", target)
	if err != nil {
		return "", err
	}
	paths[name] = append(paths[name], c)
	return c.addr(), nil
}

func (w *town) layNATS(name string) (url string, err error) {
	w.nats[name], url, err = w.brokers.lay()
	return url, err
}

func (w *town) common(admin string) process.Common {
	return process.Common{AdminListen: admin, LogFormat: "json"}
}

func (w *town) broker(url string) broker.Config {
	return broker.Config{NATS: url, NATSReplicas: natsNodes}
}

// kinds keeps all that is said in a run, so that all of it can be checked.
func (w *town) kinds() guildhall.Kinds {
	return guildhall.Kinds{
		"guild": {Capacity: 2000, IdleGrace: w.RoomIdle, History: guildhall.MaxHistory},
	}
}

// services lists all processes but the hosts, in the order in which they start.
func (w *town) services() []*service {
	var all []*service
	if w.brokers != nil {
		all = append(all, w.brokers.nodes...)
	}
	return append(append(append(all, w.matching()...), w.directors...), w.frontends...)
}

// matching lists the processes that make matches.
func (w *town) matching() []*service {
	return slices.DeleteFunc([]*service{w.openmatch, w.function}, func(s *service) bool { return s == nil })
}

// start starts all parts in the order in which they need one another.
func (w *town) start(ctx context.Context) error {
	for _, parts := range [][]*service{w.brokers.nodes, w.matching(), w.directors, w.frontends} {
		for _, s := range parts {
			if err := s.start(); err != nil {
				return err
			}
		}
		for _, s := range parts {
			if err := s.awaitReady(ctx); err != nil {
				return err
			}
		}
	}
	w.fleet.start()
	w.gate.start()
	return w.fleet.awaitReady(ctx, w.ReadyHosts)
}

// halt stops what runs, the last one first, and takes the cables away.
func (w *town) halt() error {
	var err error
	if w.gate != nil {
		w.gate.halt()
	}
	all := w.services()
	for i := len(all) - 1; i >= 0; i-- {
		if i == natsNodes-1 && w.fleet != nil { // hosts write until their end
			err = w.fleet.halt()
		}
		all[i].halt()
	}
	err = errors.Join(err, w.lingered())
	for _, paths := range []map[string][]*cable{w.nats, w.openpaths, w.allocator} {
		for _, cables := range paths {
			for _, c := range cables {
				c.close()
			}
		}
	}
	return err
}

// lingered is an error if a process had to be killed because it did not stop.
func (w *town) lingered() error {
	var errs []error
	for _, s := range w.services() {
		for _, end := range s.crashed() {
			if strings.Contains(end, tooSlow) {
				errs = append(errs, fmt.Errorf("%s %s", s.name, end))
			}
		}
	}
	// The fleet's own word for it; there is no other way to learn it.
	if log, err := os.ReadFile(filepath.Join(w.folder, "logs", "agones.log")); err == nil && strings.Contains(string(log), "outlived its grace") {
		errs = append(errs, errors.New("a host outlived its grace: see agones.log"))
	}
	return errors.Join(errs...)
}

// token signs a player's token, as the game's login does.
func (w *town) token(player guildhall.PlayerID, group guildhall.Group) (string, error) {
	return pass.SignToken(w.keys.login, pass.Token{Player: player, Groups: []guildhall.Group{group}}, 24*time.Hour)
}
