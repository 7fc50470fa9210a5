// Package embedded runs all of Guildhall as one process tree: NATS, the stand-ins for Open Match and Agones, the
// services, and hosts as child processes. It is the production path: each part speaks to the next over a socket,
// and any of them can be replaced by the address of the real thing.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"

	"github.com/guildhall-dev/guildhall/api/guildhall/v1/guildhallv1connect"
	"github.com/guildhall-dev/guildhall/director"
	"github.com/guildhall-dev/guildhall/frontend"
	"github.com/guildhall-dev/guildhall/internal/agoneslocal"
	"github.com/guildhall-dev/guildhall/internal/brokerlocal"
	"github.com/guildhall-dev/guildhall/internal/openmatchlocal"
	"github.com/guildhall-dev/guildhall/internal/process"
	"github.com/guildhall-dev/guildhall/matchfunction"
)

// Stack is all of Guildhall in one process tree.
type Stack struct {
	// Static after construction. What is real somewhere else is nil.
	config        Config
	data          *data
	nats          *brokerlocal.Server
	openmatch     *openmatchlocal.Server
	agones        *agoneslocal.Server
	matchfunction *matchfunction.MatchFunction
	director      *director.Director
	frontend      *frontend.Frontend

	ready chan struct{} // closed when a player can enter
}

// New opens all parts, each with the addresses of those before it. NATS runs from here on, for the services connect
// to it as they open. A failure undoes what was opened.
func New(config Config) (*Stack, error) {
	config.fill()
	if config.hasAgones() && (config.NATS == "" || config.Frontend.PassKeyFile == "") {
		return nil, errors.New("with a real Agones the hosts run elsewhere: they need a NATS that they reach (--nats), " +
			"and the public half of a pass key that is given here (GUILDHALL_PASS_KEY_FILE)")
	}
	s := &Stack{config: config, ready: make(chan struct{})}
	var undo process.Undo
	defer undo.Run()
	for _, open := range []func(*process.Undo) error{
		s.openData, s.openNATS, s.openOpenMatch, s.openAgones, s.openMatchfunction, s.openDirector, s.openFrontend,
	} {
		if err := open(&undo); err != nil {
			return nil, err
		}
	}
	undo.Cancel()
	if !isLoopback(s.frontend.Addr()) {
		config.Logger.Warn("this is a development server: whoever reaches it may be anybody", "listen", s.frontend.Addr())
	}
	return s, nil
}

func (s *Stack) openData(undo *process.Undo) (err error) {
	s.data, err = openData(s.config.Data, s.config.Frontend.PassKeyFile, s.config.Host.PassKeysFile)
	if err == nil {
		undo.Add(s.data.close)
	}
	return err
}

func (s *Stack) openNATS(undo *process.Undo) (err error) {
	if s.config.NATS != "" {
		return nil
	}
	s.nats, err = brokerlocal.Start(brokerlocal.Config{
		Folder: brokerlocal.Folder(s.data.folder), Logger: s.config.Logger.With("service", "nats"),
	})
	if err != nil {
		return err
	}
	undo.Add(func() error { s.nats.Stop(); return nil })
	s.config.NATS = s.nats.URL()
	return nil
}

func (s *Stack) openOpenMatch(undo *process.Undo) (err error) {
	given := 0
	for _, address := range []string{s.config.OpenmatchFrontend, s.config.OpenmatchBackend, s.config.OpenmatchQuery} {
		if address != "" {
			given++
		}
	}
	switch given {
	case 3:
		return nil
	case 1, 2:
		return errors.New("a real Open Match needs all three addresses: --openmatch-frontend, --openmatch-backend and --openmatch-query")
	}
	s.openmatch, err = openmatchlocal.New(openmatchlocal.Config{
		OrphanTimeout: orphanTimeout, Logger: s.config.Logger.With("service", "openmatch"), Metrics: s.config.Director.Metrics,
	})
	if err != nil {
		return err
	}
	undo.Add(s.openmatch.Close)
	s.config.OpenmatchFrontend = s.openmatch.FrontendAddr()
	s.config.OpenmatchBackend = s.openmatch.BackendAddr()
	s.config.OpenmatchQuery = s.openmatch.QueryAddr()
	return nil
}

func (s *Stack) openMatchfunction(undo *process.Undo) (err error) {
	c := s.config.Matchfunction
	c.AdminListen, c.OpenmatchQuery, c.Reflection = anyPort, s.config.OpenmatchQuery, true
	c.Listen = anyPort
	if s.config.MatchfunctionAdvertise != "" {
		if c.Listen, err = listenFor(s.config.MatchfunctionAdvertise); err != nil {
			return err
		}
	}
	if s.matchfunction, err = matchfunction.New(c); err != nil {
		return err
	}
	undo.Add(s.matchfunction.Close)
	if s.config.MatchfunctionAdvertise == "" {
		s.config.MatchfunctionAdvertise = s.matchfunction.Addr()
	}
	return nil
}

