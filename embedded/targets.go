package embedded

import (
	"encoding/json"
	"net"
	"net/http"
	"strconv"

	"github.com/guildhall-dev/guildhall/internal/agoneslocal"
)

// targetsPath is where Prometheus is told what there is to scrape: its HTTP service discovery. Hosts come and go, each with
// an admin port of its own.
const targetsPath = "/metrics/targets"

// targetNamespace stands for the namespace that the services would have on Kubernetes.
const targetNamespace = "guildhall"

// target is one admin port, with the labels that it would have on Kubernetes.
type target struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

func newTarget(address, component, pod string) target {
	return target{Targets: []string{address}, Labels: map[string]string{
		"namespace": targetNamespace, "pod": pod, "app_kubernetes_io_component": component,
	}}
}

// targets lists every admin port here, also those of hosts that are ready.
func (s *Stack) targets() []target {
	targets := []target{}
	for _, part := range s.Parts() {
		if part.Admin != "" {
			targets = append(targets, newTarget(part.Admin, part.Name, part.Name))
		}
	}
	if s.agones == nil {
		return targets // hosts run elsewhere
	}
	for _, server := range s.agones.GameServers() {
		if !hasHost([]agoneslocal.GameServer{server}) {
			continue // it is on its way in or out
		}
		address := net.JoinHostPort(server.Address, strconv.Itoa(server.Ports[adminPort]))
		targets = append(targets, newTarget(address, "roomserver", server.Name))
	}
	return targets
}

func (s *Stack) serveTargets(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(s.targets()) // who does not wait for the answer does not get it
}
