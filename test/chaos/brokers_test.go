package chaos

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/guildhall-dev/guildhall/internal/brokerlocal"
)

// natsNodes is how many nodes the cluster has: one may be lost.
const natsNodes = 3

// brokers is the cluster of NATS, each node a process.
type brokers struct {
	nodes []*service
	// addresses are where the nodes themselves listen.
	addresses []string
}

func newBrokers(t *town) (*brokers, error) {
	b := &brokers{}
	var routes []int
	for range natsNodes {
		route, err := t.ports.address()
		if err != nil {
			return nil, err
		}
		routes = append(routes, portOf(route))
	}
	for i := range natsNodes {
		name := fmt.Sprintf("nats-%d", i)
		address, err := t.ports.address()
		if err != nil {
			return nil, err
		}
		admin, err := t.ports.address()
		if err != nil {
			return nil, err
		}
		settings, err := json.Marshal(natsSettings{Admin: admin, Broker: brokerlocal.Config{
			Port: portOf(address), Folder: filepath.Join(t.folder, name),
			Cluster: &brokerlocal.Cluster{Node: name, Port: routes[i], Peers: routes},
		}})
		if err != nil {
			return nil, err
		}
		b.addresses = append(b.addresses, address)
		b.nodes = append(b.nodes, newService(t.folder, name, admin, func() (*exec.Cmd, error) {
			return self(roleNATS, settingsVariable+"="+string(settings))
		}))
	}
	return b, nil
}

// lay lays a cable to each node for one process, and gives the URL by which it connects.
func (b *brokers) lay() ([]*cable, string, error) {
	var cables []*cable
	var urls []string
	for _, address := range b.addresses {
		c, err := newCable("127.0.0.1:0", address)
		if err != nil {
			return nil, "", err
		}
		cables = append(cables, c)
		urls = append(urls, "nats://"+c.addr())
	}
	return cables, strings.Join(urls, ","), nil
}

// url connects the test itself, without cables.
func (b *brokers) url() string {
	return "nats://" + strings.Join(b.addresses, ",nats://")
}