func (s *Stack) openDirector(undo *process.Undo) (err error) {
	c := s.config.Director
	c.AdminListen, c.Listen, c.NATS = anyPort, anyPort, s.config.NATS
	c.OpenmatchFrontend, c.OpenmatchBackend = s.config.OpenmatchFrontend, s.config.OpenmatchBackend
	c.MatchfunctionAdvertise, c.AgonesAllocator = s.config.MatchfunctionAdvertise, s.config.AgonesAllocator
	if s.director, err = director.New(c); err != nil {
		return err
	}
	undo.Add(s.director.Close)
	return nil
}

func (s *Stack) openFrontend(undo *process.Undo) (err error) {
	c := s.config.Frontend
	c.AdminListen, c.Listen, c.GRPCListen, c.NATS = anyPort, s.config.Listen, s.config.GRPCListen, s.config.NATS
	c.OpenmatchFrontend, c.PassKeyFile, c.Development = s.config.OpenmatchFrontend, s.data.passKey, true
	c.Mounts = map[string]http.Handler{
		"/" + guildhallv1connect.OperatorServiceName + "/": proxy(s.director.Addr()),
		targetsPath: http.HandlerFunc(s.serveTargets),
	}
	if s.frontend, err = frontend.New(c); err != nil {
		return err
	}
	undo.Add(s.frontend.Close)
	return nil
}

// proxy shows a part's HTTP handlers on the one address.
func proxy(address string) http.Handler {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true) // gRPC needs it
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: address})
	forward.Transport = transport
	return forward
}

// URL gives the address that players call.
func (s *Stack) URL() string { return "http://" + s.frontend.Addr() }

// GRPCAddr gives the address, host:port, that players call by gRPC alone.
func (s *Stack) GRPCAddr() string { return s.frontend.GRPCAddr() }

// Parts lists what runs here and where it listens, in the order of the ticket's path.
func (s *Stack) Parts() []Part {
	parts := []Part{
		{"frontend", s.frontend.Addr(), s.frontend.AdminAddr()},
		{"frontend, gRPC alone", s.frontend.GRPCAddr(), ""},
		{"matchfunction", s.matchfunction.Addr(), s.matchfunction.AdminAddr()},
		{"director", s.director.Addr(), s.director.AdminAddr()},
	}
	if s.openmatch != nil {
		parts = append(parts,
			Part{"openmatch frontend", s.openmatch.FrontendAddr(), ""},
			Part{"openmatch backend", s.openmatch.BackendAddr(), ""},
			Part{"openmatch query", s.openmatch.QueryAddr(), ""})
	}
	if s.agones != nil {
		parts = append(parts, Part{"agones allocator", s.agones.AllocatorAddr(), ""})
	}
	if s.nats != nil {
		parts = append(parts, Part{"nats", s.nats.URL(), ""})
	}
	return parts
}

// Part is something that listens.
type Part struct {
	Name string
	// Address is where it is called, Admin where /livez, /readyz and /metrics are; Admin may be empty.
	Address, Admin string
}

// Ready gives a channel that is closed once a player can enter.
func (s *Stack) Ready() <-chan struct{} { return s.ready }

// Run runs all parts until ctx ends, and stops them in reverse: no new players, no new matches, then the hosts move
// or end their rooms, and NATS, in which all of it is written, goes last.
func (s *Stack) Run(ctx context.Context) error {
	parts := []process.Service{}
	if s.nats != nil {
		parts = append(parts, s.nats)
	}
	if s.openmatch != nil {
		parts = append(parts, s.openmatch)
	}
	if s.agones != nil {
		parts = append(parts, s.agones)
	}
	parts = append(parts, s.matchfunction, s.director, s.frontend, process.Func(s.becomeReady))
	err := process.RunAll(ctx, parts...)
	return errors.Join(err, s.data.close())
}

// becomeReady waits until every part takes work.
func (s *Stack) becomeReady(ctx context.Context) error {
	for _, started := range []<-chan struct{}{s.matchfunction.Started(), s.director.Started(), s.frontend.Started()} {
		select {
		case <-started:
		case <-ctx.Done():
			return nil
		}
	}
	if s.agones != nil {
		if err := s.agones.Wait(ctx, hasHost); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("waiting for a host: %w", err)
		}
	}
	close(s.ready)
	<-ctx.Done()
	return nil
}

// KillHosts ends every host at once. It is for a process that is about to exit without a stop.
func (s *Stack) KillHosts() {
	if s.agones != nil {
		s.agones.KillAll()
	}
	_ = os.RemoveAll(s.data.temporary)
}
