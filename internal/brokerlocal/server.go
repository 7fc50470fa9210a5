// Package brokerlocal runs a NATS server with JetStream inside this process: what a cluster is to an
// installation on Kubernetes, to `guildhall up` and to the tests.
package brokerlocal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Config says where the server listens and keeps its files.
type Config struct {
	// Port on the loopback interface; 0 takes a free one.
	Port int
	// Folder for JetStream's files.
	Folder string
	// Cluster makes the server one node of several; nil means that it is alone.
	Cluster *Cluster
	// Logger for what the server has to say; nil means nowhere.
	Logger *slog.Logger
}

// Cluster is one node's place in a cluster of NATS servers, all on the loopback interface.
type Cluster struct {
	// Node is the node's name, which no other has and which it keeps over restarts.
	Node string
	// Port is where the node listens to the others.
	Port int
	// Peers are the ports of all nodes, this one's included.
	Peers []int
}

// Server is a NATS server in this process.
type Server struct {
	nats *server.Server
}

// startWithin bounds how long the server may take to accept connections; it takes about 30 ms.
const startWithin = time.Minute

// Start starts a server and waits until it accepts connections.
func Start(config Config) (*Server, error) {
	if err := checkFolder(config.Folder); err != nil {
		return nil, err
	}
	if err := checkPort(config.Port); err != nil {
		return nil, err
	}
	port := config.Port
	if port == 0 {
		port = server.RANDOM_PORT
	}
	options := &server.Options{
		ServerName: "guildhall",
		Host:       "127.0.0.1",
		Port:       port,
		JetStream:  true,
		StoreDir:   config.Folder,
		NoSigs:     true,
		// JetStream's own default is a share of the machine's memory and disk; a laptop wants neither.
		JetStreamMaxMemory: 256 << 20,
		JetStreamMaxStore:  16 << 30,
	}
	if config.Cluster != nil {
		config.Cluster.apply(options)
	}
	nats, err := server.NewServer(options)
	if err != nil {
		return nil, fmt.Errorf("NATS: %w", err)
	}
	logger := config.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	nats.SetLoggerV2(adapter{logger}, false, false, false)
	nats.Start()
	if !nats.ReadyForConnections(startWithin) {
		nats.Shutdown()
		return nil, errors.New("NATS did not start; its log says why")
	}
	return &Server{nats: nats}, nil
}

// apply makes a server a node.
func (c *Cluster) apply(options *server.Options) {
	options.ServerName = c.Node
	options.Cluster = server.ClusterOpts{
		Name: "guildhall", Host: "127.0.0.1", Port: c.Port,
		NoAdvertise: true, // clients call the nodes that they are told, also where those are behind something else
	}
	for _, port := range c.Peers {
		options.Routes = append(options.Routes, &url.URL{Scheme: "nats", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))})
	}
}

// checkFolder finds out before the server does, which would only log it, whether the folder can be used.
func checkFolder(folder string) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("data folder %s: %w", folder, err)
	}
	probe, err := os.CreateTemp(folder, ".probe-*")
	if err != nil {
		return fmt.Errorf("data folder %s: cannot write there: %w", folder, err)
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// checkPort finds out before the server does, which would only log it, whether the port is free.
func checkPort(port int) error {
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return fmt.Errorf("NATS: %w", err)
	}
	return listener.Close()
}

// URL gives the address that clients connect to.
func (s *Server) URL() string { return s.nats.ClientURL() }

// Run waits until ctx ends and shuts the server down.
func (s *Server) Run(ctx context.Context) error {
	<-ctx.Done()
	s.Stop()
	return nil
}

// Stop shuts the server down and waits until its files are written.
func (s *Server) Stop() {
	s.nats.Shutdown()
	s.nats.WaitForShutdown()
}

// adapter gives the server's log lines to slog.
type adapter struct{ logger *slog.Logger }

func (a adapter) Noticef(format string, v ...any) { a.logger.Debug(fmt.Sprintf(format, v...)) }
func (a adapter) Warnf(format string, v ...any)   { a.logger.Warn(fmt.Sprintf(format, v...)) }
func (a adapter) Fatalf(format string, v ...any)  { a.logger.Error(fmt.Sprintf(format, v...)) }
func (a adapter) Errorf(format string, v ...any)  { a.logger.Error(fmt.Sprintf(format, v...)) }
func (a adapter) Debugf(format string, v ...any)  { a.logger.Debug(fmt.Sprintf(format, v...)) }
func (a adapter) Tracef(format string, v ...any)  { a.logger.Debug(fmt.Sprintf(format, v...)) }

var _ server.Logger = adapter{}

// Folder gives the folder for JetStream inside a data folder.
func Folder(data string) string { return filepath.Join(data, "nats") }
